# SPDX-License-Identifier: Apache-2.0
"""Every data set by its name."""

import contextlib
import os
import warnings
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

from iclmsr.data import cache
from iclmsr.data.archives import find_official
from iclmsr.data.config import DataConfig
from iclmsr.data.draw import Draw
from iclmsr.data.file_set import FileSet
from iclmsr.data.hugging_face import fingerprint
from iclmsr.data.images import ImageSet
from iclmsr.data.listing import MASKS
from iclmsr.data.names import at_home, printable
from iclmsr.data.origins import content, stamp
from iclmsr.data.places import kind_of, place_of, root_of
from iclmsr.data.readers import OFFICIAL, SOURCES
from iclmsr.data.resize import centre_view
from iclmsr.data.shards import names_shards
from iclmsr.data.variants import check_variant, make_variant
from iclmsr.errors import IclmsrError, nearest
from iclmsr.seeds import derive

__all__ = [
    "OFFICIAL",
    "SOURCES",
    "DataConfig",
    "cache_path",
    "load",
    "open_split",
    "prepare",
]


def load(config: DataConfig, split: str) -> ImageSet:
    """The images of one split, all of them in memory or mapped into it.

    Args:
        config: Which data set, and how; ``resident`` does not count, and torchvision decodes
            for nvjpeg, which is for images on disk.
        split: ``"pretrain"``, the images to pretrain on; ``"train"``, those that evaluation
            learns from, the same but in stl10, where only these have labels; ``"test"``;
            synthetic also has ``"val"``, ``"val-swapped"`` and ``"test-swapped"``, and images by
            class every split that has a folder of its name.

    Returns:
        At most ``config.limit`` images unless it is a test split, of ``config.image_size``; but
        for "pretrain" as evaluation sees them. Where :func:`prepare` has decoded them, they are
        the same, and all that is read are the sizes and times of the files.

    Raises:
        IclmsrError: There is no such source, split or data, or it is damaged.

    >>> len(load(DataConfig(source="synthetic", limit=3), "pretrain"))
    3
    """
    decoder = "torchvision" if config.decoder == "nvjpeg" else config.decoder  # it has memory only
    images = open_split(replace(config, resident="memory", decoder=decoder), split)
    assert isinstance(images, ImageSet)
    return images


def open_split(config: DataConfig, split: str) -> ImageSet | FileSet:
    """The images of one split, as :func:`load`, or left in their files if ``config`` says so.

    Args:
        config: Which data set, and how. What is prepared is mapped from there in any case.
        split: As for :func:`load`.

    Raises:
        IclmsrError: As :func:`load`; of images left in their files, it is not known yet whether
            they decode.
    """
    _check_source(config)
    limited = split in ("pretrain", "train")
    draw = Draw(config.limit if limited else None, config.seed)
    prepared = _prepared(config, split, draw)
    read = SOURCES[kind_of(config.source)]
    images = read(config, split, draw) if prepared is None else prepared
    images = as_variant(images, config, split)
    if split == "pretrain":
        return images
    if isinstance(images, FileSet):
        return images.centred(resize=config.evaluate_resize, crop=config.evaluate_crop)
    return centre_view(images, resize=config.evaluate_resize, crop=config.evaluate_crop)


def as_variant(images: ImageSet | FileSet, config: DataConfig, split: str) -> ImageSet | FileSet:
    """The images as ``config.variant`` shows them.

    Args:
        images: Of one split, or some of them: backgrounds come from these.
        config: The variant and its seed.
        split: As for :func:`load`.

    Raises:
        IclmsrError: They lack masks, or labels where a variant needs them, or stay on disk.
    """
    if isinstance(images, FileSet):
        check_variant(config.variant, masks=True, labels=True, on_disk=True)
        return images
    seed = derive(config.seed, "split", "train" if split == "pretrain" else split)
    return make_variant(images, config.variant, filler=config.filler, seed=seed)


