# SPDX-License-Identifier: Apache-2.0
"""Archives, read from front to back in memory and never unpacked to disk."""

import contextlib
import gzip
import hashlib
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, TypeVar

from iclmsr.data.kinds import TAR_SUFFIXES, kind_by_content, kind_by_name
from iclmsr.data.names import printable
from iclmsr.data.official import Official
from iclmsr.data.single import Reader, Stored
from iclmsr.errors import IclmsrError

DAMAGE = (
    EOFError,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
    NotImplementedError,  # of zipfile: flags and versions that it does not know
    UnicodeDecodeError,  # of zipfile: a name that is marked as UTF-8
)
Members = Iterator[tuple[str, int, Callable[[], IO[bytes]]]]
Index = Iterator[tuple[str, Reader | None]]
Handed = TypeVar("Handed", bound="Official")


def find_official(root: Path, known: Sequence[Handed]) -> tuple[Path, Handed] | None:
    """The first of ``known`` that lies at ``root``, and where; unpacked goes before packed.

    Args:
        root: The packed archive, the unpacked folder of files, or the folder that has either.
        known: What may lie there.
    """
    if root.is_file():
        first = "" if any(one.archive == root.name for one in known) else _first_folder(root)
        here = (one for one in known if one.archive == root.name or one.folder == first)
        return next(((root, one) for one in here), None)
    for one in known:
        files = [name for names in one.parts.values() for name in names]
        for folder in (root / one.folder, root):
            named = folder.name == one.folder and folder.is_dir()
            if named or any((folder / name).is_file() for name in files):
                return folder, one
    packed = ((root / one.archive, one) for one in known)
    return next((found for found in packed if found[0].is_file()), None)


@contextlib.contextmanager
def open_official(
    place: Path, official: Official, names: Collection[str]
) -> Iterator[Iterator[tuple[str, IO[bytes]]]]:
    """Those ``names`` that are there, each with a stream to read before the next one.

    Args:
        place: The folder of files or the archive, as :func:`find_official` found it.
        official: What lies there; an archive of its name and size must have its checksum.
        names: File names within its folder.

    Raises:
        IclmsrError: A file cannot be opened, or the archive is damaged or not what it should be.
    """
    if place.is_dir():
        yield _open_each(place, names)
        return
    check_md5(place, official)
    wanted = {f"{official.folder}/{name}": name for name in names}
    with open_tar(place, official) as members:
        yield ((wanted[path], start()) for path, _, start in members if path in wanted)


def _open_each(folder: Path, names: Collection[str]) -> Iterator[tuple[str, IO[bytes]]]:
    """Those ``names`` that are in ``folder``, opened one at a time."""
    for name in sorted(names):
        if (folder / name).is_file():
            with opened(folder / name) as stream:
                yield name, stream


def opened(path: Path) -> io.BufferedReader:
    """The file, open for reading.

    Raises:
        IclmsrError: It cannot be opened.
    """
    try:
        return path.open("rb")
    except OSError as error:
        raise IclmsrError(f"cannot read {printable(path)}: {error.strerror}") from error


@contextlib.contextmanager
def open_tar(place: Path, official: Official | None = None) -> Iterator[Members]:
    """The regular files of a tar archive, packed with gzip or not, in the archive's order.

    Args:
        place: The archive.
        official: What it should be, for messages.

    Returns:
        Path, bytes and opener of one file after another; read it before asking for the next.

    Raises:
        IclmsrError: It is truncated or damaged, or holds a link or a path that leads out of it.
    """
    with _opened_tar(place, official) as (archive, stream):
        files = regular(place, archive, stream)
        yield ((name, one.size, partial(_stream, archive, one)) for name, one in files)


def index_tar(place: Path) -> Index:
    """Path of each file and folder (``PATH/``), and where a file lies that is not compressed.

    Raises:
        IclmsrError: As :func:`open_tar`.
    """
    packed = kind_by_name(place) == ".tar.gz"
    with _opened_tar(place) as (archive, stream):
        for name, member in _entries(place, archive, stream):
            where = Stored(str(place), member.offset_data, member.size)
            yield name, None if packed or member.isdir() else where


@contextlib.contextmanager
def _opened_tar(
    place: Path, official: Official | None = None
) -> Iterator[tuple[tarfile.TarFile, IO[bytes]]]:
    """The archive, and the stream that it is read from."""
    packed = kind_by_name(place) == ".tar.gz"
    with in_one_line(place, official), opened(place) as file:
        stream = io.BufferedReader(gzip.GzipFile(fileobj=file)) if packed else file
        with open_members(stream) as archive:
            yield archive, stream


