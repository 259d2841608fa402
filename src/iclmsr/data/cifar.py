# SPDX-License-Identifier: Apache-2.0
"""CIFAR-10 as its authors hand it out: the Python or the binary version, packed or unpacked."""

import gzip
import hashlib
import tarfile
import warnings
import zlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from iclmsr.data.images import ImageSet
from iclmsr.data.pickles import read_pickle
from iclmsr.errors import IclmsrError

CLASSES = tuple(
    "airplane automobile bird cat deer dog frog horse ship truck".split()  # noqa: SIM905
)
PIXELS = 3 * 32 * 32
BATCH = 10_000
BATCHES = {
    "train": tuple(f"data_batch_{number}" for number in range(1, 6)),
    "test": ("test_batch",),
}


@dataclass(frozen=True)
class Layout:
    """One of the two forms in which CIFAR-10 is handed out.

    Attributes:
        folder: Where the batches lie.
        suffix: Of a batch's file name.
        meta: The file of class names.
        archive: Name of the packed archive.
        size: Of the archive, bytes.
        md5: Of the archive.
        decode: Pixels (n, 3072) and labels (n,) from a batch's bytes and, for messages, its name.
        names: Class names from the bytes and the name of ``meta``.
    """

    folder: str
    suffix: str
    meta: str
    archive: str
    size: int
    md5: str
    decode: Callable[[bytes, str], tuple[NDArray[np.uint8], NDArray[np.int64]]]
    names: Callable[[bytes, str], list[str]]


def holds_cifar10(root: Path) -> bool:
    """Whether :func:`read_cifar10` would find something to read at ``root``."""
    return _find(root) is not None


def read_cifar10(root: Path, split: Literal["train", "test"]) -> ImageSet:
    """The images of one split in the order of the batches, checked on the way.

    Args:
        root: The packed archive, the unpacked folder of batches, or the folder that has either.
            Archives are read in memory, never unpacked to disk.
        split: The five training batches or the test batch.

    Returns:
        Images (N, 3, 32, 32) and their labels; N is 50,000 or 10,000. Smaller sets in the same
        format are read too, with a warning.

    Raises:
        IclmsrError: Nothing is there, or a file is missing, damaged or not what it should be.

    Source: Krizhevsky 2009; format of cs.toronto.edu/~kriz/cifar.html. Departure: none.
    """
    found = _find(root)
    if found is None:
        raise IclmsrError(f"no CIFAR-10 in {root}: looked for {', '.join(PLACES)}")
    place, layout = found
    files = [name + layout.suffix for name in BATCHES[split]]
    classes: tuple[str, ...] = CLASSES
    seen: list[str] = []
    images, labels = np.empty((0, 0, PIXELS), np.uint8), np.empty((0, 0), np.int64)
    for name, content in _contents(place, layout, {*files, layout.meta}):
        where = f"{place}/{name}"
        if name == layout.meta:
            classes = _check_names(layout.names(content, where), where)
            continue
        pixels, batch_labels = layout.decode(content, where)
        if not seen:
            images = np.empty((len(files), len(pixels), PIXELS), np.uint8)
            labels = np.empty((len(files), len(pixels)), np.int64)
        seen.append(name)
        _check_batch(batch_labels, images.shape[1], seen[0], where)
        images[files.index(name)], labels[files.index(name)] = pixels, batch_labels
    for name in files:
        if name not in seen:
            looked = place if place.is_dir() else f"{place}, folder {layout.folder}"
            raise IclmsrError(f"{name} is missing: looked in {looked}")
    _warn_unless_official(place, layout, images.shape[1])
    return ImageSet(
        torch.from_numpy(images).view(-1, 3, 32, 32), torch.from_numpy(labels).view(-1), classes
    )


def _find(root: Path) -> tuple[Path, Layout] | None:
    """The folder of batches or the archive, and its layout; unpacked goes before packed."""
    if root.is_file():
        return root, BINARY if "binary" in root.name else PYTHON
    for layout in (PYTHON, BINARY):
        batches = [name + layout.suffix for names in BATCHES.values() for name in names]
        for folder in (root / layout.folder, root):
            named = folder.name == layout.folder and folder.is_dir()
            if named or any((folder / name).is_file() for name in batches):
                return folder, layout
    for layout in (PYTHON, BINARY):
        if (root / layout.archive).is_file():
            return root / layout.archive, layout
    return None


def _contents(place: Path, layout: Layout, names: Collection[str]) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of those ``names`` that are there, one at a time, in the archive's order."""
    if place.is_dir():
        for name in sorted(names):
            if (place / name).is_file():
                yield name, (place / name).read_bytes()
        return
    _check_md5(place, layout)
    try:
        with gzip.open(place) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                folder, _, name = member.name.removeprefix("./").rpartition("/")
                regular = member.isreg() and not member.issparse()
                if folder == layout.folder and name in names and regular:
                    file = archive.extractfile(member)
                    assert file is not None  # as it is regular
                    yield name, file.read()
            while stream.read(1 << 20):  # gzip compares its checksum at the end
                pass
    except (EOFError, gzip.BadGzipFile, zlib.error, tarfile.TarError) as error:
        official = (
            f", the official one has {layout.size:,} bytes and md5 {layout.md5}"
            if place.name == layout.archive
            else ""
        )
        raise IclmsrError(
            f"{place}: truncated or corrupt archive ({type(error).__name__}: {error}): "
            f"found {place.stat().st_size:,} bytes{official}; download it again"
        ) from error


