# SPDX-License-Identifier: Apache-2.0
"""Class names and labels, checked."""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from iclmsr.data.names import printable
from iclmsr.errors import IclmsrError, nearest

SHOWN = 5


def check_names(names: Sequence[str], count: int, where: str) -> tuple[str, ...]:
    """The names.

    Args:
        names: Class names as a file has them.
        count: How many there should be, all different.
        where: The file, for messages.

    Raises:
        IclmsrError: There are more, fewer, or two that are the same.
    """
    if len(set(names)) != count or len(names) != count:
        raise IclmsrError(f"{where}: expected {count} class names, found {len(set(names))}")
    return tuple(names)


def check_labels(labels: NDArray[np.int64], first: int, last: int, where: str) -> None:
    """Raises unless all labels have a class.

    Args:
        labels: (n,) as a file has them.
        first: The smallest label.
        last: The largest one.
        where: The file, for messages.

    Raises:
        IclmsrError: A label is outside [first, last].
    """
    outside = labels[(labels < first) | (labels > last)]
    if len(outside):
        raise IclmsrError(f"{where}: labels must be in {first}..{last}, found {outside[0]}")


def choose(found: Sequence[str], class_list: Path | None, place: str) -> tuple[str, ...]:
    """Those classes that a list names, in the order of ``found``.

    Args:
        found: The classes that are there.
        class_list: A text file with one class a line; where no class is called like the whole
            line, its first word counts. Empty lines and those that begin with # do not. None
            names them all.
        place: Where they were found, for messages.

    Raises:
        IclmsrError: The list cannot be read, is empty or names a class that is not there.
    """
    if class_list is None:
        return tuple(found)
    try:
        text = class_list.read_text(encoding="utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise IclmsrError(f"cannot read data.class-list {class_list}: {error.strerror}") from error
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines:
        raise IclmsrError(f"data.class-list {class_list} names no class: write one a line")
    wanted = {line if line in found else line.split()[0] for line in lines}
    unknown = wanted.difference(found)
    if unknown:
        advice = nearest(min(unknown), map(printable, found), most=SHOWN)
        raise IclmsrError(
            f"data.class-list {class_list} names classes, one a line, that are not in {place}: "
            f"{shown(unknown)}: {advice}"
        )
    return tuple(name for name in found if name in wanted)


def check_same(
    found: Collection[str],
    place: str,
    expected: Collection[str],
    train: str,
    *,
    split: str = "test",
) -> None:
    """Raises unless the class names are the same.

    Args:
        found: Of the split's images.
        place: Where those are.
        expected: Of the training images.
        train: Where those are.
        split: What the split is called.

    Raises:
        IclmsrError: The two differ.
    """
    differ = []
    for folder, names in ((place, set(found) - set(expected)), (train, set(expected) - set(found))):
        if names:
            differ.append(f"only in {folder}: {shown(names)}")
    if differ:
        raise IclmsrError(
            f"{split} and train have different classes; {'; '.join(differ)}: give both the same"
        )


def shown(names: Collection[str]) -> str:
    """The first few of some names, for messages.

    >>> shown(["b", "a", "d", "c", "f", "e", "g"])
    'a, b, c, d, e and 2 more'
    """
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(printable(name) for name in sorted(names)[:SHOWN]) + more
