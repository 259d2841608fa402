# SPDX-License-Identifier: Apache-2.0
"""Kinds of archives, by what a file is called and by what it is."""

import tarfile
from pathlib import Path
from typing import IO

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")


def kind_by_name(path: Path) -> str:
    """The kind of archive that a file is by its name, in any case; empty if it is none.

    >>> kind_by_name(Path("a.ZIP")), kind_by_name(Path("b.tgz")), kind_by_name(Path("c"))
    ('.zip', '.tar.gz', '')
    """
    name = path.name.lower()
    if name.endswith(TAR_SUFFIXES):
        return ".tar.gz" if name.endswith("gz") else ".tar"
    return ".zip" if name.endswith(".zip") else ""


def kind_by_content(path: Path) -> str:
    """The kind of archive that a file is by its first bytes; empty if it is none."""
    with path.open("rb") as file:
        return kind_of_open(file)


def kind_of_open(file: IO[bytes]) -> str:
    """As above, of a file that is open; it is left after these bytes."""
    file.seek(0)
    begin = file.read(tarfile.BLOCKSIZE)
    if begin.startswith(b"\x1f\x8b"):
        return ".tar.gz"
    if begin.startswith(b"PK\3\4"):
        return ".zip"
    return ".tar" if begin[257:262] == b"ustar" else ""
