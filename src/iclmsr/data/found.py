# SPDX-License-Identifier: Apache-2.0
"""What lies at a path, without reading the images."""

import re
import statistics
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from iclmsr.data.archives import find_official
from iclmsr.data.decode import Unusable, careful, open_image
from iclmsr.data.imagenet import FOLDERS as IMAGENET_FOLDERS
from iclmsr.data.imagenet import WNIDS, find_tiny_imagenet, list_tiny_imagenet
from iclmsr.data.listing import FOLDERS, Listing, Rules, images_in, list_folder, top
from iclmsr.data.names import printable
from iclmsr.data.sources import OFFICIAL, DataConfig
from iclmsr.data.trees import Tree, open_tree
from iclmsr.errors import IclmsrError

SIZES = {"cifar10": 32, "cifar100": 32, "stl10": 96, "tiny-imagenet": 64}
LARGEST, LOOKED_AT = 224, 64
MASKS = "masks"


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

    def listing(self, split: str) -> Listing:
        """The images of ``"train"`` or ``"test"``.

        Raises:
            IclmsrError: There are none, or not in the folders where they should be.
        """
        listed = list_tiny_imagenet if self.source == "tiny-imagenet" else list_folder
        return listed(self.tree, split, self.rules)


def find_files(config: DataConfig) -> Files | None:
    """The files of a data set; None where images lie in few large ones, or in none at all.

    Args:
        config: Its ``root`` is set, or its source is synthetic.

    Raises:
        IclmsrError: Nothing is there, or an archive is damaged.
    """
    if config.root is None:
        return None
    official = find_official(config.root, OFFICIAL.get(config.source, ()))
    if config.source == "tiny-imagenet":
        tree = top(open_tree(find_tiny_imagenet(config.root)))
    elif official is None:
        tree = top(open_tree(config.root))
    else:
        return None
    masks, apart = None, ""
    if config.masks is not None:
        masks = top(open_tree(config.masks))
        masks = masks.below(MASKS) if MASKS in masks.folders() else masks
        place, within = masks.place.resolve(), tree.place.resolve()
        apart = place.relative_to(within).as_posix() if place.is_relative_to(within) else ""
    folders = IMAGENET_FOLDERS if config.source == "imagenet" else FOLDERS
    return Files(tree, Rules(folders, config.labels, config.class_list, apart), masks, config.source)


def guess(path: Path) -> DataConfig:
    """What a data set is, from the names of its files and the sizes of a few images.

    Args:
        path: A folder or an archive.

    Returns:
        Its source; masks, if it has a folder of that name; and as ``image_size`` its own, at most
        224 pixels.

    Raises:
        IclmsrError: Nothing is there, or no images.
    """
    if not path.exists():
        raise IclmsrError(f"{printable(path)} does not exist: pass the folder or archive to check")
    for source, known in OFFICIAL.items():
        if find_official(path, known) is not None:
            return DataConfig(source, path, SIZES[source])
    tree = top(open_tree(path))
    folders = tree.folders()
    if WNIDS in tree.files():
        return DataConfig("tiny-imagenet", path, SIZES["tiny-imagenet"])
    source = "folder"
    if "val" in folders and "train" in folders:
        wnids = [re.fullmatch(r"n\d{8}", name) for name in tree.folders("train")]
        source = "imagenet" if wnids and all(wnids) else source
    masks = path if MASKS in folders and len(folders) > 1 else None
    return DataConfig(source, path, _size(tree), masks=masks)


def _size(tree: Tree) -> int:
    """The usual short side of a few images, pixels."""
    sides = []
    with careful():
        for _, content in islice(tree.contents(images_of(tree)), LOOKED_AT):
            try:
                sides.append(min(open_image(content).image.size))
            except Unusable:
                continue
    return min(LARGEST, round(statistics.median(sides))) if sides else DataConfig().image_size


def images_of(tree: Tree) -> tuple[str, ...]:
    """All images but those in a folder ``masks``, whether a split has them or not."""
    return images_in(tree, "", Rules(FOLDERS, apart=MASKS))