def regular(
    place: Path | str, archive: tarfile.TarFile, stream: IO[bytes]
) -> Iterator[tuple[str, tarfile.TarInfo]]:
    """The regular files of a tar archive by their path.

    Args:
        place: What it is called, for messages.
        archive: The archive, at its beginning.
        stream: What it is read from.

    Raises:
        IclmsrError: A member leads out of it, or is neither a file nor a folder.
        tarfile.TarError: It is truncated or damaged.
    """
    return (one for one in _entries(place, archive, stream) if not one[1].isdir())


def _entries(
    place: Path | str, archive: tarfile.TarFile, stream: IO[bytes]
) -> Iterator[tuple[str, tarfile.TarInfo]]:
    """As above, and the folders, with a slash at the end of their path."""
    for member in _members(archive):
        name = safe_name(place, member.name)
        if member.islnk() or member.issym():
            target = printable(member.linkname)
            raise refused(place, name, f"is a link to '{target}': pack files, not links")
        if not (member.isdir() or member.isreg()) or member.issparse():
            raise refused(place, name, "is not a plain file")
        yield name + "/" * member.isdir(), member
    # tarfile takes a damaged header for the end; the real one is followed by zeros only.
    ends = stream.tell() >= archive.offset + tarfile.BLOCKSIZE  # one that is cut off, too
    while rest := stream.read(1 << 20):  # to its end, where gzip compares its checksum
        ends = ends and not any(rest)
    if not ends:
        raise tarfile.ReadError("no end-of-archive mark")


def open_members(stream: IO[bytes]) -> tarfile.TarFile:
    """A tar archive for :func:`regular`; raises tarfile.TarError."""
    with _numbers():
        return tarfile.open(fileobj=stream, mode="r:")


def _members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """All members."""
    with _numbers():
        yield from archive


@contextlib.contextmanager
def _numbers() -> Iterator[None]:
    """What ought to be a number in a tar archive's header and is none is damage."""
    try:
        yield
    except (ValueError, OverflowError) as error:
        raise tarfile.ReadError(str(error)) from error


def _stream(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    """A regular file's content."""
    file = archive.extractfile(member)
    assert file is not None  # as it is regular
    return file


def safe_name(place: Path | str, name: str) -> str:
    """The path in its plain form, if it stays in the archive.

    Args:
        place: The archive, for messages.
        name: The member's path as it is written there.

    Raises:
        IclmsrError: It leads out.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise refused(place, name, "leads out of the archive: do not use it, or pack it anew")
    return path.as_posix()


def refused(place: Path | str, name: str, why: str) -> IclmsrError:
    """The error for a member that no archive of images needs."""
    return IclmsrError(f"{place}: refusing this archive: its member '{printable(name)}' {why}")


@contextlib.contextmanager
def in_one_line(place: Path, official: Official | None = None) -> Iterator[None]:
    """Turns whatever a damaged archive raises into an error that says so.

    Args:
        place: The archive.
        official: What it should be, if it is called so.

    Raises:
        IclmsrError: It is damaged, of another kind than its name says, or cannot be read.
    """
    try:
        yield
    except DAMAGE as error:
        found = kind_by_content(place)
        if found not in ("", kind_by_name(place)):
            raise IclmsrError(
                f"{place}: a *{found} archive by its content: rename it, so that its name says so"
            ) from error
        expected = ""
        if official is not None and place.name == official.archive:
            expected = f", the official one has {official.size:,} bytes and md5 {official.md5}"
        raise IclmsrError(
            f"{place}: truncated or corrupt archive ({type(error).__name__}: {error}): "
            f"found {place.stat().st_size:,} bytes{expected}; download it again"
        ) from error
    except OSError as error:
        raise IclmsrError(f"cannot read {place}: {error.strerror or error}") from error


def check_md5(place: Path, official: Official) -> None:
    """Raises if an archive looks like the official one and is not.

    Args:
        place: The archive; one of another name or size is none of this function's business.
        official: What it should be.

    Raises:
        IclmsrError: Name and size are right, and the checksum is wrong.
    """
    if place.name != official.archive or place.stat().st_size != official.size:
        return
    with opened(place) as file:
        digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
    if digest.hexdigest() != official.md5:
        raise IclmsrError(
            f"{place}: corrupt archive: the official md5 is {official.md5}, "
            f"found {digest.hexdigest()}; download it again"
        )


def _first_folder(place: Path) -> str:
    """The top folder of a tar archive's first file in one; empty for any other file.

    Hidden ones do not count, nor what lies beside: macOS packs ``._FOLDER`` before the folder.
    """
    if kind_by_name(place) not in TAR_SUFFIXES:
        return ""
    with open_tar(place) as members:
        tops = (name.partition("/") for name, *_ in members if not name.startswith("."))
        return next((folder for folder, slash, _ in tops if slash), "")
