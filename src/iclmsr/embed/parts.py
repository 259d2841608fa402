# SPDX-License-Identifier: Apache-2.0
"""Vectors of some thousand images each, in files that are whole or not there."""

import contextlib
import fcntl
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from iclmsr.data.names import printable
from iclmsr.errors import IclmsrError
from iclmsr.files import read_json, unwritable, write_atomic, write_json
from iclmsr.runs import Busy

PART = 4096
"""Images in a part, and rows in a row group of the parquet file."""


class Part(NamedTuple):
    """The vectors of some images.

    Attributes:
        rows: (n,) int64, which of the part's images they are, ascending.
        vectors: (n, F) float32.
        skipped: Why an image has none, by its path.
    """

    rows: NDArray[np.int64]
    vectors: NDArray[np.float32]
    skipped: dict[str, str]


class Parts:
    """A folder of parts beside the file that they are for.

    Args:
        out: That file.
        origin: What the vectors follow from: encoder and images. Parts of another origin are
            never gone on with.
        count: Parts there will be.
    """

    def __init__(self, out: Path, origin: dict[str, Any], count: int) -> None:
        self.folder = out.with_name(f"{out.name}.parts")
        self.origin, self.count = origin, count

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """The folder, made if it is not there, for one process.

        Raises:
            IclmsrError: Another process writes it, or it is of another encoder or other images.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(printable(self.folder), error) from error
        with (self.folder / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Busy(
                    f"{printable(self.folder)} is being written by another process: wait for it or "
                    "stop it"
                ) from error
            about = self.folder / "origin.json"
            if not about.exists():
                write_json(about, self.origin)
            elif read_json(about) != self.origin:
                raise IclmsrError(
                    f"{printable(self.folder)} was begun with another encoder or other images: "
                    "remove it, or choose another -o"
                )
            for scrap in self.folder.glob(".*.tmp"):
                scrap.unlink(missing_ok=True)
            yield

    def missing(self) -> list[int]:
        """The parts that are still to be made."""
        return [number for number in range(self.count) if not self._path(number).exists()]

    def write(self, number: int, part: Part) -> None:
        """Writes a part, whole or not at all."""
        tensors: dict[str, NDArray[Any]] = {"rows": part.rows, "vectors": part.vectors}
        content = safetensors.numpy.save(tensors, {"skipped": json.dumps(part.skipped)})
        write_atomic(self._path(number), content)

    def read(self, number: int) -> Part:
        """A part that was written.

        Raises:
            IclmsrError: It is damaged.
        """
        path = self._path(number)
        try:
            with safetensors.safe_open(path, framework="np") as file:
                skipped = json.loads(file.metadata()["skipped"])
                return Part(file.get_tensor("rows"), file.get_tensor("vectors"), skipped)
        except (OSError, safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
            raise IclmsrError(
                f"{printable(path)} is damaged ({error}): remove it and start again"
            ) from error

    def remove(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, number: int) -> Path:
        """The file of a part."""
        return self.folder / f"part-{number:06d}.safetensors"
