# SPDX-License-Identifier: Apache-2.0
"""Variants of a data set as files: ``VARIANT/SPLIT/CLASS/NAME.png`` and their masks."""

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from iclmsr import __version__
from iclmsr.data.backgrounds import BACKGROUNDS, HEADER
from iclmsr.data.composite import SOFTNESS
from iclmsr.data.config import DataConfig
from iclmsr.data.found import find_files
from iclmsr.data.images import ImageSet
from iclmsr.data.names import printable
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
        IclmsrError: There are no masks or labels; a variant was written from other images or
            options; a file cannot be written.
    """
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
                rows += _write(folder, split, images, names[split])
            if rows:
                text = io.StringIO(newline="")
                csv.writer(text, lineterminator="\n").writerows([HEADER, *sorted(rows)])
                content = text.getvalue().encode("utf-8", "surrogateescape")
                (folder / BACKGROUNDS).write_bytes(content)
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
    classes = [images.classes[label] for label in images.labels.tolist()]
    files = find_files(config)
    if files is None:
        return [f"{kind}/{number:06d}.png" for number, kind in enumerate(classes)]
    listing = files.listing(split)
    left_out = set(images.skipped)
    kept = [path for path in listing.files if listing.tree.where(path) not in left_out]
    names = [f"{kind}/{_within(path, kind)}" for path, kind in zip(kept, classes, strict=True)]
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise IclmsrError(f"{count} {split} images would be called {name}: rename all but one")
    return names


def _within(path: str, kind: str) -> str:
    """An image's path below its class, as .png."""
    parts = PurePosixPath(path).with_suffix(".png").parts
    return "/".join(parts[parts.index(kind) + 1 :]) if kind in parts[:-1] else parts[-1]


def _write(
    folder: Path, split: str, images: ImageSet, names: Sequence[str]
) -> Iterator[tuple[str, str]]:
    """Writes a split; yields paths and backgrounds where these are known."""
    assert images.masks is not None
    pixels = images.images.permute(0, 2, 3, 1).numpy()
    masks = images.masks.byte().mul(255).numpy()
    for number, name in enumerate(names):
        _png(folder / split / name, pixels[number])
        _png(folder / "masks" / split / name, masks[number])
        if images.backgrounds is not None:
            known = int(images.backgrounds[number])
            called = images.background_names
            yield f"{split}/{name}", called[known] if called else f"{known:04d}"


def _png(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Writes one image, or one mask."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(pixels)).save(path, "PNG")
