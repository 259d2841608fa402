# SPDX-License-Identifier: Apache-2.0
"""CIFAR-10 and CIFAR-100 as their authors hand them out: Python or binary, packed or unpacked."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iclmsr.data.archives import find_official, open_official
from iclmsr.data.cifar_batches import (
    SIDE,
    Batch,
    decode_binary,
    decode_python,
    names_binary,
    names_python,
)
from iclmsr.data.classes import check_labels, check_names
from iclmsr.data.draw import Draw
from iclmsr.data.images import ImageSet
from iclmsr.data.official import Official, warn_unless_official
from iclmsr.data.resize import CHUNK, resized
from iclmsr.errors import IclmsrError

EVERY = Draw()


@dataclass(frozen=True)
class Layout(Official):
    """One of the two forms in which a CIFAR set is handed out.

    Attributes:
        counts: Images in each file of a split.
        meta: The file of class names.
        decode: Images and labels from a file's bytes and, for messages, its name.
        names: Class names from the bytes and the name of ``meta``.
    """

    counts: Mapping[str, int]
    meta: str
    decode: Callable[[bytes, str], Batch]
    names: Callable[[bytes, str], list[str]]


@dataclass(frozen=True)
class Cifar:
    """CIFAR-10 or CIFAR-100.

    Attributes:
        name: Of the data set.
        classes: In the order of the labels.
        layouts: Its forms; the first one that is there is read.
    """

    name: str
    classes: tuple[str, ...]
    layouts: tuple[Layout, ...]

    @property
    def places(self) -> tuple[str, ...]:
        """The folders and archives that it comes in."""
        folders = tuple(layout.folder for layout in self.layouts)
        return folders + tuple(layout.archive for layout in self.layouts)


def holds_cifar(cifar: Cifar, root: Path) -> bool:
    """Whether :func:`read_cifar` would find something to read at ``root``."""
    return find_official(root, cifar.layouts) is not None


def read_cifar(
    cifar: Cifar,
    root: Path,
    split: Literal["train", "test"],
    *,
    image_size: int = SIDE,
    draw: Draw = EVERY,
) -> ImageSet:
    """The images of one split in the order of the files, checked on the way.

    Args:
        cifar: Which data set; of CIFAR-100 the fine labels count.
        root: The packed archive, the unpacked folder of files, or the folder that has either.
            Archives are read in memory, never unpacked to disk.
        split: Training or test images.
        image_size: S, height and width of the result, pixels, > 0; the files have 32.
        draw: Which images of the split; no others are kept.

    Returns:
        Images (N, 3, S, S) and their labels; N is at most 50,000 or 10,000. Smaller sets in the
        same format are read too, with a warning.

    Raises:
        IclmsrError: Nothing is there, or a file is missing, damaged or not what it should be.

    Source: Krizhevsky 2009; format of cs.toronto.edu/~kriz/cifar.html. Departure: none.
    """
    found = find_official(root, cifar.layouts)
    if found is None:
        raise IclmsrError(f"no {cifar.name} in {root}: looked for {', '.join(cifar.places)}")
    place, layout = found
    files, official = layout.parts[split], layout.counts[split]
    classes, seen = cifar.classes, list[str]()
    images, labels = torch.empty(0, 3, image_size, image_size), np.empty((0, 0), np.int64)
    drawn = np.empty(0, np.int64)
    with open_official(place, layout, {*files, layout.meta}) as contents:
        for name, stream in contents:
            where = f"{place}/{name}"
            if name == layout.meta:
                classes = check_names(layout.names(stream.read(), where), len(classes), where)
                continue
            pixels, batch_labels = layout.decode(stream.read(), where)
            if not seen:
                labels = np.empty((len(files), len(pixels)), np.int64)
                drawn = np.array(draw.indices(labels.size))
                images = torch.empty(len(drawn), *images.shape[1:], dtype=torch.uint8)
            seen.append(name)
            if len(pixels) != labels.shape[1]:
                raise IclmsrError(
                    f"{where}: {len(pixels):,} images, but {seen[0]} has {labels.shape[1]:,}; "
                    f"an official batch has {official:,}"
                )
            check_labels(batch_labels, 0, len(cifar.classes) - 1, where)
            labels[files.index(name)] = batch_labels
            start = files.index(name) * len(pixels)
            first, end = np.searchsorted(drawn, (start, start + len(pixels)))
            _copy(pixels, drawn[first:end] - start, images[first:end])
            del pixels  # a fifth of the images, before the next file is read
    for name in files:
        if name not in seen:
            raise layout.missing(place, name)
    warn_unless_official(place, layout, [(labels.shape[1], official, "images per batch")])
    return ImageSet(images, torch.from_numpy(labels.reshape(-1)[drawn]), classes)


def _copy(pixels: NDArray[np.uint8], rows: NDArray[np.int64], out: Tensor) -> None:
    """The images at ``rows`` of a file's pixels (n, 3072), into ``out`` (len(rows), 3, S, S)."""
    for start in range(0, len(rows), CHUNK):
        part = slice(start, start + CHUNK)
        chosen = torch.from_numpy(pixels[rows[part]]).view(-1, 3, SIDE, SIDE)
        out[part] = resized(chosen, out.shape[-1])


CIFAR10 = Cifar(
    "CIFAR-10",
    tuple("airplane automobile bird cat deer dog frog horse ship truck".split()),  # noqa: SIM905
    (
        Layout(
            folder="cifar-10-batches-py",
            archive="cifar-10-python.tar.gz",
            size=170_498_071,
            md5="c58f30108f718f92721af3b95e74349a",
            parts={
                "train": tuple(f"data_batch_{number}" for number in range(1, 6)),
                "test": ("test_batch",),
            },
            counts={"train": 10_000, "test": 10_000},
            meta="batches.meta",
            decode=partial(decode_python, labels="labels"),
            names=partial(names_python, key="label_names"),
        ),
        Layout(
            folder="cifar-10-batches-bin",
            archive="cifar-10-binary.tar.gz",
            size=170_052_171,
            md5="c32a1d4ab5d03f1284b67883e8d87530",
            parts={
                "train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
                "test": ("test_batch.bin",),
            },
            counts={"train": 10_000, "test": 10_000},
            meta="batches.meta.txt",
            decode=partial(decode_binary, label_bytes=1),
            names=names_binary,
        ),
    ),
)
CIFAR100 = Cifar(
    "CIFAR-100",
    tuple(
        """
        apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus
        butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch
        crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house
        kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle
        mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree
        plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark
        shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table
        tank telephone television tiger tractor train trout tulip turtle wardrobe whale
        willow_tree wolf woman worm
        """.split()  # noqa: SIM905
    ),
    (
        Layout(
            folder="cifar-100-python",
            archive="cifar-100-python.tar.gz",
            size=169_001_437,
            md5="eb9058c3a382ffc7106e4002c42a8d85",
            parts={"train": ("train",), "test": ("test",)},
            counts={"train": 50_000, "test": 10_000},
            meta="meta",
            decode=partial(decode_python, labels="fine_labels"),
            names=partial(names_python, key="fine_label_names"),
        ),
        Layout(
            folder="cifar-100-binary",
            archive="cifar-100-binary.tar.gz",
            size=168_513_733,
            md5="03b5dce01913d631647c71ecec9e9cb8",
            parts={"train": ("train.bin",), "test": ("test.bin",)},
            counts={"train": 50_000, "test": 10_000},
            meta="fine_label_names.txt",
            decode=partial(decode_binary, label_bytes=2),
            names=names_binary,
        ),
    ),
)
