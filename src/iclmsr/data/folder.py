# SPDX-License-Identifier: Apache-2.0
"""Image files, and their masks, as a set in memory."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import PurePosixPath
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iclmsr.data.decode import FaintMask, Unusable, careful, decode_image, decode_mask
from iclmsr.data.draw import Draw
from iclmsr.data.images import ImageSet
from iclmsr.data.jpeg import Decoder
from iclmsr.data.listing import Listing
from iclmsr.data.trees import Content, Tree
from iclmsr.errors import IclmsrError


def read_images(
    listing: Listing,
    *,
    image_size: int,
    on_corrupt: Literal["error", "skip"],
    draw: Draw,
    masks: Tree | None = None,
    decoder: Decoder = "pillow",
) -> ImageSet:
    """The images of a listing, or some of them, in its order; no others are decoded.

    Args:
        listing: The files.
        image_size: Height and width of the result, pixels, > 0. Images of another size are
            resized by their short side (bicubic, antialiased) and cropped at the centre.
        on_corrupt: What to do about an image that does not decode or lacks its mask: raise, or
            name it in ``skipped`` and draw another one in its place.
        draw: Which of the images.
        masks: Masks under the images' own paths, but with ``.png`` at the end; 0 is background,
            128 and more foreground.
        decoder: Of JPEGs, on the processor.

    Raises:
        IclmsrError: An image or a mask does not decode, too few images are left, or they do not
            fit into memory.
    """
    order = draw.order(len(listing.files))
    count, strict = draw.limit or len(order), on_corrupt == "error"
    files = _Files(listing, masks, count, image_size, strict, decoder)
    row_of: dict[int, int] = {}
    free = list(range(len(files.images)))
    with careful(FaintMask):
        while free and order:
            batch, order = sorted(order[: len(free)]), order[len(free) :]
            rows = dict(zip(batch, free, strict=False))
            files.read(rows)
            row_of |= {index: row for index, row in rows.items() if index not in files.failed}
            free = [row for index, row in rows.items() if index in files.failed]
    _check_classes(listing, files.failed)
    draw.check(len(row_of))
    labels = _in_rows(listing.labels, row_of, len(files.images))
    known = listing.backgrounds
    found = ImageSet(
        torch.from_numpy(files.images),
        labels,
        listing.classes,
        None if files.masks is None else torch.from_numpy(files.masks),
        None if known is None else _in_rows(known.ids, row_of, len(files.images)),
        skipped=tuple(listing.tree.where(listing.files[index]) for index in sorted(files.failed)),
        background_names=() if known is None else known.names,
    )
    kept = [row_of[index] for index in sorted(row_of)]
    in_place = kept == list(range(len(found)))
    return found if in_place else found.take(torch.tensor(kept))


def _in_rows(values: Sequence[int], row_of: Mapping[int, int], count: int) -> Tensor:
    """The values (count,) of the listed files in the rows that they were read into."""
    rows = [-1] * count
    for index, row in row_of.items():
        rows[row] = values[index]
    return torch.tensor(rows)


def mask_name(image: str) -> str:
    """The path of an image's mask.

    >>> mask_name("train/cat/0.jpg")
    'train/cat/0.png'
    """
    return PurePosixPath(image).with_suffix(".png").as_posix()


def _check_classes(listing: Listing, failed: set[int]) -> None:
    """Raises if all images of a class were tried in vain."""
    there, lost = Counter(listing.labels), Counter(listing.labels[index] for index in failed)
    for label, count in sorted(lost.items()):
        if count == there[label] and (label >= 0 or len(there) == 1):
            what = f"class {listing.classes[label]!r} in " if label >= 0 else ""
            raise IclmsrError(
                f"not one image of {what}{listing.tree.where('')} can be used: "
                f"all {count:,} left out"
            )


class _Files:
    """Decodes files into rows of an array.

    Attributes:
        images: (rows, 3, S, S).
        masks: (rows, S, S), or None.
        failed: Indices in the listing of the files that cannot be used.
    """

    def __init__(
        self,
        listing: Listing,
        masks: Tree | None,
        rows: int,
        size: int,
        strict: bool,
        decoder: Decoder,
    ) -> None:
        self.listing, self.tree, self.strict, self.decoder = listing, masks, strict, decoder
        self.failed: set[int] = set()
        try:
            self.images = np.empty((rows, 3, size, size), np.uint8)
            self.masks = None if masks is None else np.empty((rows, size, size), np.bool_)
        except (MemoryError, ValueError) as error:  # the latter of more than can be addressed
            needed = (3 if masks is None else 4) * rows * size**2
            raise IclmsrError(
                f"{listing.tree.where('')}: {rows:,} images of {size} x {size} pixels need "
                f"{needed:,} bytes of memory, more than there is: pass a smaller "
                "--data.image-size, or --data.resident disk to pretrain on them from their files"
            ) from error

    def read(self, rows: dict[int, int], *, again: bool = False) -> None:
        """Reads the files whose indices are the keys into the rows that are the values."""
        # One thread: on CIFAR-10's files two are slower, an image takes less than its hand-over.
        index_of = {self.listing.files[index]: index for index in rows}
        sizes: dict[int, tuple[int, int]] = {}
        for name, content in self.listing.tree.contents(index_of):
            index = index_of[name]
            try:
                pixels, sizes[index] = decode_image(content, self.images.shape[-1], self.decoder)
            except Unusable as error:
                if not again and self.listing.tree.mend(name):
                    self.read({index: rows[index]}, again=True)
                else:
                    self._leave_out(index, error)
            else:
                self.images[rows[index]] = pixels
        if self.tree is not None and self.masks is not None:
            self._read_masks(self.tree, self.masks, rows, sizes, again=again)

    def _read_masks(
        self,
        tree: Tree,
        masks: NDArray[np.bool_],
        rows: dict[int, int],
        sizes: dict[int, tuple[int, int]],
        *,
        again: bool,
    ) -> None:
        """The masks of those images that have a size."""
        wanted: dict[str, list[int]] = {}
        for index in sizes:
            wanted.setdefault(mask_name(self.listing.files[index]), []).append(index)
        missing = ((name, FileNotFoundError()) for name in list(wanted))
        for name, content in chain[tuple[str, Content]](tree.contents(list(wanted)), missing):
            for index in wanted.pop(name, []):
                try:
                    masks[rows[index]] = decode_mask(
                        content, tree.where(name), masks.shape[-1], sizes[index], self.decoder
                    )
                except Unusable as error:
                    if not again and tree.mend(name):
                        self.read({index: rows[index]}, again=True)
                    else:
                        self._leave_out(index, error)

    def _leave_out(self, index: int, error: Unusable) -> None:
        """Notes a file that cannot be used, or raises."""
        if self.strict:
            raise IclmsrError(
                f"{self.listing.tree.where(self.listing.files[index])} {error}: mend it, or "
                "pass --data.on-corrupt skip to leave such files out"
            ) from error
        self.failed.add(index)
