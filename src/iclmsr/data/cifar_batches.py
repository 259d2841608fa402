# SPDX-License-Identifier: Apache-2.0
"""What the bytes of a CIFAR file say: images and labels, or class names."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from iclmsr.data.pickles import read_pickle
from iclmsr.errors import IclmsrError

SIDE = 32
PIXELS = 3 * SIDE * SIDE
Batch = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""Pixels (n, 3072) and labels (n,)."""


def decode_binary(content: bytes, where: str, *, label_bytes: int) -> Batch:
    """Records of label bytes and three planes of 32 x 32 bytes.

    Args:
        content: The file.
        where: Its name, for messages.
        label_bytes: Labels of an image; the last one counts, which is the finest.

    Raises:
        IclmsrError: The file does not consist of such records.
    """
    record = label_bytes + PIXELS
    if not content or len(content) % record:
        raise IclmsrError(
            f"{where}: expected a multiple of {record:,} bytes, found {len(content):,}"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, record)
    return records[:, label_bytes:], records[:, label_bytes - 1].astype(np.int64)


def decode_python(content: bytes, where: str, *, labels: str) -> Batch:
    """A pickled dict of ``data`` and labels.

    Args:
        content: The file.
        where: Its name, for messages.
        labels: Key of the labels.

    Raises:
        IclmsrError: The file is something else, or names code to run.
    """
    batch = _fields(content, where)
    data, found = batch.get("data"), batch.get(labels)
    shown = f"{data.dtype} {data.shape}" if isinstance(data, np.ndarray) else type(data).__name__
    if (
        not isinstance(data, np.ndarray)
        or data.dtype != np.uint8
        or data.ndim != 2
        or data.shape[1] != PIXELS
        or not len(data)
    ):
        raise IclmsrError(f"{where}: data must be uint8 (n, {PIXELS}) with n > 0, found {shown}")
    if isinstance(found, np.ndarray):
        found = found.tolist()
    if not isinstance(found, list) or not all(isinstance(label, int) for label in found):
        raise IclmsrError(f"{where}: {labels} must be a list of {len(data):,} integers")
    if len(found) != len(data):
        raise IclmsrError(f"{where}: expected {len(data):,} {labels}, found {len(found):,}")
    return data, np.array(found, np.int64)


def names_binary(content: bytes, where: str) -> list[str]:  # noqa: ARG001
    """One name a line."""
    return content.decode("latin-1").split()


def names_python(content: bytes, where: str, *, key: str) -> list[str]:
    """A list of names in a pickled dict, empty if it has none.

    Args:
        content: The file.
        where: Its name, for messages.
        key: Under which the names stand.

    Raises:
        IclmsrError: The file is no pickled dict, or names code to run.
    """
    names = _fields(content, where).get(key)
    return [_text(name) for name in names] if isinstance(names, list) else []


def _fields(content: bytes, where: str) -> dict[str, Any]:
    """A pickled dict, its keys as strings whichever Python wrote it."""
    fields = read_pickle(content, where)
    if not isinstance(fields, dict):
        raise IclmsrError(f"{where}: expected a pickled dict, found {type(fields).__name__}")
    return {_text(key): value for key, value in fields.items()}


def _text(value: object) -> str:
    """A string, also where Python 2 wrote it; any other value has no name."""
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return value if isinstance(value, str) else ""
