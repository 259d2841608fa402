# SPDX-License-Identifier: Apache-2.0
"""Files by their path, in a folder or in an archive."""

import copy
import os
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from iclmsr.data.archives import Index, Members, index_tar, open_tar
from iclmsr.data.kinds import TAR_SUFFIXES, kind_by_name
from iclmsr.data.names import printable
from iclmsr.data.single import Content, Plain, Reader, too_large
from iclmsr.data.zips import index_zip, open_zip
from iclmsr.errors import IclmsrError

__all__ = ["Archive", "Content", "Folder", "Tree", "open_tree"]

AFTER_SLASH = "0"
"""The character that follows the slash."""
SHARD_CACHE = 32.0
"""GiB of the disk that shards from a URL may take, unless said otherwise."""
Opener = Callable[[Path], AbstractContextManager[Members]]


class Tree(ABC):
    """Files below a root, known by their path from there, with ``/`` between its parts.

    Files and folders whose name begins with a dot are passed over.

    Attributes:
        place: The root, for messages.
    """

    place: Path

    @abstractmethod
    def below(self, folder: str) -> "Tree":
        """The same files as seen from a folder in it, without those outside."""

    @abstractmethod
    def folders(self, folder: str = "") -> list[str]:
        """Names of the folders in ``folder``, sorted; the root is ``""``."""

    @abstractmethod
    def files(self, folder: str = "") -> list[str]:
        """Paths from the root of all files at any depth below ``folder``, sorted."""

    def files_in(self, folder: str = "") -> list[str]:
        """Paths from the root of the files that lie in ``folder`` itself, sorted."""
        start = len(folder) + 1 if folder else 0
        return [name for name in self.files(folder) if "/" not in name[start:]]

    def holds(self, name: str) -> bool:
        """Whether there is such a file."""
        return name in self.files()

    @abstractmethod
    def contents(self, names: Collection[str]) -> Iterator[tuple[str, Content]]:
        """Each file of ``names`` that is there, one at a time; an archive has an order of its own.

        Raises:
            IclmsrError: An archive is damaged. A file that cannot be read is not an error here.
        """

    def reader(self, name: str) -> Reader:
        """Where one file is, small enough to be sent to another process, which reads it by itself.

        Raises:
            IclmsrError: The files can only be read one after the other.
        """
        raise IclmsrError(
            f"cannot read {self.where(name)} without all files before it: unpack the archive, "
            "pack it as .tar or .zip, or pass --data.resident memory"
        )

    def mend(self, name: str) -> bool:  # noqa: ARG002 - where there is but one copy
        """Sees to it that a file's copy on this machine is not damaged, if it has one.

        Returns:
            Whether it has one, so that the file may be another when it is read again.
        """
        return False

    def where(self, name: str) -> str:
        """A file or folder of the tree, for messages."""
        return printable(self.place / name)


class Folder(Tree):
    """Files on disk; symbolic links are followed.

    Args:
        place: The folder.
    """

    def __init__(self, place: Path) -> None:
        self.place = place

    def below(self, folder: str) -> "Folder":
        """A folder in it."""
        return Folder(self.place / folder)

    def folders(self, folder: str = "") -> list[str]:
        """Names of the folders in ``folder``; raises where they cannot be listed."""
        return sorted(self._entries(folder)[0])

    def files(self, folder: str = "") -> list[str]:
        """Paths of all files below; raises where a link leads back up."""
        above = [self._identity("")]
        parts = folder.split("/") if folder else []
        above += [self._identity("/".join(parts[:depth])) for depth in range(1, len(parts))]
        return sorted(self._walk(folder, above if folder else []))

    def files_in(self, folder: str = "") -> list[str]:
        """Paths of the files in it; no other folder is listed."""
        prefix = f"{folder}/" if folder else ""
        return sorted(prefix + name for name in self._entries(folder)[1])

    def holds(self, name: str) -> bool:
        """Whether there is such a file; no folder is listed."""
        return (self.place / name).is_file()

    def contents(self, names: Collection[str]) -> Iterator[tuple[str, Content]]:
        """Each file in the order of ``names``; one that is not there is an error as content."""
        for name in names:
            yield name, self.reader(name)()

    def reader(self, name: str) -> Reader:
        """Its path."""
        return Plain(f"{self.place}/{name}")

    def _walk(self, folder: str, above: list[tuple[int, int]]) -> Iterator[str]:
        """All files below ``folder``, which lies in the folders ``above``."""
        identity = self._identity(folder)
        if identity in above:
            raise IclmsrError(
                f"{self.where(folder)} is a symbolic link to a folder that it lies in: remove it"
            )
        folders, files = self._entries(folder)
        prefix = f"{folder}/" if folder else ""
        for name in files:
            yield prefix + name
        for name in folders:
            yield from self._walk(prefix + name, [*above, identity])

    def _identity(self, folder: str) -> tuple[int, int]:
        """What tells a folder from all others, whatever it is called."""
        status = (self.place / folder).stat()
        return status.st_dev, status.st_ino

    def _entries(self, folder: str) -> tuple[list[str], list[str]]:
        """Names of the folders and of the files in ``folder``."""
        folders: list[str] = []
        files: list[str] = []
        try:
            with os.scandir(self.place / folder) as entries:
                for entry in entries:
                    if not entry.name.startswith("."):
                        (folders if entry.is_dir() else files).append(entry.name)
        except OSError as error:  # a folder that cannot be listed is not an empty one
            path = printable(error.filename or self.place / folder)
            raise IclmsrError(
                f"cannot list {path}: {error.strerror}: make it readable, or move it elsewhere"
            ) from error
        return folders, files


