# SPDX-License-Identifier: Apache-2.0
"""What is in a data set and what is the matter with it, before a run finds out."""

import warnings
from collections import Counter
from dataclasses import replace
from pathlib import PurePosixPath

from iclmsr.data.backgrounds import BACKGROUNDS, read_backgrounds
from iclmsr.data.batches import check_masks
from iclmsr.data.draw import Draw
from iclmsr.data.file_set import stays_on_disk
from iclmsr.data.findings import Copies, Findings
from iclmsr.data.found import Files, find_files, images_among
from iclmsr.data.jpeg import check_decoder
from iclmsr.data.sources import DataConfig, load
from iclmsr.data.splits import Split, split_of_files, split_of_images
from iclmsr.data.variants import check_variant
from iclmsr.data.views import ViewConfig
from iclmsr.errors import IclmsrError

SPLITS = {"train": "pretrain", "test": "test"}
"""As they are called here and by :func:`iclmsr.data.sources.load`."""
VIEWS = ViewConfig()


def check(
    config: DataConfig, views: ViewConfig = VIEWS, *, assumed: bool = False, workers: int = 1
) -> Findings:
    """Looks at every image and mask of a data set, and raises at none of them.

    Args:
        config: Which one; of training images ``limit`` counts. Prepared images do not, nor does
            what evaluation does to images.
        views: How views are made of training images.
        assumed: Whether ``config.masks`` is only where masks were found: a run has none then.
        workers: Threads that decode, >= 1.

    >>> found = check(DataConfig("synthetic"))
    >>> len(found.splits["train"]), found.copies, found.problems()
    (4000, [], [])
    """
    config = replace(config, cache=False, evaluate_resize=None, evaluate_crop=None)
    found = Findings(config, assumed)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            found.files = find_files(config)
        except IclmsrError as error:
            found.refused = dict.fromkeys(SPLITS, str(error))
            return found
        others = () if found.files is None else found.files.others
        for name in (*SPLITS, *others):
            try:
                found.splits[name] = _look_at(found, name, workers)
                _check_backgrounds(found, name)
                _check_use(found, name, views)
            except IclmsrError as error:
                found.refused[name] = str(error)
    found.remarks = [str(one.message) for one in caught]
    if found.files is not None:
        found.has_test = found.files.has_test
        complete = len(found.splits) == 1 + found.has_test + len(others)
        if config.limit is None and complete and isinstance(found.files, Files):
            _find_unused(found, found.files)
    found.copies = _copies(found.splits)
    return found


def _look_at(found: Findings, name: str, workers: int) -> Split:
    """One split."""
    config = found.config
    if found.files is None:
        return split_of_images(load(config, SPLITS[name]), name)
    draw = Draw(config.limit if name == "train" else None, config.seed)
    size = config.image_size
    return split_of_files(found.files, name, draw, image_size=size, workers=workers)


def _check_backgrounds(found: Findings, name: str) -> None:
    """Raises where a run would at a split's backgrounds."""
    files = found.files
    if isinstance(files, Files) and files.tree.holds(BACKGROUNDS):
        read_backgrounds(files.tree, files.listing(name).files)


def _check_use(found: Findings, name: str, views: ViewConfig) -> None:
    """Raises where a run would for want of masks, labels or a decoder."""
    config, split = found.config, found.splits[name]
    if found.assumed:
        split = replace(split, masks=None)
    if name == "train":
        check_masks(split, views)
    if found.files is None:  # they have been read as a run does
        return
    size = 4 * config.image_size**2 * len(split)
    on_disk = name == "train" and stays_on_disk(config.resident, size)
    if name == "train":
        check_decoder(config.decoder, on_disk=on_disk)
    labels = all(split.labels.values())
    check_variant(config.variant, masks=split.masks is not None, labels=labels, on_disk=on_disk)


def _find_unused(found: Findings, files: Files) -> None:
    """Notes images that no split has, and files that are not called like images."""
    used = {image for split in found.splits.values() for image in split.labels}
    splits = {name for names in files.rules.folders.values() for name in names}
    splits.update(files.others)
    try:
        there = files.tree.files()
    except IclmsrError as error:  # in a folder that no split reads
        found.remarks.append(str(error))
        return
    images = images_among(there)
    others = set(there).difference(images, [BACKGROUNDS])
    passed = (name for name in others if not files.rules.sets_apart(name))
    found.passed = Counter(PurePosixPath(name).suffix.lower() for name in passed)
    for image in images:
        if image not in used and not files.rules.sets_apart(image):
            parent = PurePosixPath(image).parent.as_posix()
            beside = parent == "." or parent in splits
            (found.loose if beside else found.unused).append(image)


def _copies(splits: dict[str, Split]) -> Copies:
    """Groups of images that have the same pixels, as pairs of split and name."""
    groups: dict[bytes, list[tuple[str, str]]] = {}
    for split, images in splits.items():
        for name, digest in images.digests.items():
            groups.setdefault(digest, []).append((split, name))
    return [group for group in groups.values() if len(group) > 1]