def _check_md5(place: Path, layout: Layout) -> None:
    """Raises if an archive looks like the official one and is not."""
    if place.name != layout.archive or place.stat().st_size != layout.size:
        return
    with place.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
    if digest.hexdigest() != layout.md5:
        raise IclmsrError(
            f"{place}: corrupt archive: the official md5 is {layout.md5}, "
            f"found {digest.hexdigest()}; download it again"
        )


def _check_batch(labels: NDArray[np.int64], expected: int, first: str, where: str) -> None:
    """Raises unless a batch is as long as the first one and all its labels have a class."""
    if len(labels) != expected:
        raise IclmsrError(
            f"{where}: {len(labels):,} images, but {first} has {expected:,}; an official batch has "
            f"{BATCH:,} images, in the binary version {BATCH * (1 + PIXELS):,} bytes"
        )
    outside = labels[(labels < 0) | (labels >= len(CLASSES))]
    if len(outside):
        raise IclmsrError(f"{where}: labels must be in 0..9, found {outside[0]}")


def _check_names(names: list[str], where: str) -> tuple[str, ...]:
    """The names, if there are ten different ones."""
    if len(set(names)) != len(CLASSES) or len(names) != len(CLASSES):
        raise IclmsrError(f"{where}: expected {len(CLASSES)} class names, found {len(set(names))}")
    return tuple(names)


def _warn_unless_official(place: Path, layout: Layout, count: int) -> None:
    """One warning for a set that has the format but not the size of CIFAR-10."""
    sizes = [(count, BATCH, "images per batch")]
    if place.name == layout.archive:
        sizes.append((place.stat().st_size, layout.size, "bytes packed"))
    differ = [
        f"{found:,} {unit} (official {official:,})"
        for found, official, unit in sizes
        if found != official
    ]
    if differ:
        warnings.warn(f"{place} is not of the official size: {', '.join(differ)}", stacklevel=3)


def _decode_binary(content: bytes, where: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Records of a label byte and three planes of 32 x 32 bytes."""
    if not content or len(content) % (1 + PIXELS):
        raise IclmsrError(
            f"{where}: expected a multiple of {1 + PIXELS:,} bytes "
            f"(official {BATCH * (1 + PIXELS):,}), found {len(content):,}"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, 1 + PIXELS)
    return records[:, 1:], records[:, 0].astype(np.int64)


def _decode_python(content: bytes, where: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """A pickled dict of ``data`` and ``labels``."""
    batch = _fields(content, where)
    data, labels = batch.get("data"), batch.get("labels")
    found = f"{data.dtype} {data.shape}" if isinstance(data, np.ndarray) else type(data).__name__
    if (
        not isinstance(data, np.ndarray)
        or data.dtype != np.uint8
        or data.ndim != 2
        or data.shape[1] != PIXELS
        or not len(data)
    ):
        raise IclmsrError(f"{where}: data must be uint8 (n, {PIXELS}) with n > 0, found {found}")
    if isinstance(labels, np.ndarray):
        labels = labels.tolist()
    if not isinstance(labels, list) or not all(isinstance(label, int) for label in labels):
        raise IclmsrError(f"{where}: labels must be a list of {len(data):,} integers")
    if len(labels) != len(data):
        raise IclmsrError(f"{where}: expected {len(data):,} labels, found {len(labels):,}")
    return data, np.array(labels, np.int64)


def _fields(content: bytes, where: str) -> dict[str, Any]:
    """A pickled dict, its keys as strings whichever Python wrote it."""
    fields = read_pickle(content, where)
    if not isinstance(fields, dict):
        raise IclmsrError(f"{where}: expected a pickled dict, found {type(fields).__name__}")
    return {_text(key): value for key, value in fields.items()}


def _names_python(content: bytes, where: str) -> list[str]:
    """``label_names`` of the pickled dict."""
    names = _fields(content, where).get("label_names")
    return [_text(name) for name in names] if isinstance(names, list) else []


def _names_binary(content: bytes, where: str) -> list[str]:  # noqa: ARG001
    """One name a line."""
    return content.decode("latin-1").split()


def _text(value: object) -> str:
    """A string, also where Python 2 wrote it; any other value has no name."""
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return value if isinstance(value, str) else ""


PYTHON = Layout(
    folder="cifar-10-batches-py",
    suffix="",
    meta="batches.meta",
    archive="cifar-10-python.tar.gz",
    size=170_498_071,
    md5="c58f30108f718f92721af3b95e74349a",
    decode=_decode_python,
    names=_names_python,
)
BINARY = Layout(
    folder="cifar-10-batches-bin",
    suffix=".bin",
    meta="batches.meta.txt",
    archive="cifar-10-binary.tar.gz",
    size=170_052_171,
    md5="c32a1d4ab5d03f1284b67883e8d87530",
    decode=_decode_binary,
    names=_names_binary,
)
PLACES = (PYTHON.folder, BINARY.folder, PYTHON.archive, BINARY.archive)
