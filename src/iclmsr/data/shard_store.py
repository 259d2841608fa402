# SPDX-License-Identifier: Apache-2.0
"""Shards from a URL on the local disk: fetched once for all processes, bounded, checked.

A shard is a file that is called by its SHA-256. One that is being fetched is a hidden file, whose
name also says how much room it will take; whoever fetches it holds a lock on it, whoever reads a
shard holds one on that. What a killed process has fetched of a shard, the next one goes on with.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from iclmsr.data import cache
from iclmsr.data.names import printable
from iclmsr.data.remote import Remote
from iclmsr.errors import Damaged, IclmsrError

GIB = 1 << 30
READ = 1 << 20
_PART = re.compile(r"\.[0-9a-f]{64}\.(\d+)\.part")
_SHARD = re.compile(r"[0-9a-f]{64}\.tar")


def _in_cache() -> Path | None:
    """Where shards lie unless it is said; None if nowhere, an error only where one is needed."""
    with contextlib.suppress(cache.NoFolder):
        return cache.folder() / "shards"
    return None


@dataclass(frozen=True)
class ShardStore:
    """The shards that are on this machine's disk.

    Attributes:
        place: Where they lie; in the cache unless given.
        room: How much they may take, bytes. For more, those used least recently go; only one
            that is read at that very moment stays whatever the room.
        remote: How they are fetched.
    """

    place: Path | None = field(default_factory=_in_cache)
    room: int = 32 * GIB
    remote: Remote = field(default_factory=Remote)

    @property
    def folder(self) -> Path:
        """Where they lie; files that are no shards are read where there is no cache, too."""
        return self.place or cache.folder() / "shards"

    def note(self, key: str) -> Path:
        """Where what was found in a shard without an index is noted, by its URL if it has one."""
        digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
        return self.folder / f"{digest}.json"

    def open(self, url: str, size: int, sha256: str) -> IO[bytes]:
        """A shard, fetched if need be; as long as it is open it is not removed.

        Args:
            url: Where it comes from.
            size: Its length, bytes.
            sha256: Of its content.

        Raises:
            IclmsrError: It cannot be fetched, what comes is not it, or the disk is full; nothing
                of it is left.
        """
        path = self.folder / f"{sha256}.tar"
        while True:
            try:
                file: IO[bytes] | None = path.open("rb")
            except (FileNotFoundError, NotADirectoryError):
                file = self._fetch_noted(url, size, sha256)
            except OSError as error:
                mend = "make it readable" if isinstance(error, PermissionError) else "remove it"
                raise IclmsrError(
                    f"cannot read {printable(path)}, a shard in the cache: {error.strerror}: "
                    f"{mend}, or set ICLMSR_CACHE to another folder"
                ) from error
            if file is not None:
                fcntl.flock(file, fcntl.LOCK_SH)
                if os.fstat(file.fileno()).st_size == size:
                    now = time.time_ns()  # finer than the file system's own clock
                    os.utime(file.fileno(), ns=(now, now))
                    return file
                file.close()  # whoever changed it is not one of us
                path.unlink(missing_ok=True)

    def check(self, sha256: str) -> None:
        """Removes a shard from the disk if its content is not what it is called by."""
        path = self.folder / f"{sha256}.tar"
        with contextlib.suppress(OSError), path.open("rb") as file:
            if _digest(file).hexdigest() != sha256:
                path.unlink()

    def open_unknown(self, url: str) -> tuple[IO[bytes], int, str]:
        """A shard of which only the URL is known, its length in bytes and its SHA-256.

        Raises:
            Damaged: It was replaced meanwhile, as far as its server says so.
            IclmsrError: As :meth:`open`.
        """
        size, facts = self.remote.facts(url)
        while True:
            name = hashlib.sha256(url.encode()).hexdigest()
            file = self._fetch(url, size, name, None, facts)
            if file is not None:
                fcntl.flock(file, fcntl.LOCK_SH)
                sha256 = _digest(file).hexdigest()
                file.seek(0)
                return file, size, sha256

    def _fetch_noted(self, url: str, size: int, sha256: str) -> IO[bytes] | None:
        """As :meth:`_fetch`; without an index, size and SHA-256 may be of what came before."""
        try:
            return self._fetch(url, size, sha256, sha256)
        except IclmsrError as error:
            note = self.note(url)
            if not isinstance(error.__cause__, ValueError | EOFError) or not note.exists():
                raise
            raise IclmsrError(
                f"{error}; if it was changed there, remove {printable(note)} to have it read anew"
            ) from error

    def _fetch(
        self, url: str, size: int, name: str, sha256: str | None, facts: str | None = None
    ) -> IO[bytes] | None:
        """Fetches a shard unless another process did so meanwhile, and returns it open."""
        if size > self.room:
            raise IclmsrError(
                f"{url} takes {size:,} bytes, more than the {self.room:,} that shards may take: "
                "pass a larger --data.shard-cache"
            )
        part = self.folder / f".{name}.{size}.part"
        with contextlib.ExitStack() as stack:
            with self._writable():
                self.folder.mkdir(parents=True, exist_ok=True)
                file = stack.enter_context(part.open("a+b"))
            fcntl.flock(file, fcntl.LOCK_EX)
            if not _is(file, part):
                return None
            stack.callback(part.unlink, missing_ok=True)
            if (self.folder / f"{sha256}.tar").exists():
                return None
            with self._writable():
                self._make_room(part)
            found = self._fill(file, url, size, sha256)
            if facts is not None and self.remote.facts(url) != (size, facts):
                raise Damaged(f"{url} was replaced while it was read: try later")
            with self._writable():
                os.fsync(file.fileno())
                part.rename(self.folder / f"{found}.tar")
            file.seek(0)
            stack.pop_all()
            return file

    def _fill(self, file: IO[bytes], url: str, size: int, sha256: str | None) -> str:
        """Writes what is missing of a shard; returns its SHA-256, which must be the given one."""

        def fill() -> str:
            if sha256 is None or os.fstat(file.fileno()).st_size > size:
                file.truncate(0)
            digest = _digest(file)
            for piece in self.remote.pieces(url, size, file.tell()):
                digest.update(piece)
                with self._writable():
                    file.write(piece)
                    file.flush()
            found = digest.hexdigest()
            if found != (sha256 or found):
                file.truncate(0)
                raise ValueError(f"wrong content, its SHA-256 is {found}, expected {sha256}")
            return found

        return self.remote.patience.keep_trying(url, fill)

    def _make_room(self, part: Path) -> None:
        """Removes shards that were not used for long until all fit in, ``part`` included."""
        with (self.folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            entries = []
            for path in self.folder.iterdir():
                with contextlib.suppress(FileNotFoundError):  # renamed meanwhile
                    status = path.stat()
                    if not stat.S_ISREG(status.st_mode):
                        continue
                    if started := _PART.fullmatch(path.name):
                        entries.append((0, int(started[1]), path))
                    elif _SHARD.fullmatch(path.name):
                        entries.append((status.st_mtime_ns, status.st_size, path))
            total = sum(size for _, size, _ in entries)
            for _, size, path in sorted(entries):
                if total <= self.room:
                    break
                if path != part and _removed(path):
                    total -= size

    @contextlib.contextmanager
    def _writable(self) -> Iterator[None]:
        """Turns what the disk says into an error that says what to do."""
        try:
            yield
        except OSError as error:
            raise IclmsrError(
                f"cannot write to the cache {printable(self.folder)}: {error.strerror}; set "
                "ICLMSR_CACHE to another folder or pass a smaller --data.shard-cache"
            ) from error


def _removed(path: Path) -> bool:
    """Removes a file unless a process has a lock on it."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
    except BlockingIOError:
        return False
    except FileNotFoundError:
        pass
    return True


def _is(file: IO[bytes], path: Path) -> bool:
    """Whether an open file is still what lies at ``path``."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _digest(file: IO[bytes]) -> "hashlib._Hash":
    """SHA-256 of a file that is left at its end."""
    file.seek(0)
    digest = hashlib.sha256()
    while piece := file.read(READ):
        digest.update(piece)
    return digest
