# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: written whole or not at all, verified when read, loaded without running code."""

import io
import pickle
import random
import re
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from iclmsr.errors import IclmsrError
from iclmsr.files import write_atomic

_NAME = re.compile(r"checkpoint-(\d{10})-([0-9a-f]{8})\.pt")


def save(folder: Path, update: int, state: dict[str, Any], *, keep: int = 2) -> Path:
    """Writes a checkpoint, then removes all but the newest ``keep``.

    The file's name holds its CRC-32, so one rename makes both content and checksum durable.

    Args:
        folder: Where checkpoints lie.
        update: How many updates (of theta and psi) the run has made; orders the files.
        state: Tensors, numbers, strings, lists, tuples and dicts.
        keep: How many to keep, >= 1.

    Raises:
        IclmsrError: It cannot be written; older checkpoints stay.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    data = buffer.getbuffer()
    path = folder / f"checkpoint-{update:010d}-{zlib.crc32(data):08x}.pt"
    try:
        write_atomic(path, data)
    except IclmsrError as error:
        older = checkpoints(folder)
        last = f"the last good checkpoint is {older[-1]}" if older else "there is no earlier one"
        raise IclmsrError(f"{error}; {last}") from error
    for old in checkpoints(folder)[:-keep]:
        old.unlink(missing_ok=True)
    return path


def checkpoints(folder: Path) -> list[Path]:
    """All checkpoint files, oldest first, good or not."""
    return sorted(path for path in folder.glob("checkpoint-*.pt") if _NAME.fullmatch(path.name))


def load_newest(folder: Path) -> dict[str, Any] | None:
    """The newest checkpoint that is whole, or None where there is no file at all.

    Warns of every newer one that is damaged and falls back to the one before.

    Raises:
        IclmsrError: There are checkpoints and all of them are damaged.
    """
    damaged = []
    for path in reversed(checkpoints(folder)):
        try:
            return load(path)
        except IclmsrError as error:
            damaged.append(path)
            warnings.warn(f"{error}; falling back to the one before", stacklevel=2)
    if damaged:
        raise IclmsrError(f"every checkpoint in {folder} is damaged: start the run again")
    return None


def load(path: Path) -> dict[str, Any]:
    """One checkpoint, checked against the CRC-32 in its name.

    Raises:
        IclmsrError: It is truncated, changed, or not a checkpoint.
    """
    match = _NAME.fullmatch(path.name)
    data = path.read_bytes()
    if match is None:
        raise IclmsrError(f"{path} is not named like a checkpoint")
    if zlib.crc32(data) != int(match[2], 16):
        raise IclmsrError(
            f"checkpoint {path} is damaged: its {len(data)} bytes have "
            f"CRC-32 {zlib.crc32(data):08x}, expected {match[2]}"
        )
    try:
        state: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise IclmsrError(f"checkpoint {path} does not load: {error}") from error
    return state


def random_states() -> dict[str, Any]:
    """The state of every global generator: torch (CPU and GPUs), numpy and Python."""
    name, keys, *rest = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": (name, torch.from_numpy(np.asarray(keys, np.int64)), *rest),
        "python": random.getstate(),
    }


def restore_random_states(states: dict[str, Any]) -> None:
    """Puts every global generator back to what :func:`random_states` returned."""
    torch.set_rng_state(states["torch"])
    if states["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states["cuda"])
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, np.asarray(keys, np.uint32), *rest))
    random.setstate(states["python"])
