# SPDX-License-Identifier: Apache-2.0
"""Variants of a data set as files: ``VARIANT/SPLIT/CLASS/NAME.png`` and their masks."""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from iclmsr import __version__
from iclmsr.data.composite import SOFTNESS
from iclmsr.data.config import DataConfig
from iclmsr.data.found import find_files
from iclmsr.data.image_files import kinds_of, numbered, write_backgrounds, write_split
from iclmsr.data.images import ImageSet
from iclmsr.data.names import printable
from iclmsr.data.places import check_outside
from iclmsr.data.sources import load
from iclmsr.data.synthetic import SPLITS
from iclmsr.data.variants import Variant
from iclmsr.errors import IclmsrError
from iclmsr.files import read_json, whole_folder, write_json

CHOICES = "variant.json"


def splits_of(config: DataConfig) -> tuple[str, ...]:
    """The splits of a data set that variants are made of: train, test, and others if there.

    Args:
        config: Which data set.
    """
    if config.source == "synthetic":
        return SPLITS
    files = find_files(config)
    if files is None:
        return ("train", "test")
    return ("train", *(("test",) if files.has_test else ()), *files.others)


def write_variants(
    config: DataConfig,
    out: Path,
    variants: Sequence[Variant],
    splits: Sequence[str],
    say: Callable[[str], None],
) -> None:
    """Writes variants as data sets, each whole or not at all; those that are there are kept.

    Args:
        config: The images and masks; its ``variant`` does not count, and all training images are
            written, whatever its ``limit``.
        out: A folder for ``VARIANT/SPLIT/CLASS/NAME.png``, ``VARIANT/masks/...``,
            ``VARIANT/backgrounds.csv`` where backgrounds are known, ``VARIANT/variant.json``.
        variants: Which ones.
        splits: Which splits.
        say: Told what was written.

    Raises:
        IclmsrError: There are no masks or labels; a class cannot be a folder; a variant was
            written from other images or options; ``out`` lies in the data; a file cannot be
            written.
    """
    check_outside(out, config.root)
    config = replace(config, limit=None, evaluate_resize=None, evaluate_crop=None)
    originals = {name: load(replace(config, variant="original"), name) for name in splits}
    for split, images in originals.items():
        if images.masks is None or int(images.labels.min()) < 0:
            raise IclmsrError(
                f"variants are made of images with masks and classes, and the {split} images have "
                "none: pass --data.masks PATH; `iclmsr masks` makes some"
            )
    names = {name: _names(config, name, images) for name, images in originals.items()}
    for variant in variants:
        place = out / variant
        made = _choices(config, variant, originals)
        if place.exists():
            if not (place / CHOICES).exists() or read_json(place / CHOICES) != made:
                raise IclmsrError(
                    f"{place} was made from other images or options: remove it, or name another "
                    "folder"
                )
            say(f"{printable(place)}: was there already")
            continue
        with whole_folder(place) as folder:
            rows: list[tuple[str, str]] = []
            for split in splits:
                images = load(replace(config, variant=variant), split)
                rows += write_split(folder, split, images, names[split])
            write_backgrounds(folder, rows)
            write_json(folder / CHOICES, made)
        count = sum(map(len, originals.values()))
        say(f"{printable(place)}: {count:,} images of {', '.join(splits)}")


def _choices(
    config: DataConfig, variant: Variant, originals: dict[str, ImageSet]
) -> dict[str, Any]:
    """What a variant depends on, as JSON values."""
    masks = hashlib.sha256()
    for images in originals.values():
        assert images.masks is not None
        masks.update(np.packbits(images.masks.numpy()).data)
    return {
        "version": __version__,
        "variant": variant,
        "filler": config.filler if variant == "only_fg" else None,
        "softness": SOFTNESS if variant.startswith("mixed") else 0.0,
        "seed": config.seed,
        "image_size": config.image_size,
        "images_sha256": {name: images.fingerprint() for name, images in originals.items()},
        "masks_sha256": masks.hexdigest(),
    }


def _names(config: DataConfig, split: str, images: ImageSet) -> list[str]:
    """CLASS/NAME.png of every image: by its own name where it has one, else by its number."""
    files = find_files(config)
    if files is None:
        return numbered(images, split)
    listing = files.listing(split)
    spelled = [listing.tree.where(path) for path in listing.files]
    if not set(images.skipped) <= set(spelled):  # prepared by another spelling of data.root
        images = load(replace(config, variant="original", cache=False), split)
    left_out = set(images.skipped)
    kept = [
        path for path, where in zip(listing.files, spelled, strict=True) if where not in left_out
    ]
    pairs = zip(kept, kinds_of(images, split), strict=True)
    names = [f"{kind}/{_within(path, kind)}" for path, kind in pairs]
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise IclmsrError(f"{count} {split} images would be called {name}: rename all but one")
    return names


def _within(path: str, kind: str) -> str:
    """An image's path below its class, as .png."""
    parts = PurePosixPath(path).with_suffix(".png").parts
    return "/".join(parts[parts.index(kind) + 1 :]) if kind in parts[:-1] else parts[-1]
