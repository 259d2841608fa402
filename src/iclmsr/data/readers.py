# SPDX-License-Identifier: Apache-2.0
"""How each source of images is read from where its files lie."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from iclmsr.data.backgrounds import read_backgrounds
from iclmsr.data.cifar import CIFAR10, CIFAR100, Cifar, holds_cifar, read_cifar
from iclmsr.data.config import DataConfig
from iclmsr.data.draw import Draw
from iclmsr.data.file_set import FileSet, stays_on_disk
from iclmsr.data.folder import read_images
from iclmsr.data.hugging_face import Columns
from iclmsr.data.imagenet import FOLDERS as IMAGENET_FOLDERS
from iclmsr.data.imagenet import TINY, find_tiny_imagenet, list_tiny_imagenet
from iclmsr.data.images import ImageSet
from iclmsr.data.jpeg import check_decoder
from iclmsr.data.listing import FOLDERS, MASKS, Listing, Rules, list_folder, top
from iclmsr.data.names import printable
from iclmsr.data.official import Official
from iclmsr.data.places import root_of
from iclmsr.data.shards import ShardTree, names_shards
from iclmsr.data.stl10 import PLACES, STL10, holds_stl10, read_stl10
from iclmsr.data.synthetic import make_synthetic
from iclmsr.data.trees import SHARD_CACHE, Tree, open_tree
from iclmsr.errors import IclmsrError


def _cifar(cifar: Cifar, config: DataConfig, split: str, draw: Draw) -> ImageSet | FileSet:
    """The official files, or images by class."""
    root = root_of(config)
    if not holds_cifar(cifar, root):
        return _instead(cifar.name, cifar.places, config, split, draw)
    _check_no_files(config)
    known = _on_disk(config, split)
    images = read_cifar(cifar, root, known, image_size=config.image_size, draw=draw)
    return _labelled(images, config)


def _stl10(config: DataConfig, split: str, draw: Draw) -> ImageSet | FileSet:
    """The official files, or images by class."""
    root = root_of(config)
    if not holds_stl10(root):
        return _instead("STL-10", PLACES, config, split, draw)
    _check_no_files(config)
    known = "pretrain" if split == "pretrain" else _on_disk(config, split)
    return _labelled(read_stl10(root, known, image_size=config.image_size, draw=draw), config)


def _instead(
    name: str, places: tuple[str, ...], config: DataConfig, split: str, draw: Draw
) -> ImageSet | FileSet:
    """Images by class, where the official files of a data set are not."""
    tree = open_tree(root_of(config))
    if not tree.folders():
        raise IclmsrError(
            f"no {name} in {tree.where('')}: looked for {', '.join(places)}, "
            "and for images in train/CLASS and test/CLASS"
        )
    return _read(tree, list_folder, config, split, draw)


def _files(config: DataConfig, split: str, draw: Draw) -> ImageSet | FileSet:
    """Images by class, or without any; ImageNet's test images are those for validation."""
    return _read(_tree(config), list_folder, config, split, draw)


def _tree(config: DataConfig) -> Tree:
    """The files at ``config.root``, which may be a URL."""
    root = config.root
    if root is None or not names_shards(root):
        root = root_of(config)
    return open_tree(root, config.shard_cache)


def _tiny_imagenet(config: DataConfig, split: str, draw: Draw) -> ImageSet | FileSet:
    """The official files, or images by class."""
    tree = open_tree(find_tiny_imagenet(root_of(config)))
    return _read(tree, list_tiny_imagenet, config, split, draw)


def _read(
    tree: Tree,
    listed: Callable[[Tree, str, Rules], Listing],
    config: DataConfig,
    split: str,
    draw: Draw,
) -> ImageSet | FileSet:
    """The image files in a tree, decoded together with their masks or left where they are."""
    tree = top(tree)
    rules, masks = rules_of(config, tree)
    known = split_in(tree, split, rules) or _on_disk(config, split)
    listing = listed(tree, known, rules)
    listing = replace(listing, backgrounds=read_backgrounds(tree, listing.files))
    return _opened(listing, masks, config, draw)


def _opened(
    listing: Listing, masks: Tree | None, config: DataConfig, draw: Draw
) -> ImageSet | FileSet:
    """The images of a listing, in memory or on disk."""
    on_disk = stays_on_disk(config.resident, _size(listing, masks, config, draw))
    check_decoder(config.decoder, on_disk=on_disk)
    make: Callable[..., ImageSet | FileSet] = FileSet if on_disk else read_images
    return make(
        listing,
        image_size=config.image_size,
        on_corrupt=config.on_corrupt,
        draw=draw,
        masks=masks,
        decoder=config.decoder,
    )


def _size(listing: Listing, masks: Tree | None, config: DataConfig, draw: Draw) -> int:
    """Of a set in memory, bytes."""
    planes = 3 if masks is None else 4
    return planes * config.image_size**2 * (draw.limit or len(listing.files))


