# SPDX-License-Identifier: Apache-2.0
"""Sets of images as files that are mapped into memory: decoded once, shared by all processes.

A file is made under a lock, there whole or not at all, and checked whenever it is read. It holds,
one after the other: a magic number, the length and the CRC-32 of a header in JSON; the header
with the size and the CRC-32 of all that follows; the arrays, each at a multiple of 64 bytes.
The header has the stamp and the content (:mod:`iclmsr.data.origins`) of what it was made from.
"""

import contextlib
import fcntl
import glob
import hashlib
import json
import os
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray

from iclmsr.data.images import ImageSet
from iclmsr.data.names import printable
from iclmsr.errors import IclmsrError
from iclmsr.files import write_atomic

MAGIC = b"ICLMSR\x001"
PREFIX = struct.Struct("<8sII")
ALIGNMENT = 64
SUFFIX = ".images"
CHUNK = 1 << 20
ARRAYS = ("images", "labels", "masks", "backgrounds")


class NoFolder(IclmsrError):
    """There is no home folder for the cache to lie in."""


class Unfit(Exception):
    """Why a file of the cache cannot be used, in the words that follow its name."""


@dataclass(frozen=True)
class Cached:
    """What a file of the cache holds.

    Attributes:
        images: The set; its arrays are mapped from the file, writing to them does not change it.
        remarks: Warnings that were given when the images were read.
    """

    images: ImageSet
    remarks: tuple[str, ...]


def folder() -> Path:
    """Where the cache lies: $ICLMSR_CACHE, or ~/.cache/iclmsr.

    Raises:
        NoFolder: It is in the home folder of a user who has none.
    """
    path = Path(os.environ.get("ICLMSR_CACHE") or "~/.cache/iclmsr")
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise NoFolder(
            f"the cache {printable(path)} is in a home folder that is not known: set ICLMSR_CACHE "
            "to a folder"
        ) from error


def path_for(name: str, places: Sequence[str | None], settings: Sequence[object]) -> Path:
    """The file of a set of images.

    Args:
        name: How the file's name begins.
        places: Where the files lie that they are read from.
        settings: Everything else that the images depend on; what ``repr`` shows of it counts.
    """
    chosen, lying = (
        hashlib.sha256(repr(part).encode("utf-8", "surrogateescape")).hexdigest()[:16]
        for part in (settings, places)
    )
    return folder() / f"{name}-{chosen}-{lying}{SUFFIX}"


def write(path: Path, current: str, cached: Cached, *, content: str = "") -> None:
    """Writes a set of images, whole or not at all, without a second copy in memory.

    Args:
        path: The file; its folder is made if need be.
        current: The stamp of what the images were read from, from before reading them.
        cached: What to write.
        content: The content of what the images were read from; empty if it is unknown.

    Raises:
        IclmsrError: It cannot be written (disk full, no permission); nothing is left of it.
    """
    images, parts, arrays, offset = cached.images, list[bytes | memoryview](), {}, 0
    for name in ARRAYS:
        tensor = getattr(images, name)
        if tensor is not None:
            array = tensor.contiguous().numpy()
            arrays[name] = {"dtype": array.dtype.str, "shape": array.shape, "offset": offset}
            gap = -array.nbytes % ALIGNMENT
            offset += array.nbytes + gap
            parts += [array.reshape(-1).view(np.uint8).data, bytes(gap)]
    crc = 0
    for part in parts:
        crc = zlib.crc32(part, crc)
    header = {
        "stamp": current,
        "content": content,
        "size": offset,
        "crc": crc,
        "arrays": arrays,
        "classes": images.classes,
        "skipped": images.skipped,
        "background_names": images.background_names,
        "remarks": cached.remarks,
    }
    text = json.dumps(header).encode()
    text += b" " * (-(PREFIX.size + len(text)) % ALIGNMENT)
    prefix = PREFIX.pack(MAGIC, len(text), zlib.crc32(text))
    write_atomic(path, prefix, text, *parts)
    _beside(path).unlink(missing_ok=True)


def adopt(path: Path, current: str, content: str) -> bool:
    """Takes another file of the same settings for ``path``, if it was made from the same bytes.

    Args:
        path: The file that is not there, or no longer fits.
        current: The stamp of what it is made from.
        content: The content of that.

    Returns:
        Whether there was one. Those with remarks or files left out, which are named, are not taken.
    """
    alike = path.name.removesuffix(SUFFIX).rpartition("-")[0]
    for other in set(path.parent.glob(f"{glob.escape(alike)}-*{SUFFIX}")) - {path}:
        with contextlib.suppress(OSError, Unfit), other.open("rb") as file:
            header, _ = _header(file)
            named = header["remarks"] or header["skipped"]
            if content and header.get("content") == content and not named:
                temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
                temporary.hardlink_to(other)
                temporary.replace(path)
                _note(path, current, content)
                return True
    return False


