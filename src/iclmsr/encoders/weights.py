# SPDX-License-Identifier: Apache-2.0
"""Weights in files of any library, read without running code, and put into a network strictly."""

import hashlib
import json
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import torch
from torch import Tensor, nn

from iclmsr.data.names import printable
from iclmsr.errors import IclmsrError

BESIDE = "preprocessor_config.json"
"""What lies beside the weights that we export, with how images are prepared."""
STATE = ("state_dict", "model_state_dict", "model", "student", "net")
"""Entries of a checkpoint that hold the weights."""
SHOWN = 8
"""So many keys of the right name and the wrong shape are listed."""


class Weights(NamedTuple):
    """What a file holds.

    Attributes:
        tensors: By key.
        metadata: What we wrote about them when we exported them; empty in other files.
        sha256: Of the file.
    """

    tensors: dict[str, Tensor]
    metadata: dict[str, Any]
    sha256: str


def read_weights(path: Path) -> Weights:
    """The tensors of a .safetensors file, or of a checkpoint that torch.save wrote.

    Args:
        path: The file. A checkpoint may hold the state dict itself, or hold it as one of
            :data:`STATE`, beside numbers, text and other tensors. Objects are never unpickled.

    Raises:
        IclmsrError: No such file, no such format, or more in it than tensors and plain values.
    """
    where = printable(path)
    if not path.is_file():
        raise IclmsrError(f"no weights at {where}: {_instead(path)}")
    if path.suffix == ".safetensors":
        tensors, metadata = _safetensors(path)
    else:
        tensors, metadata = _checkpoint(path), {}
    beside = path.with_name(BESIDE)
    if not metadata and beside.is_file():
        metadata = _ours(beside.read_bytes())
    return Weights(tensors, metadata, sha256_of(path))


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def put(network: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Loads every tensor into a network that has exactly these, of these shapes.

    Args:
        network: Where they go.
        tensors: By the network's own keys. ``num_batches_tracked`` may be missing, as in files of
            old versions of torch.
        where: The file, for messages.

    Raises:
        IclmsrError: Keys are missing or unexpected, all of which it lists, or of another shape;
            the network stays as it was.
    """
    own = network.state_dict()
    counters = {key: value for key, value in own.items() if key.endswith("num_batches_tracked")}
    given = {**counters, **tensors}
    shapes = [
        f"{key} {tuple(given[key].shape)} instead of {tuple(value.shape)}"
        for key, value in own.items()
        if key in given and given[key].shape != value.shape
    ]
    missing = [key for key in own if key not in given]
    unexpected = [key for key in given if key not in own]
    kinds = {
        f"{len(missing)} missing": ", ".join(missing),
        f"{len(unexpected)} unexpected": ", ".join(unexpected),
        f"{len(shapes)} of another shape": shortened(shapes),
    }
    wrong = "; ".join(f"{kind}: {keys}" for kind, keys in kinds.items() if keys)
    if wrong:
        raise IclmsrError(f"the weights in {where} do not fit the encoder: {wrong}")
    network.load_state_dict(given)


def shortened(keys: Sequence[str]) -> str:
    """Keys in one line, the first ones if they are many.

    >>> shortened([f"layer{k}" for k in range(10)]).endswith("layer7 and 2 more")
    True
    """
    more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    return ", ".join(keys[:SHOWN]) + more


def _safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors, and our metadata."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            known = (file.metadata() or {}).get("iclmsr", "{}")
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, safetensors.SafetensorError) as error:
        raise IclmsrError(f"{printable(path)} is not a safetensors file: {error}") from error
    return tensors, json.loads(known)


def _checkpoint(path: Path) -> dict[str, Tensor]:
    """The state dict in a file of torch.save."""
    where = printable(path)
    try:
        value = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported global" not in str(error):
            raise IclmsrError(f"{where} is not a file of torch.save, or is damaged") from error
        name = str(error).partition("Unsupported global: GLOBAL ")[2].partition(" ")[0]
        raise IclmsrError(
            f"{where} holds an object ({name}), which could run code when it is read: if you trust "
            "it, save its state dict alone, torch.save({'state_dict': torch.load(FILE, "
            "weights_only=False)['state_dict']}, NEW)"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise IclmsrError(f"{where} is not a file of torch.save, or is damaged") from error
    for name in STATE:
        if isinstance(value, dict) and isinstance(value.get(name), dict):
            value = value[name]
    if not isinstance(value, dict) or not value:
        raise IclmsrError(f"{where} holds no state dict: looked for one, or for {', '.join(STATE)}")
    tensors = {str(key): v for key, v in value.items() if isinstance(v, Tensor)}
    if len(tensors) < len(value):
        others = [str(key) for key, v in value.items() if not isinstance(v, Tensor)]
        raise IclmsrError(
            f"{where} holds no state dict: {shortened(others)} are no tensors; looked for one, or "
            f"for {', '.join(STATE)}"
        )
    return tensors


def _ours(content: bytes) -> dict[str, Any]:
    """What our preprocessor_config.json says; nothing if it is another's."""
    try:
        known = json.loads(content).get("iclmsr", {})
    except (ValueError, AttributeError):
        return {}
    return known if isinstance(known, dict) else {}


def _instead(path: Path) -> str:
    """What to do about a file that is not there."""
    if path.name == "encoder.safetensors":
        return "the run has written no checkpoint yet, or the path is wrong"
    return "it is a folder, name the file in it" if path.is_dir() else "there is no such file"
