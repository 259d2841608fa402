# SPDX-License-Identifier: Apache-2.0
"""Which images go into which shard."""

import contextlib
import os
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch

from iclmsr.data.backgrounds import BACKGROUNDS, read_backgrounds
from iclmsr.data.folder import mask_name
from iclmsr.data.found import Files
from iclmsr.data.listing import (
    FOLDERS,
    Listing,
    Rules,
    check_case,
    check_sorted,
    classes_of,
    images_in,
    list_classes,
    list_folder,
)
from iclmsr.data.shard_index import FIRST
from iclmsr.data.trees import Folder, Tree
from iclmsr.errors import IclmsrError
from iclmsr.seeds import generator

BLOCK = tarfile.BLOCKSIZE
Looks = dict[str, tuple[int, int]]
"""A file's size in bytes, and a number that changes with its content."""


@dataclass(frozen=True)
class Plan:
    """One shard: its name, and the images in it with their keys and labels."""

    name: str
    images: list[tuple[str, str, int]] = field(default_factory=list)


def listings_of(tree: Tree, rules: Rules) -> dict[str, Listing]:
    """The images by the folder of their split; whatever may be one is."""
    inside = tree.folders()
    check_case(tree, inside)
    names = [name for group in FOLDERS.values() for name in group if name in inside]
    if "train" not in names:  # in the root, or missing
        return {"": list_folder(tree, "train", rules)}
    others = Files(tree, rules, None, "folder").others
    found = {name: _listing(tree, name, rules) for name in dict.fromkeys((*names, *others))}
    for name, listing in found.items():
        if bool(listing.classes) != bool(found["train"].classes):
            some = (name, "train") if listing.classes else ("train", name)
            raise IclmsrError(
                f"{tree.where(some[0])} has classes, and {tree.where(some[1])} has images without: "
                "sort those into folders by class, or move one elsewhere"
            )
    return found


def _listing(tree: Tree, folder: str, rules: Rules) -> Listing:
    """The images of one split, with classes or without."""
    classes = classes_of(tree, folder, rules)
    if not classes:
        files = images_in(tree, folder, rules)
        return Listing(tree, files, (-1,) * len(files), ())
    check_sorted(tree, folder, classes)
    return list_classes(tree, folder, classes, rules)


def backgrounds_of(tree: Tree, images: Sequence[str]) -> str:
    """The file ``backgrounds.csv``, which has a line for every image; empty if there is none."""
    if read_backgrounds(tree, images) is None:
        return ""
    content = dict(tree.contents([BACKGROUNDS]))[BACKGROUNDS]
    assert isinstance(content, bytes), "it has just been read"
    return content.decode("utf-8", "surrogateescape")


def looks_of(tree: Tree, names: Sequence[str]) -> Looks:
    """What files are like, without reading them where that can be; missing ones are left out."""
    found: Looks = {}
    if isinstance(tree, Folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                status = os.stat(f"{tree.place}/{name}")  # noqa: PTH116 - half the time
                found[name] = status.st_size, status.st_mtime_ns
        return found
    for name, content in tree.contents(names):
        if isinstance(content, bytes):
            found[name] = len(content), zlib.crc32(content)
    return found


def plans_of(
    listings: dict[str, Listing], looks: Looks, masks: Looks, shard_size: int, seed: int
) -> Iterator[Plan]:
    """Which images each shard gets.

    Args:
        listings: The images by the folder of their split.
        looks: Of their files.
        masks: Of the masks' files; empty without any.
        shard_size: The largest size of a shard, bytes.
        seed: Of the order.
    """
    first = 0
    for folder, listing in listings.items():
        order = torch.randperm(len(listing.files), generator=generator(seed, "shards", folder))
        prefix = f"{folder}/" if folder else ""
        number, plan, total = 0, Plan(prefix + FIRST), 2 * BLOCK
        for at, index in enumerate(order.tolist()):
            name, label = listing.files[index], listing.labels[index]
            sizes = [looks.get(name, (0, 0))[0], *masks.get(mask_name(name), ())[:1]]
            sizes += [len(str(label))] * (label >= 0)
            size = sum(BLOCK + padded(length) for length in sizes)
            if plan.images and total + size > shard_size:
                yield plan
                number, total = number + 1, 2 * BLOCK
                plan = Plan(f"{prefix}{number:06d}.tar")
            plan.images.append((f"{first + at:08d}", name, label))
            total += size
        yield plan
        first += len(order)


def padded(size: int) -> int:
    """The bytes that a tar archive needs for a file's content."""
    return -(-size // BLOCK) * BLOCK
