# SPDX-License-Identifier: Apache-2.0
"""STL-10 as its authors hand it out: binary files, packed or unpacked."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import IO, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iclmsr.data.archives import find_official, open_official
from iclmsr.data.classes import check_labels, check_names
from iclmsr.data.draw import Draw
from iclmsr.data.images import ImageSet
from iclmsr.data.official import Official, warn_unless_official
from iclmsr.data.resize import resized
from iclmsr.errors import IclmsrError

STL10 = Official(
    folder="stl10_binary",
    archive="stl10_binary.tar.gz",
    size=2_640_397_119,
    md5="91f7769df0f17e558f3565bffb0c7dfb",
    parts={
        "train": ("train_X.bin", "train_y.bin"),
        "unlabeled": ("unlabeled_X.bin",),
        "test": ("test_X.bin", "test_y.bin"),
    },
)
PLACES = (STL10.folder, STL10.archive)
CLASSES = tuple("airplane bird car cat deer dog horse monkey ship truck".split())  # noqa: SIM905
NAMES, FOLDS = "class_names.txt", "fold_indices.txt"
SIDE = 96
RECORD = 3 * SIDE * SIDE
CHUNK = 1000
COUNTS = {"train_X.bin": 5_000, "unlabeled_X.bin": 100_000, "test_X.bin": 8_000}


def holds_stl10(root: Path) -> bool:
    """Whether :func:`read_stl10` would find something to read at ``root``."""
    return find_official(root, [STL10]) is not None


def read_stl10(
    root: Path, split: Literal["pretrain", "train", "test"], *, image_size: int, draw: Draw
) -> ImageSet:
    """The images of one split in the order of the files, checked on the way.

    Args:
        root: The packed archive, the unpacked folder of files, or the folder that has either.
            The archive is read in memory, never unpacked to disk.
        split: ``"train"`` has the 5,000 labelled images, ``"pretrain"`` these and 100,000
            without labels, ``"test"`` has 8,000.
        image_size: Height and width of the result, pixels, > 0; the files have 96.
        draw: Which images of the split; no others take memory.

    Returns:
        Images (N, 3, image_size, image_size) and their labels, -1 where there is none. Smaller
        sets in the same format are read too, with a warning.

    Raises:
        IclmsrError: Nothing is there, or a file is missing, damaged or not what it should be.

    Source: Coates, Lee and Ng 2011; format of cs.stanford.edu/~acoates/stl10. Departure: none.
    """
    place = _place(root)
    splits = ("train", "unlabeled") if split == "pretrain" else (split,)
    files = list(chain.from_iterable(STL10.parts[name] for name in splits))
    pixels = [name for name in files if name in COUNTS]
    counts = _count(place, files)
    warn_unless_official(
        place, STL10, [(counts[name], COUNTS[name], f"images in {name}") for name in pixels]
    )
    total = sum(counts[name] for name in pixels)
    drawn = np.array(draw.indices(total))
    images = torch.empty(len(drawn), 3, image_size, image_size, dtype=torch.uint8)
    labels = np.full(total, -1)
    classes = CLASSES
    with open_official(place, STL10, {*files, NAMES}) as contents:
        for name, stream in contents:
            if name == NAMES:
                names = stream.read().decode("latin-1").split()
                classes = check_names(names, len(CLASSES), f"{place}/{name}")
            elif name in pixels:
                start = sum(counts[earlier] for earlier in pixels[: pixels.index(name)])
                inside = (drawn >= start) & (drawn < start + counts[name])
                first, rows = int(inside.argmax()), drawn[inside] - start
                _read_rows(stream, rows, images[first : first + len(rows)])
            else:
                found = np.frombuffer(stream.read(), np.uint8).astype(np.int64)
                check_labels(found, 1, len(CLASSES), f"{place}/{name}")
                labels[: len(found)] = found - 1
    return ImageSet(images, torch.from_numpy(labels[drawn]), classes)


def read_folds(root: Path) -> list[Tensor]:
    """The predefined folds of the training images, which the paper's protocol does not use.

    Args:
        root: As for :func:`read_stl10`.

    Returns:
        Of each fold the places (M,) int64 of its images in the split ``"train"``; officially
        ten folds of 1,000.

    Raises:
        IclmsrError: The file is missing, or its lines are not places.

    Source: Coates, Lee and Ng 2011. Departure: none.
    """
    place, labels = _place(root), "train_y.bin"
    with open_official(place, STL10, {FOLDS, labels}) as contents:
        found = {name: stream.read() for name, stream in contents}
    for name in (FOLDS, labels):
        if name not in found:
            raise STL10.missing(place, name)
    try:
        folds = [[int(word) for word in line.split()] for line in found[FOLDS].splitlines()]
    except ValueError as error:
        raise IclmsrError(f"{place}/{FOLDS}: expected lines of integers: {error}") from None
    last = len(found[labels]) - 1
    outside = [one for one in chain.from_iterable(folds) if not 0 <= one <= last]
    if outside or not any(folds):
        raise IclmsrError(
            f"{place}/{FOLDS}: expected lines of places in 0..{last}, found "
            f"{outside[0] if outside else 'none'}"
        )
    return [torch.tensor(fold) for fold in folds if fold]


def _place(root: Path) -> Path:
    """The folder of files or the archive."""
    found = find_official(root, [STL10])
    if found is None:
        raise IclmsrError(f"no STL-10 in {root}: looked for {', '.join(PLACES)}")
    return found[0]


def _count(place: Path, files: Sequence[str]) -> dict[str, int]:
    """How many images or labels each of ``files`` has, by its size; images and labels agree."""
    sizes = {}
    with open_official(place, STL10, files) as contents:
        for name, stream in contents:
            sizes[name] = stream.seek(0, 2)
    counts = {}
    for name in files:
        if name not in sizes:
            raise STL10.missing(place, name)
        counts[name], rest = divmod(sizes[name], RECORD if name in COUNTS else 1)
        if name in COUNTS and (rest or not counts[name]):
            raise IclmsrError(
                f"{place}/{name}: expected a multiple of {RECORD:,} bytes, found {sizes[name]:,}"
            )
        images = name.replace("_y", "_X")
        if counts[name] != counts[images]:
            raise IclmsrError(
                f"{place}/{name}: {counts[name]:,} labels, but {images} has "
                f"{counts[images]:,} images"
            )
    return counts


def _read_rows(stream: IO[bytes], rows: NDArray[np.int64], out: Tensor) -> None:
    """The images at ``rows`` (ascending) of a file, into ``out`` (len(rows), 3, S, S)."""
    done = 0
    for start in range(0, int(rows[-1]) + 1 if len(rows) else 0, CHUNK):
        records = np.frombuffer(stream.read(CHUNK * RECORD), np.uint8).reshape(-1, 3, SIDE, SIDE)
        here = rows[(rows >= start) & (rows < start + CHUNK)] - start
        # The file runs down the columns of a plane.
        chosen = torch.from_numpy(records[here].transpose(0, 1, 3, 2).copy())
        out[done : done + len(here)] = resized(chosen, out.shape[-1])
        done += len(here)
