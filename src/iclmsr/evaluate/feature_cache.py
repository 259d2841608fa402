# SPDX-License-Identifier: Apache-2.0
"""Features that were extracted before: files named by encoder and data, bounded, checked."""

import contextlib
import hashlib
import json
import os
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from iclmsr import __version__
from iclmsr.data import cache
from iclmsr.data.file_set import FileSet
from iclmsr.data.images import ImageSet
from iclmsr.data.names import at_home
from iclmsr.data.origins import stamp
from iclmsr.data.sources import DataConfig
from iclmsr.errors import IclmsrError
from iclmsr.evaluate.features import Features
from iclmsr.files import write_atomic

GIB = 2**30


def folder() -> Path:
    """Where features are kept."""
    return cache.folder() / "features"


def key_of(
    encoder: str, images: ImageSet | FileSet, data: DataConfig, *settings: Any
) -> str | None:
    """The name of an encoder's features of a set of images; None if it cannot be told for sure.

    Args:
        encoder: What the encoder is known by: another one has another name.
        images: The set. One left in its files is known by their names, sizes and times, and is
            known only where ``data.root`` is a local folder or archive.
        data: Where it comes from, and the constants that normalize it.
        settings: What else a feature's bits depend on, as device and batch size.

    Returns:
        Hexadecimal digits.
    """
    known: list[Any] = [
        images.fingerprint(),
        data.mean,
        data.std,
        encoder,
        __version__,
        torch.__version__,
    ]
    if isinstance(images, FileSet):
        if not isinstance(data.root, Path):
            return None
        known += [stamp([at_home(data.root)]), images.resize, images.crop]
    return hashlib.sha256(repr((*known, *settings)).encode()).hexdigest()


def cached(key: str | None, extract: Callable[[], Features], *, limit: float) -> Features:
    """Features from the cache, or extracted and kept there.

    A file that is damaged or cut off is not used: a warning says so, and it is made anew. What
    was used least recently goes when there is no room. A cache that cannot be written to costs
    a warning, no more.

    Args:
        key: Their name; None keeps nothing.
        extract: Makes them.
        limit: GiB that all files take together at most, >= 0; 0 keeps nothing.

    Returns:
        The features, the same bits either way.

    Source: none. Departure: none.
    """
    if key is None or limit == 0:
        return extract()
    with contextlib.suppress(cache.NoFolder):
        path = _path(key)
        found = _read(path)
        if found is not None:
            with contextlib.suppress(OSError):
                os.utime(path)
            return found
    features = extract()
    try:
        _write(_path(key), features, limit)
    except (IclmsrError, OSError) as error:
        warnings.warn(f"the features are not kept for the next time: {error}", stacklevel=2)
    return features


def _path(key: str) -> Path:
    """The file of a name."""
    return folder() / f"{key[:32]}.features"


def _read(path: Path) -> Features | None:
    """What a file holds; None if there is none that is whole."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            checksum = json.loads((file.metadata() or {})["iclmsr"])["crc"]
            features = Features(file.get_tensor("features"), file.get_tensor("labels"))
    except FileNotFoundError:
        return None
    except (safetensors.SafetensorError, OSError, KeyError, ValueError) as error:
        why = str(error) or type(error).__name__
    else:
        if _checksum(features) == checksum:
            return features
        why = "its checksum is wrong"
    warnings.warn(f"{path} is damaged ({why}): the features are extracted anew", stacklevel=3)
    return None


def _write(path: Path, features: Features, limit: float) -> None:
    """Writes a file and removes the least recently used ones that there is no room for."""
    size = sum(tensor.nbytes for tensor in features)
    if size > limit * GIB:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    _make_room(path, limit * GIB - size)
    metadata = {"iclmsr": json.dumps({"crc": _checksum(features)})}
    tensors = {name: each.contiguous() for name, each in features._asdict().items()}
    write_atomic(path, safetensors.torch.save(tensors, metadata))


def _make_room(path: Path, room: float) -> None:
    """Removes files until the others take at most ``room`` bytes."""
    known = []
    for other in path.parent.glob("*.features"):
        with contextlib.suppress(FileNotFoundError):  # another process makes room, too
            status = other.stat()
            known.append((status.st_mtime_ns, status.st_size, other))
    total = sum(size for _, size, other in known if other != path)
    for _, size, other in sorted(known):
        if total <= room:
            return
        if other != path:
            other.unlink(missing_ok=True)
            total -= size


def _checksum(features: Features) -> int:
    """CRC-32 over all numbers."""
    crc = 0
    for tensor in features:
        crc = zlib.crc32(tensor.contiguous().numpy().data, crc)
    return crc
