# SPDX-License-Identifier: Apache-2.0
"""What images are made from, known by looks or by bytes."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import PIL
import torch

from iclmsr import __version__
from iclmsr.data.trees import Folder


def stamp(places: Sequence[Path]) -> str:
    """SHA-256 over the files that images are read from, without reading them, and the readers.

    Names, sizes and the times of the last changes of content and status count: whoever changes
    a file's content and sets its time back still changes the latter.

    Args:
        places: Files, and folders of files at any depth; names that begin with a dot are
            passed over.

    Raises:
        IclmsrError: A folder cannot be listed, or a link leads back up.
    """
    digest = _readers()
    for name, path in _files(places):
        try:
            status = os.stat(path)  # noqa: PTH116 - half the time
        except OSError as error:
            found: tuple[int | None, ...] = (error.errno,)
        else:
            found = (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        digest.update(os.fsencode(name) + repr(found).encode())
    return digest.hexdigest()


def content(places: Sequence[Path]) -> str:
    """SHA-256 over the names and all bytes of the files, and the readers: a copy has the same.

    Args:
        places: As for :func:`stamp`.

    Raises:
        IclmsrError: A folder cannot be listed, or a link leads back up.
    """
    digest = _readers()
    for name, path in _files(places):
        try:
            with open(path, "rb") as file:  # noqa: PTH123 - half the time
                found = hashlib.file_digest(file, "sha256").digest()
        except OSError as error:
            found = repr(error.errno).encode()
        digest.update(os.fsencode(name) + b"\0" + found)
    return digest.hexdigest()


def _readers() -> "hashlib._Hash":
    """A hash of what decodes the files, to go on with."""
    return hashlib.sha256(repr((__version__, PIL.__version__, torch.__version__)).encode())


def _files(places: Sequence[Path]) -> Iterator[tuple[str, str]]:
    """Names and paths of all files."""
    for place in places:
        for name in Folder(place).files() if place.is_dir() else [""]:
            yield name, f"{place}/{name}" if name else str(place)
