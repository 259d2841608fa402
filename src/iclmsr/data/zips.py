# SPDX-License-Identifier: Apache-2.0
"""Zip archives, read as tar archives are (:mod:`iclmsr.data.archives`)."""

import contextlib
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from iclmsr.data.archives import Index, Members, in_one_line, opened, refused, safe_name
from iclmsr.data.single import Zipped

UNPACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
WINDOWS = 0
"""The system of an entry whose path may have backslashes."""


@contextlib.contextmanager
def open_zip(place: Path) -> Iterator[Members]:
    """The files of a zip archive, as :func:`iclmsr.data.archives.open_tar`.

    Raises:
        IclmsrError: It is truncated, damaged, encrypted or packed in a way that Python does not
            know, or a path leads out of it.
    """
    with in_one_line(place), opened(place) as file, zipfile.ZipFile(file) as archive:
        files = (one for one in _entries(place, archive) if not one[0].endswith("/"))
        yield ((name, info.file_size, partial(archive.open, info)) for name, info in files)


def index_zip(place: Path) -> Index:
    """Path of each file of a zip archive and where it lies, None for exotic compression.

    Folders are there as well, as in :func:`iclmsr.data.archives.index_tar`.

    Raises:
        IclmsrError: As :func:`open_zip`.
    """
    with in_one_line(place), opened(place) as file, zipfile.ZipFile(file) as archive:
        for name, info in _entries(place, archive):
            yield name, None if name.endswith("/") else Zipped.of(str(place), info)


def _entries(place: Path, archive: zipfile.ZipFile) -> Iterator[tuple[str, zipfile.ZipInfo]]:
    """The files, and the folders with a slash at the end of their path."""
    for info in archive.infolist():
        path = info.filename
        if info.create_system == WINDOWS:
            path = path.replace("\\", "/")
        name = safe_name(place, path)
        if info.flag_bits & 1:
            raise refused(place, name, "is encrypted: pack it without a password")
        if info.compress_type not in UNPACKED:
            raise refused(
                place, name, f"is packed by method {info.compress_type}: pack it with Deflate"
            )
        yield name + "/" * path.endswith("/"), info
