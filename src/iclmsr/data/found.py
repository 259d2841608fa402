# SPDX-License-Identifier: Apache-2.0
"""What lies at a path, from names and a few images."""

import re
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from iclmsr.data import stl10
from iclmsr.data.archives import find_official
from iclmsr.data.cifar import CIFAR10, CIFAR100
from iclmsr.data.decode import Unusable, careful, open_image
from iclmsr.data.hugging_face import Columns, holds_columns
from iclmsr.data.imagenet import WNIDS, find_tiny_imagenet, list_tiny_imagenet
from iclmsr.data.listing import MASKS, SUFFIXES, Listing, Rules, list_folder, top
from iclmsr.data.places import kind_of, root_of
from iclmsr.data.readers import rules_of, split_in
from iclmsr.data.shards import ShardTree, names_shards
from iclmsr.data.sources import OFFICIAL, SOURCES, DataConfig
from iclmsr.data.synthetic import SPLITS
from iclmsr.data.trees import Tree, open_tree
from iclmsr.errors import IclmsrError

SIZES = {"cifar10": 32, "cifar100": 32, "stl10": 96, "tiny-imagenet": 64}
CLASSES = {"cifar10": CIFAR10.classes, "cifar100": CIFAR100.classes, "stl10": stl10.CLASSES}
LARGEST, LOOKED_AT = 224, 64


class Files(NamedTuple):
    """A data set whose images are files of their own.

    Attributes:
        tree: All files.
        rules: How folders are read.
        masks: The masks, or None.
        source: As in :class:`DataConfig`.
    """

    tree: Tree
    rules: Rules
    masks: Tree | None
    source: str

    @property
    def has_test(self) -> bool:
        """Whether there is a folder of test images."""
        return not set(self.rules.folders["test"]).isdisjoint(self.tree.folders())

    @property
    def others(self) -> tuple[str, ...]:
        """Splits beside train and test: folders with the same classes as train, sorted."""
        folders = self.tree.folders()
        classes = self._folders("train") if "train" in folders else []
        if not classes and (self.rules.labels or "train" not in folders):
            return ()
        return tuple(
            name
            for name in folders
            if split_in(self.tree, name, self.rules) == name and name != "test"
            if self._folders(name) == classes
        )

    def _folders(self, name: str) -> list[str]:
        """The folders in a folder; none where it cannot be listed, which is no split then."""
        try:
            return self.tree.folders(name)
        except IclmsrError:
            return []

    def masks_of(self, split: str) -> Tree | None:  # noqa: ARG002 - as Columns
        """The masks, whatever the split."""
        return self.masks

    def listing(self, split: str) -> Listing:
        """The images of ``"train"``, ``"test"`` or one of the others.

        Raises:
            IclmsrError: There are none, or not in the folders where they should be.
        """
        listed = list_tiny_imagenet if self.source == "tiny-imagenet" else list_folder
        return listed(self.tree, split_in(self.tree, split, self.rules) or split, self.rules)


def find_files(config: DataConfig) -> Files | Columns | None:
    """The files of a data set, or its columns; None where images lie in other large files.

    Args:
        config: Which one.

    Raises:
        IclmsrError: Nothing is there, or an archive is damaged.
    """
    if kind_of(config.source) == "hf":
        return Columns(config)
    if config.source not in SOURCES or config.source == "synthetic":
        return None
    if config.root is not None and names_shards(config.root):
        tree = top(open_tree(config.root, config.shard_cache))
        return Files(tree, *rules_of(config, tree), config.source)
    place = root_of(config)
    if config.source == "tiny-imagenet":
        place = find_tiny_imagenet(place)
    elif find_official(place, OFFICIAL.get(config.source, ())) is not None:
        return None
    tree = top(open_tree(place))
    return Files(tree, *rules_of(config, tree), config.source)


def has_split(config: DataConfig, split: str) -> bool:
    """Whether there are images of a split that not every data set has, as ``test-swapped``.

    Args:
        config: Which data set: a folder, an archive, shards, or the synthetic images.
        split: Its name.

    Raises:
        IclmsrError: As :func:`find_files`.

    >>> has_split(DataConfig(source="synthetic"), "test-swapped")
    True
    """
    if config.source == "synthetic":
        return split in SPLITS
    files = find_files(config)
    return isinstance(files, Files) and split_in(files.tree, split, files.rules) is not None


def guess(path: Path) -> DataConfig:
    """What a data set is, from the names of its files and the sizes of a few images.

    Args:
        path: A folder, an archive or a ``.parquet`` file.

    Returns:
        Its source; masks, if it has a folder of that name; and as ``image_size`` its own, at most
        224 pixels. What cannot be listed is taken for a ``folder``: reading it says what is wrong.

    Raises:
        IclmsrError: There is no such path.
    """
    root_of(DataConfig(root=path))
    source = "folder"
    try:
        if holds_columns(path):
            source = "hf"
            images = Columns(DataConfig(source, path)).listing("train")
            return DataConfig(source, path, _size(images.tree, images.files))
        return _guess(path)
    except IclmsrError:
        return DataConfig(source, path)


def _guess(path: Path) -> DataConfig:
    """As above; raises where something cannot be listed."""
    for source, known in OFFICIAL.items():
        if find_official(path, known) is not None:
            return DataConfig(source, path, SIZES[source])
    if (path / WNIDS).is_file():
        return DataConfig("tiny-imagenet", path, SIZES["tiny-imagenet"])
    tree = top(open_tree(path))
    folders = tree.folders()
    has_masks = tree.has_masks if isinstance(tree, ShardTree) else MASKS in folders
    masks = path if has_masks else None
    start = "train" if "train" in folders else ""
    size = _size(tree, images_among(tree.files(start)))
    classes = tree.folders(start) if start else []
    source = "folder"
    if "val" in folders and classes and all(re.fullmatch(r"n\d{8}", name) for name in classes):
        source = "imagenet"
    for name, known_classes in CLASSES.items():
        if sorted(known_classes) == classes and size == SIZES[name]:
            source = name
    return DataConfig(source, path, size, masks=masks)


def _size(tree: Tree, images: Sequence[str]) -> int:
    """The usual short side of a few images, pixels."""
    sides = []
    with careful():
        for _, content in tree.contents(images[:: len(images) // LOOKED_AT + 1]):
            try:
                sides.append(min(open_image(content).image.size))
            except Unusable:
                continue
    return min(LARGEST, round(statistics.median(sides))) if sides else DataConfig().image_size


def images_among(files: Iterable[str]) -> list[str]:
    """Image files by their names, but those in a folder ``masks``.

    >>> images_among(["a/0.png", "a/list.txt", "masks/a/0.png"])
    ['a/0.png']
    """
    return [
        name
        for name in files
        if name.lower().endswith(SUFFIXES) and not name.startswith(f"{MASKS}/")
    ]
