# SPDX-License-Identifier: Apache-2.0
"""Sets as their authors hand them out, and whether one is such a set."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from iclmsr.errors import IclmsrError


@dataclass(frozen=True)
class Official:
    """Files in one folder that their authors hand out packed.

    Attributes:
        folder: Where the files lie.
        archive: Name of the packed archive.
        size: Of the archive, bytes.
        md5: Of the archive.
        parts: File names by split.
    """

    folder: str
    archive: str
    size: int
    md5: str
    parts: Mapping[str, tuple[str, ...]]

    def missing(self, place: Path, name: str) -> IclmsrError:
        """The error for a file that is not in ``place``, a folder or an archive."""
        looked = place if place.is_dir() else f"{place}, folder {self.folder}"
        return IclmsrError(f"{name} is missing: looked in {looked}")


def warn_unless_official(
    place: Path, official: Official, counts: Sequence[tuple[int, int, str]]
) -> None:
    """One warning for a set that has the format but not the size of the official one.

    Args:
        place: The folder of files or the archive.
        official: What it might be.
        counts: Of each thing counted: how many there are, how many there should be, and its name.
    """
    sizes = list(counts)
    if place.name == official.archive:
        sizes.append((place.stat().st_size, official.size, "bytes packed"))
    differ = [
        f"{found:,} {unit} (official {expected:,})"
        for found, expected, unit in sizes
        if found != expected
    ]
    if differ:
        warnings.warn(f"{place} is not of the official size: {', '.join(differ)}", stacklevel=3)
