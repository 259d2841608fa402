# SPDX-License-Identifier: Apache-2.0
"""Files that are there whole or not at all."""

import contextlib
import errno
import fcntl
import json
import os
import re
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from iclmsr.errors import IclmsrError

_TEMPORARY = re.compile(r"\.(?P<name>.+)\.(?P<pid>\d{1,7})\.tmp", re.DOTALL)


def unwritable(path: Path | str, error: OSError) -> IclmsrError:
    """The error for a file or folder that cannot be written, with what to do about it.

    >>> print(unwritable("a.png", OSError(28, "No space left on device")))
    cannot write a.png: No space left on device: free some room, or name another place
    """
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        reason += ": free some room, or name another place"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        reason += ": name a place that you may write to"
    return IclmsrError(f"cannot write {path}: {reason}")


def write_atomic(path: Path, *parts: bytes | memoryview) -> None:
    """Writes ``parts`` so that ``path`` holds either all of them or what it held before.

    Raises:
        IclmsrError: As :func:`replacing`.
    """
    with replacing(path) as temporary, temporary.open("wb") as file:
        for part in parts:
            file.write(part)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file to write, which takes the place of ``path`` when it is whole.

    Temporary file in the same folder, fsync, rename, fsync of the folder. Of a symbolic link, the
    target is replaced; a device or a pipe is not, but comes itself to be written.

    Raises:
        IclmsrError: The file cannot be written (disk full, no permission); nothing is left.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        if _is_special(path):
            yield path
            return
        yield temporary
        _sync(temporary, os.O_RDWR)
        temporary.replace(target)
        _sync(target.parent, os.O_RDONLY)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def remove_scraps(paths: Collection[Path]) -> None:
    """Removes what killed processes left of :func:`replacing` some files.

    Args:
        paths: The files. What a living process of this machine writes in their place stays.
    """
    wanted = set(paths)
    for folder in {path.parent for path in wanted}:
        for scrap in folder.glob(".*.tmp"):
            found = _TEMPORARY.fullmatch(scrap.name)
            if found and folder / found["name"] in wanted and not _lives(int(found["pid"])):
                with contextlib.suppress(OSError):
                    scrap.unlink()


def write_json(path: Path, value: Any) -> None:
    """Writes ``value`` as indented JSON, atomically."""
    write_atomic(path, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """The JSON value in ``path``.

    Raises:
        IclmsrError: No such file, or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise IclmsrError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise IclmsrError(f"{path} is not valid JSON: {error}") from error


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder to fill, which becomes ``path`` when the block ends, and is removed if it fails.

    What a killed process left of such a folder is removed first.

    Raises:
        IclmsrError: Something is at ``path`` already, another process is filling it, or it cannot
            be written.
    """
    lock, temporary = (path.with_name(f".{path.name}.{end}") for end in ("lock", "tmp"))
    try:
        if path.exists():
            raise IclmsrError(f"{path} is there already: remove it, or name another folder")
        path.absolute().parent.mkdir(parents=True, exist_ok=True)
        with lock.open("w") as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise IclmsrError(f"another process is writing {path}: wait for it") from None
            try:
                shutil.rmtree(temporary, ignore_errors=True)
                temporary.mkdir()
                yield temporary
                temporary.rename(path)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
                lock.unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(path, error) from error


def _lives(process: int) -> bool:
    """Whether there is a process of this number."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is somebody else's
        pass
    return True


def _is_special(path: Path) -> bool:
    """Whether there is something that is neither a file nor a folder: a device, a pipe."""
    return path.exists() and not path.is_file() and not path.is_dir()


def _sync(path: Path, flags: int) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
