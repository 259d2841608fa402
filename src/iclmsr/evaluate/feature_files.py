# SPDX-License-Identifier: Apache-2.0
"""Features as files for other tools: .npy and parquet."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from iclmsr.errors import IclmsrError
from iclmsr.evaluate.features import Features
from iclmsr.files import write_atomic

SUFFIXES = (".npy", ".parquet")


def check_name(path: Path) -> None:
    """Raises :class:`IclmsrError` unless features can be written to ``path``."""
    if path.suffix not in SUFFIXES:
        raise IclmsrError(f"features go to a file that ends in .npy or .parquet, got {path}")
    if not path.absolute().parent.is_dir():
        raise IclmsrError(
            f"cannot write {path}: the folder {path.absolute().parent} does not exist"
        )
    if path.suffix == ".parquet":
        _pyarrow()


def write_features(
    path: Path, train: Features, test: Features, classes: tuple[str, ...]
) -> list[Path]:
    """Writes float32 features of the training images, then those of the test images.

    Args:
        path: ``X.npy`` gets all rows (N + M, F) and ``X-labels.npy`` beside it their labels
            (N + M,) int64; ``X.parquet`` has columns split, label, class and features.
        train: (N, F) features and labels.
        test: (M, F) features and labels.
        classes: The class names, in the order of the labels.

    Returns:
        The files written.

    Raises:
        IclmsrError: Another ending, no pyarrow for parquet, or a file that cannot be written.

    Source: none. Departure: none.
    """
    check_name(path)
    labels = torch.cat([train.labels, test.labels])
    features = torch.cat([train.features, test.features]).float().numpy()
    if path.suffix == ".npy":
        beside = path.with_name(f"{path.stem}-labels.npy")
        for file, array in ((path, features), (beside, labels.numpy())):
            write_atomic(file, _npy_header(array), np.ascontiguousarray(array).data.cast("B"))
        return [path, beside]
    arrow, parquet = _pyarrow()
    count, width = features.shape
    table = arrow.table(
        {
            "split": ["train"] * len(train.labels) + ["test"] * len(test.labels),
            "label": labels.numpy(),
            "class": [classes[label] for label in labels.tolist()],
            "features": arrow.FixedSizeListArray.from_arrays(
                arrow.array(features.reshape(count * width)), width
            ),
        }
    )
    buffer = arrow.BufferOutputStream()
    parquet.write_table(table, buffer)
    write_atomic(path, memoryview(buffer.getvalue()))
    return [path]


def _npy_header(array: NDArray[Any]) -> bytes:
    """How a .npy file of an array in C order begins."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, np.lib.format.header_data_from_array_1_0(np.ascontiguousarray(array))
    )
    return header.getvalue()


def _pyarrow() -> tuple[Any, Any]:
    """The library that writes parquet."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise IclmsrError(
            "parquet needs pyarrow: pip install 'iclmsr[parquet]', or write to a .npy file"
        ) from error
    return pyarrow, pyarrow.parquet
