# SPDX-License-Identifier: Apache-2.0
"""Images in memory as files ``SPLIT/CLASS/NAME.png``, and masks alike in ``masks/``."""

import csv
import io
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from iclmsr.data.backgrounds import BACKGROUNDS, HEADER
from iclmsr.data.images import ImageSet
from iclmsr.data.listing import MASKS
from iclmsr.errors import IclmsrError


def kinds_of(images: ImageSet, split: str) -> list[str]:
    """The class of every image, fit to be a folder's name.

    Args:
        images: With classes.
        split: What they are, for messages.

    Raises:
        IclmsrError: An image has no label, or a class that has images cannot be called so on disk.
    """
    missing = int((images.labels < 0).sum())
    if missing:
        raise IclmsrError(
            f"{missing:,} of {len(images):,} {split} images have no label: label them, or pass "
            "--data.no-labels to take all of them without classes"
        )
    kinds = [images.classes[label] for label in images.labels.tolist()]
    for kind in sorted(set(kinds)):
        if not kind or kind.startswith(".") or not {"/", "\\", "\0"}.isdisjoint(kind):
            raise IclmsrError(
                f"class {kind!r} cannot be the name of a folder: rename it (not empty, no dot "
                "first, no slash), or name the other classes in a --data.class-list"
            )
    return kinds


def numbered(images: ImageSet, split: str) -> list[str]:
    """``CLASS/NUMBER.png`` of every image in its order; without a class where the set has none.

    Args:
        images: The images.
        split: What they are, for messages.

    Raises:
        IclmsrError: As :func:`kinds_of`.
    """
    names = [f"{number:06d}.png" for number in range(len(images))]
    if not images.classes:
        return names
    return [f"{kind}/{name}" for kind, name in zip(kinds_of(images, split), names, strict=True)]


def write_split(
    folder: Path, split: str, images: ImageSet, names: Sequence[str]
) -> Iterator[tuple[str, str]]:
    """Writes images, and their masks if there are any; classes without images get no folder.

    Args:
        folder: Where ``SPLIT/`` and ``masks/SPLIT/`` go.
        split: The split, which is not there yet.
        images: Its images.
        names: What they are called in it, as CLASS/NAME.png or NAME.png.

    Yields:
        The path and the background of each image whose background is known.

    Raises:
        IclmsrError: Two classes would be one folder on this disk.
        OSError: A file cannot be written.
    """
    _make_folders(folder / split, images)
    pixels = images.images.permute(0, 2, 3, 1).numpy()
    masks = None if images.masks is None else images.masks.byte().mul(255).numpy()
    for number, name in enumerate(names):
        _png(folder / split / name, pixels[number])
        if masks is not None:
            _png(folder / MASKS / split / name, masks[number])
        if images.backgrounds is not None:
            known = int(images.backgrounds[number])
            called = images.background_names
            yield f"{split}/{name}", called[known] if called else f"{known:04d}"


def write_backgrounds(folder: Path, rows: Collection[tuple[str, str]]) -> None:
    """Writes ``backgrounds.csv``, or nothing where there are no rows.

    Args:
        folder: Where the splits are.
        rows: The path of each image from there, and its background.
    """
    if rows:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows([HEADER, *sorted(rows)])
        content = text.getvalue().encode("utf-8", "surrogateescape")
        (folder / BACKGROUNDS).write_bytes(content)


def _make_folders(place: Path, images: ImageSet) -> None:
    """A folder for each class that has images; raises where a disk takes two names for one."""
    for label in sorted(set(images.labels.tolist())) if images.classes else ():
        kind = images.classes[label]
        try:
            (place / kind).mkdir(parents=True)
        except FileExistsError:
            raise IclmsrError(
                f"class {kind!r} would be in one folder with another class: rename one"
            ) from None


def _png(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Writes one image, or one mask."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(pixels)).save(path, "PNG")
