# SPDX-License-Identifier: Apache-2.0
"""Which background each image has, from a file beside the images."""

import csv
import io
from collections.abc import Sequence
from typing import NamedTuple

from iclmsr.data.classes import shown
from iclmsr.data.names import excerpt
from iclmsr.data.trees import Tree
from iclmsr.errors import IclmsrError

BACKGROUNDS = "backgrounds.csv"
"""The file, in the folder that the splits are in."""
HEADER = ["path", "background"]


class Backgrounds(NamedTuple):
    """The backgrounds of some images.

    Attributes:
        ids: (N,) each image's, an index into ``names``.
        names: All that the file names, sorted.
    """

    ids: tuple[int, ...]
    names: tuple[str, ...]


def read_backgrounds(tree: Tree, files: Sequence[str]) -> Backgrounds | None:
    """The backgrounds of images as ``backgrounds.csv`` names them; None where there is none.

    The file has lines ``path,background``: an image's path from the folder of the splits, and any
    name. Numbers follow the sorted names of all lines, so that they mean the same in every split.

    Args:
        tree: The data set.
        files: The images' paths in it.

    Raises:
        IclmsrError: The file cannot be read, lacks an image, or has one twice.
    """
    if not tree.holds(BACKGROUNDS):
        return None
    where = tree.where(BACKGROUNDS)
    named = _parse(dict(tree.contents([BACKGROUNDS]))[BACKGROUNDS], where)
    missing = [name for name in files if name not in named]
    if missing:
        raise IclmsrError(
            f"{where} has no line for {shown(missing)}: write one for every image, or remove the "
            "file"
        )
    names = sorted(set(named.values()))
    id_of = {name: number for number, name in enumerate(names)}
    return Backgrounds(tuple(id_of[named[name]] for name in files), tuple(names))


def _parse(content: bytes | OSError, where: str) -> dict[str, str]:
    """Each image's background by its path."""
    if isinstance(content, OSError):
        raise IclmsrError(f"cannot read {where}: {content.strerror}") from content
    text = io.StringIO(content.decode("utf-8-sig", "surrogateescape"), newline="")
    named: dict[str, str] = {}
    lines = csv.reader(text)
    try:
        rows = [(row, lines.line_num) for row in lines if row]
    except csv.Error as error:
        raise IclmsrError(
            f"cannot read {where}, line {lines.line_num}: {error}: close every quote"
        ) from error
    for row, line in rows:
        if line == 1 and row == HEADER:
            continue
        if len(row) != 2 or not all(row):
            raise IclmsrError(
                f"{where}, line {line}: expected path,background, got {excerpt(','.join(row))!r}"
            )
        if row[0] in named:
            raise IclmsrError(f"{where}, line {line}: a second one for {row[0]!r}")
        named[row[0]] = row[1]
    return named
