# SPDX-License-Identifier: Apache-2.0
"""Every data set by its name."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from torch.nn import functional as F

from iclmsr.data.cifar import PLACES, holds_cifar10, read_cifar10
from iclmsr.data.folder import read_folder
from iclmsr.data.images import ImageSet
from iclmsr.data.synthetic import SyntheticConfig, make_synthetic
from iclmsr.errors import IclmsrError, nearest
from iclmsr.seeds import generator


@dataclass(frozen=True)
class DataConfig:
    """Which images a run sees.

    Raises:
        IclmsrError: A value is outside its range.
    """

    source: str = "cifar10"
    """cifar10: the official archive or batches, or a folder by class; folder: any images in one
    folder per class; synthetic: drawn shapes on textured backgrounds, which needs no files."""
    root: Path | None = None
    """Where the data set lies; synthetic needs none."""
    image_size: int = 32
    """Height and width of an image, pixels, > 0; images of another size are resized."""
    limit: int | None = None
    """Use only so many training images, drawn at random, >= 1; None uses all."""
    on_corrupt: Literal["error", "skip"] = "error"
    """An image that does not decode: stop, or leave it out."""
    mean: tuple[float, float, float] = (0.4914, 0.4822, 0.4465)
    """Mean of each channel, subtracted from pixels in [0, 1]."""
    std: tuple[float, float, float] = (0.2023, 0.1994, 0.2010)
    """Standard deviation of each channel, > 0, that they are divided by."""
    seed: int = 0
    """Of the draw for limit and of the synthetic images; not the run's seed."""
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)
    """What the synthetic images look like."""

    def __post_init__(self) -> None:
        if self.image_size < 1:
            raise IclmsrError(f"data.image-size must be > 0 pixels, got {self.image_size}")
        if not all(map(math.isfinite, self.mean)):
            raise IclmsrError(f"data.mean must be finite, got {self.mean}")
        if not all(0 < std < math.inf for std in self.std):
            raise IclmsrError(f"data.std must be > 0, got {self.std}")


def load(config: DataConfig, split: str) -> ImageSet:
    """The images of one split.

    Args:
        config: Which data set, and how.
        split: ``"train"`` or ``"test"``; synthetic also has ``"test-swapped"``.

    Returns:
        Images of ``config.image_size``; at most ``config.limit`` of them if it is "train".

    Raises:
        IclmsrError: There is no such source, split or data, or it is damaged.

    >>> len(load(DataConfig(source="synthetic", limit=3), "train"))
    3
    """
    if config.source in PLANNED:
        raise IclmsrError(
            f"data.source {config.source!r} has no reader yet: pass --data.source folder and a "
            "--data.root that holds images in train/CLASS and test/CLASS"
        )
    if config.source not in SOURCES:
        raise IclmsrError(
            f"unknown data.source {config.source!r}: {nearest(config.source, SOURCES)}"
        )
    images = SOURCES[config.source](config, split)
    if split != "train" or config.limit is None:
        return images
    count = len(images)
    if not 0 < config.limit <= count:
        raise IclmsrError(
            f"data.limit must be in [1, {count}], the number of training images, got {config.limit}"
        )
    order = torch.randperm(count, generator=generator(config.seed, "limit"))
    return images.take(order[: config.limit].sort().values)


def _cifar10(config: DataConfig, split: str) -> ImageSet:
    """The official files, or a folder of images by class."""
    root, size = _root(config), config.image_size
    if not holds_cifar10(root):
        if any(entry.is_dir() for entry in root.iterdir()):
            return _folder(config, split)
        raise IclmsrError(
            f"no CIFAR-10 in {root}: looked for {', '.join(PLACES)}, "
            "and for images in train/CLASS and test/CLASS"
        )
    images = read_cifar10(root, _on_disk(config, split))
    if images.images.shape[-1] == size:
        return images
    resized = F.interpolate(images.images, (size, size), mode="bicubic", antialias=True)
    return replace(images, images=resized)


def _folder(config: DataConfig, split: str) -> ImageSet:
    """Images by class."""
    return read_folder(
        _root(config),
        _on_disk(config, split),
        image_size=config.image_size,
        on_corrupt=config.on_corrupt,
    )


def _synthetic(config: DataConfig, split: str) -> ImageSet:
    """Images made on the spot."""
    return make_synthetic(config.synthetic, split, seed=config.seed, image_size=config.image_size)


def _root(config: DataConfig) -> Path:
    """``config.root``, if it exists."""
    if config.root is None:
        raise IclmsrError(
            f"data.root is not set: pass --data.root PATH, where the data of source "
            f"{config.source!r} lies, or --data.source synthetic, which needs none"
        )
    if not config.root.exists():
        raise IclmsrError(f"data.root {config.root} does not exist")
    return config.root


def _on_disk(config: DataConfig, split: str) -> Literal["train", "test"]:
    """The split, if data sets on disk have it."""
    if split == "train":
        return "train"
    if split == "test":
        return "test"
    raise IclmsrError(f"data.source {config.source!r} has no split {split!r}: choose train or test")


SOURCES: dict[str, Callable[[DataConfig, str], ImageSet]] = {
    "cifar10": _cifar10,
    "folder": _folder,
    "synthetic": _synthetic,
}

PLANNED = ("cifar100", "stl10", "tiny-imagenet")
"""Data sets that recipes name and that only ``folder`` reads so far."""
