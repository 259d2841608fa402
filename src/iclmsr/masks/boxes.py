# SPDX-License-Identifier: Apache-2.0
"""Boxes around objects, from a CSV file."""

import csv
from collections.abc import Collection
from pathlib import Path

from iclmsr.data.classes import shown
from iclmsr.data.decode import Unusable
from iclmsr.data.kinds import kind_by_name
from iclmsr.data.names import excerpt, printable
from iclmsr.errors import IclmsrError
from iclmsr.masks.makers import Box

TINY_TRAIN, TINY_VAL = "train/*/*_boxes.txt", "val/val_annotations.txt"


def read_boxes(path: Path, names: Collection[str], where: str) -> dict[str, Box]:
    """The boxes of some images.

    Args:
        path: A CSV file of ``path,x0,y0,x1,y1`` in pixels of the upright image, from its left and
            top; x1 and y1 are the first ones outside. A first line without numbers is a header,
            unless it names an image.
            Or the unpacked folder of Tiny ImageNet, which has boxes of its own.
        names: The images' paths.
        where: The folder that they begin in, for messages.

    Raises:
        IclmsrError: The file cannot be read, is an archive, or names an image twice or one that
            is not there.
    """
    if path.is_dir():
        return _read_tiny_boxes(path, names)
    if kind_by_name(path):
        raise IclmsrError(
            f"--boxes {printable(path)} is an archive: unpack it and name the folder of Tiny "
            "ImageNet, or a CSV file of path,x0,y0,x1,y1"
        )
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            rows = [(row, line) for line, row in enumerate(csv.reader(file), 1) if row]
    except (OSError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise IclmsrError(f"cannot read --boxes {printable(path)}: {reason}") from error
    boxes: dict[str, Box] = {}
    there = set(names)
    for index, (row, line) in enumerate(rows):
        try:
            name, *numbers = row
            left, top, right, bottom = (round(float(number)) for number in numbers)
        except (ValueError, OverflowError):
            if index == 0 and len(row) == 5 and name not in there:
                continue
            raise IclmsrError(
                f"--boxes {printable(path)}, line {line}: expected path,x0,y0,x1,y1, got "
                f"{excerpt(','.join(row))!r}"
            ) from None
        if name in boxes:
            raise IclmsrError(
                f"--boxes {printable(path)}, line {line}: a second box for {printable(name)}: "
                "leave one, around the whole foreground"
            )
        boxes[name] = (left, top, right, bottom)
    unknown = boxes.keys() - there
    if unknown or not boxes:
        what = f"images that are not in {where}: {shown(unknown)}" if unknown else "no images"
        raise IclmsrError(f"--boxes {printable(path)} names {what}")
    return boxes


def _read_tiny_boxes(folder: Path, names: Collection[str]) -> dict[str, Box]:
    """Those that Tiny ImageNet's authors hand out, of the images that are there."""
    files = sorted([*folder.glob(TINY_TRAIN), *folder.glob(TINY_VAL)])
    if not files:
        raise IclmsrError(
            f"--boxes {printable(folder)} has neither {TINY_TRAIN} nor {TINY_VAL}: name the folder "
            "of Tiny ImageNet, or a CSV file of path,x0,y0,x1,y1"
        )
    boxes: dict[str, Box] = {}
    for file in files:
        start = f"{file.parent.relative_to(folder).as_posix()}/images/"
        for number, line in enumerate(file.read_text("utf-8", "replace").splitlines(), 1):
            name, *fields = line.split("\t")
            try:
                left, top, right, bottom = map(int, fields[-4:])
            except ValueError:
                raise IclmsrError(
                    f"--boxes {printable(file)}, line {number}: expected a file's name and its box "
                    f"with tabs between, got '{excerpt(line)}'"
                ) from None
            boxes[start + name] = (left, top, right + 1, bottom + 1)  # theirs are the last inside
    there = set(names)
    return {name: box for name, box in boxes.items() if name in there}


def check_box(box: Box, width: int, height: int) -> None:
    """Raises :class:`Unusable` unless a box is a part of an image of so many pixels."""
    left, top, right, bottom = box
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise Unusable(f"has a box {box} that is empty or leaves its {width} x {height} pixels")
