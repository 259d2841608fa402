# SPDX-License-Identifier: Apache-2.0
"""A set of images left in their files, and which sets are."""

import copy
import hashlib
import os
import warnings
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from iclmsr.data.decoded import Decoded, Task, Unreadable, decode, finish
from iclmsr.data.draw import Draw
from iclmsr.data.folder import mask_name
from iclmsr.data.jpeg import Decoder
from iclmsr.data.listing import Listing
from iclmsr.data.resize import centre_pixels
from iclmsr.data.shard_order import shard_order
from iclmsr.data.shards import ShardTree
from iclmsr.data.single import Missing, Reader
from iclmsr.data.trees import Tree

MEMORY_SHARE = 1 / 4
"""A set that takes more of the machine's memory than this stays in its files, unless told."""
SHARDS_MIXED = 8
"""Shards from a URL whose images a rank mixes with each other."""
FINGERPRINT = "files-"
"""How the fingerprint of a set in files begins."""
LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


class FileSet:
    """Images left in their files, and decoded whenever they are asked for.

    A file that does not decode is known only when it is read. With ``on_corrupt`` "skip" the next
    one in order that does takes its place from then on; the same one in every run, and N stays.

    Args:
        listing: The files.
        image_size: S, height and width that images are decoded to, pixels, > 0.
        on_corrupt: What to do about an image that does not decode: raise, or take another one.
        draw: Which of the images.
        masks: Masks under the images' own paths, but with ``.png`` at the end; an image without
            its mask counts as one that does not decode.
        decoder: Of JPEGs.

    Attributes:
        image_size: S.
        labels: (N,) int64 in [0, C), or -1 where there is none.
        classes: The C class names, in the order of the labels.
        instead: For each image found not to decode, the one that takes its place.

    Raises:
        IclmsrError: Files cannot be read singly (a compressed tar archive), or are too few.
    """

    def __init__(
        self,
        listing: Listing,
        *,
        image_size: int,
        on_corrupt: Literal["error", "skip"],
        draw: Draw,
        masks: Tree | None = None,
        decoder: Decoder = "pillow",
    ) -> None:
        chosen = draw.indices(len(listing.files))
        self.tree, self.files = listing.tree, [listing.files[index] for index in chosen]
        self.labels = torch.tensor([listing.labels[index] for index in chosen])
        self.classes, self.image_size = listing.classes, image_size
        self.masks, self.decoder = masks, decoder
        self.strict = on_corrupt == "error"
        self.instead: dict[int, int] = {}
        self.resize: int | None = None
        self.crop: int | None = None
        self._fingerprint = ""
        self._task(0)  # to complain at once

    def __len__(self) -> int:
        return len(self.files)

    @property
    def skipped(self) -> tuple[str, ...]:
        """Files found not to decode so far."""
        return tuple(self.tree.where(self.files[index]) for index in sorted(self.instead))

    def fingerprint(self) -> str:
        """SHA-256 of the files' names, sizes in bytes and labels, and of S; not of the pixels.

        With another decoder than Pillow, also of its name.
        """
        if not self._fingerprint:
            digest = hashlib.sha256(str(self.image_size).encode())
            for name in self.files:
                size = self.tree.reader(name).size
                digest.update(f"\0{name}\0{size}".encode("utf-8", "surrogateescape"))
            digest.update(self.labels.numpy().data)
            digest.update(b"" if self.decoder == "pillow" else self.decoder.encode())
            self._fingerprint = FINGERPRINT + digest.hexdigest()
        return self._fingerprint

    def mask_fingerprint(self) -> str:
        """SHA-256 of the sizes of the masks' files, in bytes."""
        sizes = [self._mask(name)[0].size for name in self.files]
        return hashlib.sha256(repr(sizes).encode()).hexdigest()

    def layout(self) -> str:
        """SHA-256 of the shards that :meth:`order` follows from; empty if it follows from none."""
        shards = self._shards()
        return "" if shards is None else hashlib.sha256(shards.numpy().data).hexdigest()

    def order(self, generator: torch.Generator, *, ranks: int = 1, batch_size: int = 1) -> Tensor:
        """A random order of all images, (N,).

        Over shards from a URL one in which each rank needs few of them at a time, and only its own
        share: see :func:`iclmsr.data.shard_order.shard_order`.

        Args:
            generator: Of the epoch; the order follows from its seed, and over shards from a URL
                from the other two.
            ranks: Among whom shards from a URL are shared out, >= 1.
            batch_size: B, a multiple of ``ranks``.
        """
        shards = self._shards()
        if shards is not None:
            among = {"ranks": ranks, "batch_size": batch_size}
            return shard_order(shards, window=SHARDS_MIXED, generator=generator, **among)
        return torch.randperm(len(self), generator=generator)

    def centred(self, *, resize: int | None, crop: int | None) -> "FileSet":
        """The same images as evaluation sees them, see :func:`iclmsr.data.resize.centre_view`."""
        images = copy.copy(self)
        images.resize, images.crop = resize, crop
        return images

    def view(self, images: Tensor) -> Tensor:
        """Decoded images (B, 3, S, S) as they are seen; the same unless ``centred``."""
        return centre_pixels(images, self.resize, self.crop)

    def tasks(self, index: Tensor) -> list[Task]:
        """How to decode the images at ``index`` (B,), or those in their places."""
        return [self._task(self.instead.get(place, place)) for place in index.tolist()]

    def mended(self, decoded: Decoded, index: Tensor, device: torch.device) -> Tensor:
        """The decoded planes of the images at ``index`` (B,), with others for those that failed.

        Args:
            decoded: Of :func:`iclmsr.data.decoded.decode`.
            index: (B,) places in the set.
            device: Where they are needed.

        Returns:
            (B, P, S, S) uint8, on a GPU only if that decoded some of them.

        Raises:
            Unreadable: One failed, and no other may or can take its place.
        """
        decoded = finish(decoded, device)
        for row, why in decoded.failed.items():
            decoded.planes[row] = self._other(int(index[row]), why, device)
        return decoded.planes

    def _shards(self) -> Tensor | None:
        """The shard that each image is in, (N,) int64, if they come from a URL."""
        if isinstance(self.tree, ShardTree) and self.tree.remote:
            return self.tree.shards_of(self.files)
        return None

    def _task(self, place: int) -> Task:
        """How to decode one image."""
        name = self.files[place]
        mask = (None, "") if self.masks is None else self._mask(name)
        return Task(self.tree.reader(name), *mask)

    def _mask(self, image: str) -> tuple[Reader, str]:
        """The file of an image's mask, and what to call it."""
        assert self.masks is not None, "there are masks"
        name = mask_name(image)
        try:
            return self.masks.reader(name), self.masks.where(name)
        except (FileNotFoundError, KeyError):  # of shards, of an archive
            return Missing(), self.masks.where(name)

    def _other(self, place: int, why: str, device: torch.device) -> Tensor:
        """The planes for an image that did not decode: its own, if its copy was to blame."""
        failed = self.instead.get(place, place)
        planes = self._again(failed, device)
        if planes is not None:
            return planes
        where = self.tree.where(self.files[failed])
        if self.strict:
            raise Unreadable(
                f"{where} {why}: mend it, or pass --data.on-corrupt skip to take the next image "
                "in its place; `iclmsr data check` finds all such files",
                "--data.on-corrupt skip",
            )
        for step in range(1, len(self)):
            other = (place + step) % len(self)
            if other in self.instead:
                continue
            decoded = finish(decode([self._task(other)], self.image_size, self.decoder), device)
            planes = self._again(other, device) if decoded.failed else decoded.planes[0]
            if planes is not None:
                self.instead[place] = other
                warnings.warn(
                    f"{where} {why}: {self.tree.where(self.files[other])} takes its place",
                    stacklevel=2,
                )
                return planes
        raise Unreadable(f"not one image in {self.tree.where('')} decodes: {where} {why}")

    def _again(self, place: int, device: torch.device) -> Tensor | None:
        """The planes of one image by a copy that is not damaged; None if there are none."""
        name = self.files[place]
        mended = self.tree.mend(name)
        if self.masks is not None:
            mended |= self.masks.mend(mask_name(name))
        if not mended:
            return None
        decoded = finish(decode([self._task(place)], self.image_size, self.decoder), device)
        return None if decoded.failed else decoded.planes[0]


def stays_on_disk(resident: Literal["auto", "memory", "disk"], size: int) -> bool:
    """Whether a set of images stays in its files.

    Args:
        resident: What was asked for; auto leaves a set there that takes more than a quarter of
            the machine's memory, shared by the processes of a run on it.
        size: Of the decoded set, bytes.
    """
    if resident != "auto":
        return resident == "disk"
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return size * processes > MEMORY_SHARE * machine_memory()


def machine_memory() -> int:
    """Bytes of memory that this machine, or the container on it, has."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in map(Path, LIMITS):
        text = path.read_text().strip() if path.exists() else ""
        limits += [int(text)] if text.isdecimal() else []
    return min(limits)