def rules_of(config: DataConfig, tree: Tree) -> tuple[Rules, Tree | None]:
    """How the folders of a tree of image files are read, and the tree of their masks.

    Raises:
        IclmsrError: The masks are not there, or in a damaged archive.
    """
    masks = None
    apart: tuple[str, ...] = () if isinstance(tree, ShardTree) else (MASKS,)
    if config.masks is not None:
        masks = open_masks(config.masks, tree, config.shard_cache)
        apart += _apart_of(masks, tree)
    folders = IMAGENET_FOLDERS if "imagenet" in config.source else FOLDERS
    return Rules(folders, config.labels, config.class_list, apart), masks


def open_masks(path: Path | str, images: Tree, shard_cache: float = SHARD_CACHE) -> Tree:
    """The masks at a place: a folder masks in it, those in its shards, or all of it.

    Args:
        path: A folder, an archive or shards.
        images: Whose masks they are.
        shard_cache: How much of the disk shards from a URL may take, GiB.

    Raises:
        IclmsrError: It does not exist, has no masks, or they would be the images themselves.
    """
    if isinstance(path, Path) and not names_shards(path) and not path.exists():
        raise IclmsrError(f"data.masks {printable(path)} does not exist")
    tree = top(open_tree(path, shard_cache))
    if isinstance(tree, ShardTree):
        return tree.masks()
    if MASKS in tree.folders():
        return tree.below(MASKS)
    if tree.place.resolve() == images.place.resolve():
        place = printable(path)
        raise IclmsrError(
            f"data.masks {place} is where the images are, and has no folder {MASKS}: make some "
            f"with `iclmsr masks {place} {place}/{MASKS}`, or name the folder that has them"
        )
    return tree


def _hugging_face(config: DataConfig, split: str, draw: Draw) -> ImageSet | FileSet:
    """A data set on Hugging Face's hub, or local files that its package reads."""
    known, columns = _on_disk(config, split), Columns(config)
    return _opened(columns.listing(known), columns.masks_of(known), config, draw)


def _apart_of(masks: Tree, tree: Tree) -> tuple[str, ...]:
    """The folder of ``tree`` that holds ``masks`` and no images, if they are inside."""
    place, within = masks.place.resolve(), tree.place.resolve()
    inside = place.is_relative_to(within) and place != within
    return (place.relative_to(within).as_posix(),) if inside else ()


def _synthetic(config: DataConfig, split: str, draw: Draw) -> ImageSet:
    """Images made on the spot."""
    _check_no_files(config)
    known = "train" if split == "pretrain" else split
    size = config.image_size
    images = make_synthetic(config.synthetic, known, seed=config.seed, image_size=size)
    return _labelled(draw.of(images), config)


def _labelled(images: ImageSet, config: DataConfig) -> ImageSet:
    """The images, without their labels if those do not count."""
    if config.labels:
        return images
    return replace(images, labels=torch.full_like(images.labels, -1), classes=())


def _check_no_files(config: DataConfig) -> None:
    """Raises if an option is set that only image files have a use for."""
    for name in ("class_list", "masks"):
        if getattr(config, name) is not None:
            raise IclmsrError(
                f"data.{name.replace('_', '-')} is for images in files, which source "
                f"{config.source!r} at {config.root} does not have: leave it out, or make files of "
                "them with `iclmsr data unpack`"
            )
    if config.decoder != "pillow":
        raise IclmsrError(
            f"data.decoder {config.decoder} is for images in files, which source "
            f"{config.source!r} at {config.root} does not have: leave it out"
        )
    if config.resident == "disk":
        raise IclmsrError(
            f"data.resident disk is for images in files, which source {config.source!r} at "
            f"{config.root} does not have: pass --data.resident auto"
        )


def _on_disk(config: DataConfig, split: str) -> Literal["train", "test"]:
    """The split, if data sets on disk have it; they are pretrained on ``train``."""
    if split in ("pretrain", "train"):
        return "train"
    if split == "test":
        return "test"
    raise IclmsrError(
        f"data.source {config.source!r} has no split {split!r}: choose pretrain, train or test"
    )


def split_in(tree: Tree, split: str, rules: Rules) -> str | None:
    """The split as a listing knows it, where it has a folder of its name beside train's.

    Args:
        tree: The data set.
        split: A name.
        rules: How it is read.

    Returns:
        ``"test"`` if its folder serves as that; its own name; or None.
    """
    folders = tree.folders()
    tests = [name for name in rules.folders["test"] if name in folders]
    if split in tests[:1]:
        return "test"
    named = split in folders and split not in (*rules.folders["train"], *rules.apart)
    return split if named and "train" in folders else None


SOURCES: dict[str, Callable[[DataConfig, str, Draw], ImageSet | FileSet]] = {
    "cifar10": partial(_cifar, CIFAR10),
    "cifar100": partial(_cifar, CIFAR100),
    "folder": _files,
    "hf": _hugging_face,
    "imagenet": _files,
    "stl10": _stl10,
    "synthetic": _synthetic,
    "tiny-imagenet": _tiny_imagenet,
}

OFFICIAL: dict[str, Sequence[Official]] = {
    "cifar10": CIFAR10.layouts,
    "cifar100": CIFAR100.layouts,
    "stl10": (STL10,),
    "tiny-imagenet": (TINY,),
}