class Archive(Tree):
    """Files in an archive, in memory; of two members of one name, the last one counts.

    Args:
        path: The archive.
        members: Opens it.
        index: Lists its files and where they lie, and its folders.

    Attributes:
        names: Paths in the archive of all that ``index`` lists, and where it lies, if known.
    """

    def __init__(self, path: Path, members: Opener, index: Callable[[Path], Index]) -> None:
        self.path, self.members = path, members
        self.place, self.prefix = path, ""
        self.names: dict[str, Reader | None] = {}
        self._replaced = Counter[str]()  # how often another member of its name came later
        for name, at in index(path):
            if not _hidden(name):
                self._replaced.update([name] if name in self.names else [])
                self.names[name] = at
        self._sorted = sorted(self.names)

    def below(self, folder: str) -> "Archive":
        """The archive as seen from a folder in it."""
        tree = copy.copy(self)
        tree.place, tree.prefix = self.place / folder, f"{self.prefix}{folder}/"
        return tree

    def folders(self, folder: str = "") -> list[str]:
        """Names of the folders that have files or are entries of the archive."""
        start = self._start(folder)
        inside = (name[len(start) :].split("/", 1) for name in self._inside(start))
        return sorted({parts[0] for parts in inside if len(parts) == 2})

    def files(self, folder: str = "") -> list[str]:
        """Paths of all files below."""
        cut, inside = len(self.prefix), self._inside(self._start(folder))
        return [name[cut:] for name in inside if not name.endswith("/")]

    def contents(self, names: Collection[str]) -> Iterator[tuple[str, Content]]:
        """Each file of ``names``; those that cannot be read singly come last."""
        wanted, cut = {self.prefix + name for name in names}, len(self.prefix)
        for name, reader in self.names.items():
            if name in wanted and reader is not None:
                wanted.remove(name)
                yield name[cut:], reader()
        if wanted.isdisjoint(self.names):
            return
        replaced = self._replaced.copy()
        with self.members(self.path) as found:
            for name, size, start in found:
                if replaced[name]:
                    replaced[name] -= 1
                elif name in wanted:
                    yield name[cut:], too_large(size) or start().read(size)

    def reader(self, name: str) -> Reader:
        """Its place in the archive, which must not be compressed as a whole."""
        return self.names[self.prefix + name] or super().reader(name)

    def _start(self, folder: str) -> str:
        """What the paths in the archive of all that is in ``folder`` begin with."""
        return self.prefix + (f"{folder}/" if folder else "")

    def _inside(self, start: str) -> list[str]:
        """All paths that begin with ``start``, a folder's or empty; sorted."""
        at = bisect_left(self._sorted, start)
        end = bisect_left(self._sorted, start[:-1] + AFTER_SLASH) if start else len(self._sorted)
        return self._sorted[at:end]


def _hidden(name: str) -> bool:
    """Whether a part of the path begins with a dot, or macOS put it beside what was packed."""
    return name.startswith((".", "__MACOSX/")) or "/." in name


def check_searchable(path: Path) -> None:
    """Raises where a folder does not even say whether a file is in it."""
    if path.is_dir() and not os.access(path, os.X_OK):
        raise IclmsrError(
            f"cannot read {printable(path)}: Permission denied: make the folder readable, or move "
            "it elsewhere"
        )


def open_tree(path: Path | str, shard_cache: float = SHARD_CACHE) -> Tree:
    """The files in a folder, or in a tar or zip archive, which is never unpacked to disk.

    Args:
        path: The folder or the archive; or shards (:func:`iclmsr.data.shards.open_shards`), also
            without an index: a tar archive with labels or masks beside its images (``0.png``,
            ``0.cls``, ``0.mask.png``), or a folder of such archives and no images.
        shard_cache: How much of the disk shards from a URL may take, GiB.

    Raises:
        IclmsrError: It is neither, the folder cannot be read, or the archive is damaged.
    """
    from iclmsr.data.local_shards import are_samples, open_local_shards  # trees of this module's
    from iclmsr.data.shard_store import GIB, ShardStore
    from iclmsr.data.shards import are_shards, open_shards

    store = ShardStore(room=int(shard_cache * GIB))
    if isinstance(path, Path):
        check_searchable(path)
    if are_shards(path):
        return open_shards(path, store)
    path = Path(path)
    if path.is_dir():
        return open_local_shards(path, store) or Folder(path)
    kind = kind_by_name(path)
    if kind in TAR_SUFFIXES:
        archive = Archive(path, open_tar, index_tar)
        return (are_samples(archive.names) and open_local_shards(path, store)) or archive
    if kind == ".zip":
        return Archive(path, open_zip, index_zip)
    raise IclmsrError(
        f"{printable(path)} is neither a folder nor an archive *{', *'.join(TAR_SUFFIXES)} or *.zip"
        if path.exists()
        else f"there is no folder {printable(path)}"
    )
