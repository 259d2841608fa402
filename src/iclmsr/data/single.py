# SPDX-License-Identifier: Apache-2.0
"""One file of a folder or of an archive, read by itself, in whatever process."""

import os
import stat
import struct
import zipfile
import zlib
from typing import NamedTuple, Protocol

Content = bytes | OSError
"""What reading a file gave."""
LARGEST = 2**30
"""Bytes that a file may have; one of more is not read at all."""
LOCAL_HEADER = 30
"""Bytes before the name in a zip archive's entry."""
UNREADABLE = 0x60
"""Flags of a zip archive's entry whose data are patches, or encrypted."""


class Reader(Protocol):
    """Where one file is, small enough to be sent to another process; called, it reads it."""

    @property
    def size(self) -> int:
        """Bytes of the file; -1 if it is not there."""

    def __call__(self) -> Content:
        """The file, or why it cannot be read."""


class Plain(NamedTuple):
    """A file on disk."""

    path: str

    def __call__(self) -> Content:
        """The file, or why it cannot be read."""
        try:
            with open(self.path, "rb", buffering=0, opener=_at_once) as file:  # half a Path's time
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):
                    return OSError("not a plain file")
                return too_large(status.st_size) or file.read()
        except OSError as error:
            return error

    @property
    def size(self) -> int:
        """Bytes of the file; -1 if it is not there."""
        try:
            return os.stat(self.path).st_size  # noqa: PTH116 - half the time
        except OSError:
            return -1


class Missing(NamedTuple):
    """A file that is not there."""

    size: int = -1

    def __call__(self) -> Content:
        """Why it cannot be read."""
        return FileNotFoundError(2, os.strerror(2))


class Stored(NamedTuple):
    """A file that lies as it is in another one, an uncompressed tar archive."""

    path: str
    start: int
    size: int

    def __call__(self) -> Content:
        """The file, or why it cannot be read."""
        return _slice(self.path, self.start, self.size)


class Zipped(NamedTuple):
    """An entry of a zip archive, deflated or stored."""

    path: str
    header: int
    packed: int
    size: int
    method: int
    crc: int

    @classmethod
    def of(cls, path: str, info: zipfile.ZipInfo) -> "Zipped | None":
        """The entry that the archive's directory describes; None for exotic compression."""
        plain = info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
        if not plain or info.flag_bits & UNREADABLE:
            return None
        sizes = (info.header_offset, info.compress_size, info.file_size)
        return cls(path, *sizes, info.compress_type, info.CRC)

    def __call__(self) -> Content:
        """The file, or why it cannot be read: a wrong CRC-32 is such a reason."""
        before = too_large(self.size) or _slice(self.path, self.header, LOCAL_HEADER)
        if isinstance(before, OSError):
            return before
        name, extra = struct.unpack("<HH", before[-4:])
        content = _slice(self.path, self.header + LOCAL_HEADER + name + extra, self.packed)
        if isinstance(content, OSError):
            return content
        try:
            if self.method == zipfile.ZIP_DEFLATED:
                inflate = zlib.decompressobj(-zlib.MAX_WBITS)
                content = inflate.decompress(content, self.size + 1)  # no more than would be wrong
        except zlib.error as error:
            return OSError(f"damaged in the archive: {error}")
        if len(content) != self.size or zlib.crc32(content) != self.crc:
            return OSError("damaged in the archive: its CRC-32 is wrong")
        return content


def too_large(size: int) -> OSError | None:
    """Why a file of so many bytes is not read; None if it may be.

    >>> too_large(2**30), too_large(2**30 + 1)
    (None, OSError('1,073,741,825 bytes are too many for an image'))
    """
    return OSError(f"{size:,} bytes are too many for an image") if size > LARGEST else None


def _at_once(path: str, flags: int) -> int:
    """Opens a file without waiting, as a FIFO would for somebody who writes."""
    return os.open(path, flags | os.O_NONBLOCK)


def _slice(path: str, start: int, size: int) -> Content:
    """A file's bytes from ``start`` on."""
    if error := too_large(size):
        return error
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - half the time
            file.seek(start)
            content = file.read(size)
    except OSError as error:
        return error
    return content if len(content) == size else OSError("the archive ends before")
