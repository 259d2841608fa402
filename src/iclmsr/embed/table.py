# SPDX-License-Identifier: Apache-2.0
"""Files of vectors: parquet, or .npy with a .json beside it."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iclmsr.data.names import printable
from iclmsr.errors import IclmsrError
from iclmsr.files import read_json, replacing, write_json

Rows = tuple[list[str], NDArray[np.float32]]
"""Paths (n,) and vectors (n, F)."""
SUFFIXES = (".parquet", ".npy")


def check_writable(path: Path) -> None:
    """Raises :class:`IclmsrError` unless a file of vectors could be written at ``path``."""
    if path.suffix not in SUFFIXES:
        raise IclmsrError(f"-o must end in {' or '.join(SUFFIXES)}, got {printable(path)}")
    if path.suffix == ".parquet":
        _arrow()
    if not path.absolute().parent.is_dir():
        raise IclmsrError(f"cannot write {printable(path)}: there is no folder {path.parent}")


def write_table(path: Path, groups: Iterable[Rows], count: int, about: dict[str, Any]) -> None:
    """Writes vectors, one group after the other; the file is there whole or not at all.

    Args:
        path: ``*.parquet``: columns path (string) and vector (list of float32), a row group for
            each group; or ``*.npy``: (N, F), with paths and ``about`` in the .json beside it.
        groups: Taken one at a time.
        count: N, their rows together.
        about: JSON values, for the file's metadata under ``iclmsr``.

    Raises:
        IclmsrError: It cannot be written.
    """
    if path.suffix == ".npy":
        _write_npy(path, groups, count, about)
        return
    arrow, parquet = _arrow()
    fields = [("path", arrow.string()), ("vector", arrow.list_(arrow.float32()))]
    schema = arrow.schema(fields, metadata={"iclmsr": json.dumps(about)})
    with replacing(path) as temporary, parquet.ParquetWriter(temporary, schema) as writer:
        for paths, vectors in groups:
            n, width = vectors.shape
            starts = arrow.array(np.arange(n + 1, dtype=np.int32) * width)
            lists = arrow.ListArray.from_arrays(starts, arrow.array(vectors.reshape(-1)))
            names = arrow.array([_text(name) for name in paths], arrow.string())
            writer.write_table(arrow.Table.from_arrays([names, lists], schema=schema), n)


def read_about(path: Path) -> dict[str, Any]:
    """What :func:`write_table` was told about a file.

    Raises:
        IclmsrError: There is no such file, or it is not one of these.
    """
    where = printable(path)
    if not path.is_file():
        raise IclmsrError(f"no vectors at {where}: make them with iclmsr embed")
    if path.suffix == ".npy":
        about: dict[str, Any] = read_json(path.with_suffix(".json"))
        return about
    _, parquet = _arrow()
    try:
        known = (parquet.ParquetFile(path).schema_arrow.metadata or {}).get(b"iclmsr")
    except (OSError, ValueError) as error:
        raise IclmsrError(f"{where} is no parquet file, or is not whole: {error}") from error
    if known is None:
        raise IclmsrError(f"{where} does not say of which encoder it is: it was not written here")
    found: dict[str, Any] = json.loads(known)
    return found


def read_groups(path: Path) -> Iterator[Rows]:
    """The rows of a parquet file that :func:`write_table` wrote, a row group at a time."""
    _, parquet = _arrow()
    with parquet.ParquetFile(path) as file:
        for number in range(file.num_row_groups):
            table = file.read_row_group(number, columns=["path", "vector"])
            flat = table["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
            yield table["path"].to_pylist(), flat.reshape(table.num_rows, -1)


def _write_npy(path: Path, groups: Iterable[Rows], count: int, about: dict[str, Any]) -> None:
    """The vectors, and what they are of in a .json, which is written first."""
    names: list[str] = []
    with replacing(path) as temporary, temporary.open("wb") as file:
        for paths, vectors in groups:
            if not names:
                shape = (count, vectors.shape[1])
                header = {"descr": "<f4", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
            file.write(vectors.astype("<f4").tobytes())
            names += [_text(name) for name in paths]
        write_json(path.with_suffix(".json"), {**about, "paths": names})


def _text(name: str) -> str:
    """A path as UTF-8, bytes that are none escaped."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _arrow() -> tuple[Any, Any]:
    """The packages pyarrow and pyarrow.parquet."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise IclmsrError(
            f"parquet needs pyarrow ({error}): pip install 'iclmsr[parquet]', or write .npy"
        ) from error
    return pyarrow, pyarrow.parquet
