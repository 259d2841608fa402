# SPDX-License-Identifier: Apache-2.0
"""Whether a set is the one that its authors hand out."""

import warnings
from collections.abc import Sequence
from pathlib import Path

from iclmsr.data.archives import Official


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