def _beside(path: Path) -> Path:
    """The file that says by which later stamp the same bytes are known."""
    return path.with_suffix(".stamp")


def _note(path: Path, current: str, content: str) -> None:
    """Remembers that the files that look like ``current`` have the bytes ``content``."""
    with contextlib.suppress(IclmsrError):  # the next one hashes them again
        write_atomic(_beside(path), f"{current} {content}".encode())


def _fits(path: Path, header: dict[str, Any], current: str, content: Callable[[], str]) -> bool:
    """Whether a file was made from what looks like ``current``, or has at least the same bytes."""
    known = header.get("content")
    if header["stamp"] == current:
        return True
    with contextlib.suppress(OSError):
        if known and _beside(path).read_text() == f"{current} {known}":
            return True
    if not known or known != content():
        return False
    _note(path, current, known)
    return True


def read(path: Path, current: str | None, content: Callable[[], str] = str) -> Cached:
    """Maps a set of images that :func:`write` wrote.

    Args:
        path: The file.
        current: The stamp that it must have; None takes any.
        content: Called where the stamp is another one: files whose content is the same
            will do, and their stamp is remembered. Empty if it is unknown.

    Raises:
        Unfit: It was made from other files, or is damaged: too short, too long or changed.
    """
    try:
        with path.open("rb") as file:
            header, start = _header(file)
            if current is not None and not _fits(path, header, current, content):
                raise Unfit("was made from files that have changed since")
            found = os.fstat(file.fileno()).st_size - start
            if found != header["size"]:
                raise Unfit(f"is damaged: {found:,} bytes of images, expected {header['size']:,}")
            crc, buffer = 0, bytearray(CHUNK)
            while count := file.readinto(buffer):
                crc = zlib.crc32(memoryview(buffer)[:count], crc)
            if crc != header["crc"]:
                raise Unfit(f"is damaged: its CRC-32 is {crc:08x}, expected {header['crc']:08x}")
            mapped: NDArray[np.uint8] = np.memmap(file, np.uint8, "c", start)
    except OSError as error:
        raise Unfit(f"cannot be read: {error.strerror or error}") from error
    arrays = {name: torch.from_numpy(_array(mapped, **at)) for name, at in header["arrays"].items()}
    images = ImageSet(
        arrays["images"],
        arrays["labels"],
        tuple(header["classes"]),
        arrays.get("masks"),
        arrays.get("backgrounds"),
        tuple(header["skipped"]),
        tuple(header.get("background_names", ())),
    )
    return Cached(images, tuple(header["remarks"]))


def _header(file: IO[bytes]) -> tuple[dict[str, Any], int]:
    """The header, and where the arrays begin; raises unless it is whole."""
    prefix = file.read(PREFIX.size)
    if len(prefix) < PREFIX.size or not prefix.startswith(MAGIC):
        raise Unfit("is damaged: it does not begin like a file of the cache")
    _, length, crc = PREFIX.unpack(prefix)
    text = file.read(length)
    if len(text) < length or zlib.crc32(text) != crc:
        raise Unfit("is damaged: its header is cut off or changed")
    header: dict[str, Any] = json.loads(text)
    return header, PREFIX.size + length


def _array(
    mapped: NDArray[np.uint8], *, dtype: str, shape: Sequence[int], offset: int
) -> NDArray[Any]:
    """One array of the mapped bytes."""
    return np.ndarray(tuple(shape), np.dtype(dtype), mapped.data, offset)


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """The right to write a file of the cache; waits until no other process has it.

    The lock is a file that goes with the last who needs it; a killed process holds none. What
    such a one left half-written is removed.

    Raises:
        IclmsrError: The cache's folder cannot be made or written to.
    """
    lock = path.with_name(f".{path.name}.lock")
    with contextlib.ExitStack() as stack:
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(lock.open("w"))
            while not _locked(file, lock):
                file.close()
                file = stack.enter_context(lock.open("w"))
        except OSError as error:
            raise IclmsrError(
                f"cannot write to the cache {printable(path.parent)}: {error.strerror}; "
                "set ICLMSR_CACHE to another folder"
            ) from error
        try:
            for scrap in path.parent.glob(f".{path.name}.*.tmp"):
                scrap.unlink(missing_ok=True)
            yield
        finally:
            lock.unlink(missing_ok=True)


def _locked(file: IO[str], lock: Path) -> bool:
    """Waits for the lock; says whether what it got is still the lock that all others see."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        warnings.warn("another process prepares the same images: waiting for it", stacklevel=2)
        fcntl.flock(file, fcntl.LOCK_EX)
    try:
        return os.path.samestat(os.fstat(file.fileno()), lock.stat())
    except FileNotFoundError:
        return False