def prepare(config: DataConfig, split: str) -> ImageSet:
    """Decodes the images of one split once and for all; :func:`load` maps them from then on.

    Several processes may call it at once: one decodes, the others wait. Nothing is done where
    the images are prepared already and their files have not changed. With 3 S^2 bytes an image,
    it takes as much room on the disk, and at most twice as much in memory while it is at work;
    images of a few large files that shrink take as much as one such file and its pixels more.

    Args:
        config: Which data set; ``limit``, ``seed`` and ``resident`` do not count, all images are
            prepared.
        split: As for :func:`load`; ``"train"`` serves as ``"pretrain"``, but not in stl10.

    Returns:
        All images of the split in ``config.image_size``, mapped from a file in $ICLMSR_CACHE or
        ~/.cache/iclmsr.

    Raises:
        IclmsrError: As :func:`load`; the cache cannot be written, and nothing is left half-done.
    """
    _check_source(config)
    path, current = cache_path(config, split), _stamp(config)
    content_now = lru_cache(partial(_content, config))
    with contextlib.suppress(cache.Unfit):  # a cache that cannot be written to will do for this
        return cache.read(path, current, content_now).images
    with cache.held(path):
        with contextlib.suppress(cache.Unfit):  # another process was faster
            return cache.read(path, current, content_now).images
        known = content_now()
        if cache.adopt(path, current, known):
            with contextlib.suppress(cache.Unfit):
                return cache.read(path, current).images
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            in_memory = replace(config, resident="memory")
            images = SOURCES[kind_of(config.source)](in_memory, split, Draw())
            assert isinstance(images, ImageSet)
        remarks = tuple(str(one.message) for one in caught)
        cache.write(path, current, cache.Cached(images, remarks), content=known)
        del images  # lest it lie in memory twice
        for remark in remarks:
            warnings.warn(remark, stacklevel=2)
        return cache.read(path, None).images


def _prepared(config: DataConfig, split: str, draw: Draw) -> ImageSet | None:
    """Images that :func:`prepare` has decoded, or None; warns where they are of no use."""
    if not config.cache or config.source == "synthetic" or _elsewhere(config):
        return None
    try:
        path = cache_path(config, split)
    except cache.NoFolder:
        return None
    if not os.access(path, os.F_OK):  # nor where the folder may not be searched
        return None
    try:
        cached = cache.read(path, _stamp(config), partial(_content, config))
    except cache.Unfit as error:
        warnings.warn(
            f"{printable(path)} {error}: reading the images from "
            f"{printable(config.root or config.source)}; `iclmsr data prepare` makes it anew",
            stacklevel=3,
        )
        return None
    if config.limit is not None and cached.images.skipped:
        return None  # which images replace those left out depends on the limit
    for remark in cached.remarks:
        warnings.warn(remark, stacklevel=3)
    return draw.of(cached.images)


def cache_path(config: DataConfig, split: str) -> Path:
    """The file where :func:`prepare` puts a split, by everything that is chosen about it.

    Raises:
        IclmsrError: The data set does not exist, or has no files.
    """
    if config.source == "synthetic":
        raise IclmsrError("data.source 'synthetic' has no files that could be prepared")
    if _elsewhere(config):
        raise IclmsrError(
            f"data.root {config.root} or data.masks is a URL or a pattern: only files in folders "
            "and archives on this machine can be prepared, shards of a URL are kept as they are"
        )
    if split == "pretrain" and config.source != "stl10":
        split = "train"
    paths = [
        None if path is None else str(at_home(path).resolve())
        for path in (place_of(config), config.masks, config.class_list)
    ]
    columns = (config.image_column, config.label_column, config.mask_column)
    how = (config.labels, config.on_corrupt, config.decoder)
    there = [path is not None for path in paths]
    settings = (config.source, config.image_size, *how, *columns, *there, *_apart(*paths[:2]))
    return cache.path_for(f"{kind_of(config.source)}-{split}", paths, settings)


def _apart(root: str | None, masks: str | None) -> tuple[str, ...]:
    """The folder of masks in the data set whose name does not say so; none in most."""
    if root is None or masks is None or not Path(masks).is_relative_to(root):
        return ()
    inside = Path(masks).relative_to(root).as_posix()
    return () if inside in (".", MASKS) else (inside,)


def _stamp(config: DataConfig) -> str:
    """What changes when the data do, found without reading them."""
    columns = fingerprint(config) if kind_of(config.source) == "hf" else ""
    return stamp(_origins(config)) + columns


def _content(config: DataConfig) -> str:
    """What changes only when a byte of the data does; empty for those that a package keeps."""
    return "" if kind_of(config.source) == "hf" else content(_origins(config))


def _origins(config: DataConfig) -> list[Path]:
    """The files and folders that a set is read from, but for those that a package keeps."""
    beside = [Path(path) for path in (config.masks, config.class_list) if path is not None]
    if kind_of(config.source) == "hf":
        return beside
    root = root_of(config)
    found = find_official(root, OFFICIAL.get(config.source, ()))
    return [root if found is None else found[0], *beside]


def _elsewhere(config: DataConfig) -> bool:
    """Whether images or masks are in shards that lie at a URL or are named by a pattern."""
    return names_shards(config.root) or names_shards(config.masks)


def _check_source(config: DataConfig) -> None:
    """Raises unless there is such a source."""
    if kind_of(config.source) not in SOURCES:
        raise IclmsrError(
            f"unknown data.source {config.source!r}: {nearest(config.source, SOURCES)}"
        )
