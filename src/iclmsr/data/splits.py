# SPDX-License-Identifier: Apache-2.0
"""Every image and mask of a split, looked at once."""

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple, TypeVar

import numpy as np
from rich.console import Console
from rich.progress import track

from iclmsr.data.decode import FaintMask, Unusable, careful, decode_mask, open_image
from iclmsr.data.draw import Draw
from iclmsr.data.folder import mask_name
from iclmsr.data.found import Files
from iclmsr.data.hugging_face import Columns
from iclmsr.data.images import ImageSet
from iclmsr.data.threads import in_threads
from iclmsr.data.trees import Content, Tree

Size = tuple[int, int]
Item = TypeVar("Item")


@dataclass
class Masks:
    """The masks of a split's images.

    Attributes:
        shares: Of each mask, the share of foreground in [0, 1] as the encoder sees it, by image.
        unusable: Why an image's mask cannot be used, by image.
    """

    shares: dict[str, float] = field(default_factory=dict)
    unusable: dict[str, str] = field(default_factory=dict)


@dataclass
class Split:
    """The images of a split, by name: their path, or split and number where they have no file.

    Attributes:
        labels: Each image's class, "" where it has none.
        classes: All class names, also those without images.
        tree: Where the files are, if the images have files.
        digests: Of the pixels of each image that decodes.
        corrupt: Why an image does not.
        sizes: Images of each width and height.
        formats: Files of each format; empty where images have no files.
        modes: Files of each mode of pixels; the same.
        masks: None where there are none to look at.
    """

    labels: dict[str, str]
    classes: tuple[str, ...]
    tree: Tree | None = None
    digests: dict[str, bytes] = field(default_factory=dict)
    corrupt: dict[str, str] = field(default_factory=dict)
    sizes: Counter[Size] = field(default_factory=Counter)
    formats: Counter[str] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
    masks: Masks | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def counts(self) -> dict[str, int]:
        """Images of each class, in the order of the classes; those without one at the end."""
        found = Counter(self.labels.values())
        names = (*self.classes, "") if found[""] else self.classes
        return {name: found[name] for name in names}

    @property
    def unmasked(self) -> dict[str, str]:
        """Why an image's mask cannot be used, by image."""
        return {} if self.masks is None else self.masks.unusable

    def usable(self) -> list[str]:
        """Images that decode and have the mask that they should have."""
        return [name for name in self.digests if name not in self.unmasked]


class _Seen(NamedTuple):
    """What is kept of an image file."""

    format: str
    mode: str
    size: Size
    digest: bytes


def split_of_images(images: ImageSet, name: str) -> Split:
    """Looks at a split in memory.

    Args:
        images: All of them.
        name: The split's, for messages.
    """
    labels = [images.classes[label] if label >= 0 else "" for label in images.labels.tolist()]
    names = [f"{name} image {index}" for index in range(len(images))]
    split = Split(dict(zip(names, labels, strict=True)), images.classes)
    height, width = images.images.shape[2:]
    split.sizes[width, height] = len(images)
    for image, pixels in zip(names, images.images.numpy(), strict=True):
        array = np.ascontiguousarray(pixels.transpose(1, 2, 0))
        split.digests[image] = _digest((width, height), array.tobytes())
    if images.masks is not None:
        shares = images.masks.flatten(1).float().mean(1).tolist()
        split.masks = Masks(dict(zip(names, shares, strict=True)))
    return split


def split_of_files(
    files: Files | Columns, name: str, draw: Draw, *, image_size: int, workers: int
) -> Split:
    """Looks at a split of files.

    Args:
        files: The data set.
        name: The split's, as the data set calls it.
        draw: Which of the images.
        image_size: Height and width that masks are resized to, pixels, > 0.
        workers: Threads that decode, >= 1.

    Raises:
        IclmsrError: There is no such split, or an archive is damaged.
    """
    listing, masks = files.listing(name), files.masks_of(name)
    chosen = draw.indices(len(listing.files))
    labels = [listing.labels[index] for index in chosen]
    names = [listing.files[index] for index in chosen]
    kinds = [listing.classes[label] if label >= 0 else "" for label in labels]
    split = Split(dict(zip(names, kinds, strict=True)), listing.classes, listing.tree)
    sizes: dict[str, Size] = {}
    with careful(FaintMask):
        contents = in_threads(_look, listing.tree.contents(names), workers)
        for image, seen in _shown(contents, f"{name} images", len(names)):
            if isinstance(seen, str):
                split.corrupt[image] = seen
                continue
            sizes[image], split.digests[image] = seen.size, seen.digest
            split.formats[seen.format] += 1
            split.modes[seen.mode] += 1
            split.sizes[seen.size] += 1
        if masks is not None:
            split.masks = _look_at_masks(masks, sizes, name, image_size)
    return split


def _look(file: tuple[str, Content]) -> tuple[str, _Seen | str]:
    """An image file, or why it cannot be used."""
    try:
        picture = open_image(file[1])
    except Unusable as error:
        return file[0], str(error)
    image = picture.image
    digest = _digest(image.size, image.tobytes())
    return file[0], _Seen(picture.format, picture.mode, image.size, digest)


def _look_at_masks(tree: Tree, sizes: dict[str, Size], name: str, image_size: int) -> Masks:
    """The masks of the images that have a size."""
    masks, wanted = Masks(), dict[str, list[str]]()
    for image in sizes:
        wanted.setdefault(mask_name(image), []).append(image)
    names = list(wanted)
    missing = ((mask, FileNotFoundError()) for mask in names)
    contents = chain[tuple[str, Content]](tree.contents(names), missing)
    for mask, content in _shown(contents, f"{name} masks", 2 * len(names)):
        for image in wanted.pop(mask, []):
            try:
                found = decode_mask(content, tree.where(mask), image_size, sizes[image])
            except Unusable as error:
                masks.unusable[image] = str(error)
            else:
                masks.shares[image] = float(found.mean())
    return masks


def _digest(size: Size, pixels: bytes) -> bytes:
    """Of an image's RGB pixels."""
    return hashlib.sha256(f"{size} ".encode() + pixels).digest()


def _shown(items: Iterable[Item], what: str, total: int) -> Iterable[Item]:
    """The items, with a bar on a terminal."""
    console = Console(stderr=True)
    return track(
        items, what, total, console=console, transient=True, disable=not console.is_terminal
    )
