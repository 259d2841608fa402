# SPDX-License-Identifier: Apache-2.0
"""The run folder: everything about one run in files that any tool can read."""

import contextlib
import errno
import fcntl
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any

from iclmsr.errors import IclmsrError
from iclmsr.files import read_json, unwritable, write_json
from iclmsr.journal import Journal


class Busy(IclmsrError):
    """Another process is writing the run folder."""


class Taken(IclmsrError):
    """A run lies where one is to be made."""


_MADE_WITH = ("config.json", "environment.json")
_LONGEST_HEADER = 100_000_000
"""Bytes; safetensors reads no longer one either."""
_PACKAGES = ("iclmsr", "torch", "torchvision", "timm", "numpy", "pillow", "safetensors")


def is_run(path: str | Path) -> bool:
    """Whether a run folder lies there; a lone config.json may be of other tools, as of timm."""
    return all((Path(path) / name).is_file() for name in _MADE_WITH)


class RunFolder:
    """A folder with config.json, environment.json, metrics.jsonl and what the run produces.

    Attributes:
        path: The folder; everything in it is found from here, so it may be moved.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path, config: dict[str, Any], environment: dict[str, Any]) -> "RunFolder":
        """A new run folder; it appears complete or not at all.

        Raises:
            IclmsrError: ``path`` exists and is not an empty folder, or cannot be written.
        """
        cls.check_free(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            staging = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        except OSError as error:
            raise unwritable(path, error) from error
        try:
            write_json(staging / "config.json", config)
            write_json(staging / "environment.json", environment)
            (staging / "checkpoints").mkdir()
            staging.chmod(0o755)
            staging.rename(path)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                raise Busy(f"another process has just made {path}") from error
            raise unwritable(path, error) from error
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        return cls(path)

    @staticmethod
    def check_free(path: Path) -> None:
        """Raises :class:`IclmsrError` unless a run may be made here, :class:`Taken` by a run."""
        try:
            taken = is_run(path)
            free = not path.exists() or (path.is_dir() and not any(path.iterdir()))
        except OSError as error:
            raise unwritable(path, error) from error
        if taken:
            raise Taken(
                f"{path} already exists: choose another --out, "
                f"or continue it with: iclmsr pretrain --resume {path}"
            )
        if not free:
            raise IclmsrError(f"{path} already exists and is no run folder: choose another --out")

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """An existing run folder.

        Raises:
            IclmsrError: ``path`` is not one.
        """
        if not is_run(path):
            raise IclmsrError(f"{path} is not a run folder: it lacks {' or '.join(_MADE_WITH)}")
        return cls(path)

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints lie."""
        return self.path / "checkpoints"

    @property
    def encoder(self) -> Path:
        """The encoder's weights, rewritten at every checkpoint."""
        return self.path / "encoder.safetensors"

    def config(self) -> dict[str, Any]:
        """What config.json holds."""
        return self._object("config.json")

    def evaluation(self) -> dict[str, Any] | None:
        """What evaluation.json holds; None where there is none.

        One of another ``data.source`` is none: old versions wrote transfer there, too.
        """
        if not (self.path / "evaluation.json").is_file():
            return None
        report = self._object("evaluation.json")
        own = self.config()["data"]["source"]
        judged = report.get("config", {}).get("data", {}).get("source", own)
        return report if judged == own else None

    def _object(self, name: str) -> dict[str, Any]:
        """The JSON object in a file."""
        value = read_json(self.path / name)
        if not isinstance(value, dict):
            raise IclmsrError(f"{self.path / name} holds no JSON object")
        return value

    def environment(self) -> dict[str, Any]:
        """What environment.json holds."""
        value: dict[str, Any] = read_json(self.path / "environment.json")
        return value

    def add_session(self, environment: dict[str, Any]) -> None:
        """Notes in environment.json where and with what the run went on."""
        known = self.environment()
        resumed = [*known.get("resumed", []), environment]
        write_json(self.path / "environment.json", {**known, "resumed": resumed})

    @property
    def weights(self) -> Journal:
        """weights.jsonl, the strata weights A_s of each epoch; a run without MSR has none."""
        return Journal(self.path / "weights.jsonl")

    @property
    def _metrics(self) -> Journal:
        """metrics.jsonl, the run's numbers."""
        return Journal(self.path / "metrics.jsonl")

    def log(self, **record: Any) -> None:
        """Appends one line to metrics.jsonl."""
        self._metrics.add(**record)

    def metrics_size(self) -> int:
        """Bytes in metrics.jsonl."""
        return self._metrics.size()

    def truncate_metrics(self, size: int) -> None:
        """Takes back the lines logged after metrics.jsonl had ``size`` bytes."""
        self._metrics.cut(size)

    def metrics(self) -> list[dict[str, Any]]:
        """Every record of metrics.jsonl, oldest first."""
        return self._metrics.records()

    def epochs_done(self) -> int:
        """Epochs that the encoder has seen; 0 where there is none yet.

        The encoder is written after its checkpoint: what it says is never lost.
        """
        try:
            with self.encoder.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(min(length, _LONGEST_HEADER)))
            return int(json.loads(header["__metadata__"]["iclmsr"])["epoch"])
        except FileNotFoundError:
            return 0
        except (OSError, ValueError, KeyError) as error:
            raise IclmsrError(f"{self.encoder} is no encoder of a run: {error}") from error

    def remove_scraps(self) -> None:
        """Removes temporary files of a process that was killed while it wrote them."""
        for scrap in self.path.rglob(".*.tmp"):
            scrap.unlink(missing_ok=True)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the folder for one writing process.

        Raises:
            IclmsrError: Another process holds it.
        """
        with (self.path / ".lock").open("w") as file:
            if not _locked(file):
                time.sleep(0.1)  # somebody may only have looked whether it is busy
                if not _locked(file):
                    raise Busy(
                        f"{self.path} is being written by another process: wait for it or stop it"
                    )
            yield

    def busy(self) -> bool:
        """Whether a process is writing the folder."""
        try:
            with (self.path / ".lock").open() as file:
                return not _locked(file, fcntl.LOCK_SH)
        except FileNotFoundError:
            return False


def _locked(file: IO[str], kind: int = fcntl.LOCK_EX) -> bool:
    """Locks a file if nobody else holds it, and says whether that is so."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def environment(seed: int, **more: Any) -> dict[str, Any]:
    """Versions, source commit, machine, command and seed, for environment.json."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "seed": seed,
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _PACKAGES},
        "commit": _commit(),
        "machine": {
            "system": platform.platform(),
            "processor": _processor(),
            "cores": os.cpu_count(),
            "memory_gib": round(
                os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1
            ),
        },
        **more,
    }


def _version(package: str) -> str | None:
    """The installed version of ``package``, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    """The processor's name as Linux gives it, else what Python knows."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _commit() -> str | None:
    """The commit of this package's source checkout, with + if it was changed; None elsewhere."""
    source = Path(__file__).resolve().parent
    if source.parent.name != "src":
        return None
    try:
        git = ["git", "-C", str(source)]
        head = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--", "."], capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("+" if changed else "")
