# SPDX-License-Identifier: Apache-2.0
"""What is in a data set and what is the matter with it, before a run finds out."""

from dataclasses import replace
from pathlib import PurePosixPath

from iclmsr.data.decode import careful
from iclmsr.data.draw import Draw
from iclmsr.data.findings import Findings
from iclmsr.data.found import Files, find_files, images_of
from iclmsr.data.sources import DataConfig, load
from iclmsr.data.splits import Split, split_of_files, split_of_images
from iclmsr.errors import IclmsrError

SPLITS = {"train": "pretrain", "test": "test"}
"""As they are called here and by :func:`iclmsr.data.sources.load`."""


def check(config: DataConfig, *, workers: int = 1) -> Findings:
    """Looks at every image and mask of a data set.

    Args:
        config: Which one; of training images ``limit`` counts. Prepared images do not.
        workers: Threads that decode, >= 1.

    Raises:
        IclmsrError: Nothing is there, an archive is damaged, or there is no such source.

    >>> found = check(DataConfig("synthetic"))
    >>> len(found.splits["train"]), found.copies, found.problems()
    (4000, [], [])
    """
    config = replace(config, cache=False)
    files = find_files(config)
    found = Findings(config)
    for name in SPLITS:
        try:
            with careful():
                found.splits[name] = _look_at(config, files, name, workers)
        except IclmsrError as error:
            found.refused[name] = str(error)
    if files is not None:
        names = files.rules.folders["test"]
        found.has_test = bool(set(names).intersection(files.tree.folders()))
        if config.limit is None and "train" in found.splits:
            _find_unused(found, files)
    found.copies = _copies(found.splits)
    return found


def _look_at(config: DataConfig, files: Files | None, name: str, workers: int) -> Split:
    """One split."""
    if files is None:
        return split_of_images(load(config, SPLITS[name]), name)
    draw = Draw(config.limit if name == "train" else None, config.seed)
    return split_of_files(files, name, draw, image_size=config.image_size, workers=workers)


def _find_unused(found: Findings, files: Files) -> None:
    """Notes images that no split has."""
    used = {image for split in found.splits.values() for image in split.labels}
    splits = {name for names in files.rules.folders.values() for name in names}
    for image in images_of(files.tree):
        if image not in used:
            parent = PurePosixPath(image).parent.as_posix()
            beside = parent == "." or parent in splits
            (found.loose if beside else found.unused).append(image)


def _copies(splits: dict[str, Split]) -> list[list[tuple[str, str]]]:
    """Groups of images that have the same pixels, as pairs of split and name."""
    groups: dict[bytes, list[tuple[str, str]]] = {}
    for split, images in splits.items():
        for name, digest in images.digests.items():
            groups.setdefault(digest, []).append((split, name))
    return [group for group in groups.values() if len(group) > 1]
