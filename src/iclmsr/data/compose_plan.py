# SPDX-License-Identifier: Apache-2.0
"""Which objects and scenes make which composite: every choice of ``iclmsr data compose``."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import torch

from iclmsr.data.classes import shown
from iclmsr.data.listing import FOLDERS, Listing, Rules, list_folder
from iclmsr.data.names import printable
from iclmsr.data.scene_groups import groups_of
from iclmsr.data.trees import Tree
from iclmsr.errors import IclmsrError
from iclmsr.seeds import generator

FRONTS = ("train", "val", "test")
"""The splits that have objects of their own."""
SWAPPED = "-swapped"
LARGEST = 4096
"""Pixels of a composite's side: a few of that size fit the memory."""


@dataclass(frozen=True)
class ComposeConfig:
    """How objects are composited on scenes.

    Raises:
        IclmsrError: A value is outside its range.
    """

    masks: Path | None = None
    """A folder or archive of the objects' masks, in parallel to their images; None: the folder
    masks in OBJECTS."""
    groups: Path | None = None
    """A text file with a line GROUP: SCENE-CLASS SCENE-CLASS ... for each group of scenes, as many
    as there are object classes; None deals the sorted scene classes to as many groups."""
    object_pattern: str = "^[^-]+"
    """A regular expression that finds the object in the name of its image, without the ending:
    group 1 if it has one, else all of the match. Images of one object stay in one split."""
    rho: float = 0.9
    """Strength of the confounding in train, val and test, in [0, 1]: with probability rho an
    object is on a scene of its class's own group, else of a uniform one of all groups."""
    copies: int = 1
    """Composites of each image of an object, >= 1."""
    size: int = 64
    """Height and width of a composite, pixels, in [8, 4096]."""
    scale: tuple[float, float] = (0.5, 0.8)
    """Smallest and largest share of the side that an object's longer side takes, in (0, 1]."""
    flip: float = 0.5
    """Probability that an object is flipped left to right, in [0, 1]."""
    erode: int = 1
    """Pixels that are taken off the edge of an object, where its old background shines in, in
    [0, size]."""
    softness: float = 0.5
    """How soft the edge is on the new one: standard deviation of a blur, pixels, in [0,
    size]."""
    val_objects: int = 2
    """Objects of each class, of those to train on, that are held out for val, >= 1."""
    test_objects: int = 2
    """Objects of each class for test, >= 1; only where OBJECTS has no folder test."""
    val_scenes: float = 0.2
    """Share of each class's scenes, of those to train on, that are held out for val, in (0, 1)."""
    test_scenes: float = 0.2
    """Share of each class's scenes for test, in (0, 1); only where SCENES has no folder test."""
    seed: int = 0
    """Of every draw."""

    def __post_init__(self) -> None:
        for name, least, most in (
            ("copies", 1, math.inf),
            ("size", 8, LARGEST),
            ("erode", 0, self.size),
            ("softness", 0, self.size),
            ("val_objects", 1, math.inf),
            ("test_objects", 1, math.inf),
        ):
            value = getattr(self, name)
            if not least <= value <= most:
                allowed = f">= {least}" if most == math.inf else f"in [{least}, {most}]"
                raise IclmsrError(f"--{name.replace('_', '-')} must be {allowed}, got {value}")
        for name in ("rho", "flip"):
            if not 0 <= getattr(self, name) <= 1:
                raise IclmsrError(f"--{name} must be in [0, 1], got {getattr(self, name)}")
        for name in ("val_scenes", "test_scenes"):
            if not 0 < getattr(self, name) < 1:
                raise IclmsrError(
                    f"--{name.replace('_', '-')} must be in (0, 1), got {getattr(self, name)}"
                )
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise IclmsrError(f"--scale must have 0 < low <= high <= 1, got {self.scale}")
        try:
            re.compile(self.object_pattern)
        except re.error as error:
            raise IclmsrError(
                f"--object-pattern {self.object_pattern!r} is no regular expression: {error}"
            ) from error


class Objects(NamedTuple):
    """The objects of a data set.

    Attributes:
        classes: Their classes, sorted.
        images: Of every split, (path, label, object) of each image, in order.
    """

    classes: tuple[str, ...]
    images: Mapping[str, list[tuple[str, int, str]]]

    def names(self, split: str) -> dict[str, list[str]]:
        """The objects of each class in a split, sorted."""
        found: dict[str, set[str]] = {name: set() for name in self.classes}
        for _, label, name in self.images[split]:
            found[self.classes[label]].add(name)
        return {name: sorted(objects) for name, objects in found.items()}


class Scenes(NamedTuple):
    """Scenes by group.

    Attributes:
        groups: The scene classes of each group, in sorted order of the groups: the k-th group is
            the own one of the k-th object class.
        images: Of every split, the paths of each group's scenes, in that order.
    """

    groups: Mapping[str, tuple[str, ...]]
    images: Mapping[str, list[list[str]]]


class Place(NamedTuple):
    """One composite, but for its scene.

    Attributes:
        share: The object's longer side, as a share of the composite's.
        across: Where it lies in the room that is left, from the left, in [0, 1).
        down: The same from the top.
        flipped: Whether it is flipped left to right.
    """

    share: float
    across: float
    down: float
    flipped: bool


def split_objects(tree: Tree, config: ComposeConfig) -> Objects:
    """Deals objects to train, val and test: images of one object are in one split only.

    Args:
        tree: Images in CLASS/, or in train/CLASS/ and test/CLASS/; its folder masks is left out.
        config: How many objects are held out, by which seed.

    Raises:
        IclmsrError: A class has too few objects, or an object of train is in test, too.
    """
    train, test = _listings(tree, Rules(FOLDERS))
    known = [_object_of(name, config.object_pattern) for name in train.files]
    images: dict[str, list[tuple[str, int, str]]] = {name: [] for name in FRONTS}
    if test is not None:
        names = [_object_of(name, config.object_pattern) for name in test.files]
        images["test"] = list(zip(test.files, test.labels, names, strict=True))
        both = set(zip(train.labels, known, strict=True)) & set(
            zip(test.labels, names, strict=True)
        )
        if both:
            raise IclmsrError(
                f"objects in train and in test of {tree.where('')}: "
                f"{shown([name for _, name in both])}; move them, or name objects by another "
                "--object-pattern"
            )
    split_of: dict[tuple[int, str], str] = {}
    held = config.val_objects + (0 if test is not None else config.test_objects)
    for label, name in enumerate(train.classes):
        there = sorted({one for one, of in zip(known, train.labels, strict=True) if of == label})
        if len(there) <= held:
            raise IclmsrError(
                f"class {name!r} has {len(there)} objects to train on ({shown(there)}), and "
                f"{held} of them are to be held out: add some, lower --val-objects, or name "
                "objects by another --object-pattern"
            )
        draw = generator(config.seed, "compose", "objects", name)
        order = torch.randperm(len(there), generator=draw).tolist()
        for rank, place in enumerate(order):
            held_out = "val" if rank < config.val_objects else "test"
            split_of[label, there[place]] = held_out if rank < held else "train"
    for path, label, name in zip(train.files, train.labels, known, strict=True):
        images[split_of[label, name]].append((path, label, name))
    return Objects(train.classes, images)


def split_scenes(tree: Tree, classes: Sequence[str], config: ComposeConfig) -> Scenes:
    """Groups scene classes, and deals their scenes to train, val and test.

    Args:
        tree: Images in CLASS/, or in train/CLASS/ and test/CLASS/.
        classes: The objects', as many as there will be groups.
        config: The groups, or None; how many scenes are held out, by which seed.

    Raises:
        IclmsrError: There are too few classes or scenes, or the groups name others.
    """
    train, test = _listings(tree, Rules(FOLDERS))
    groups = groups_of(train, classes, config.groups)
    images: dict[str, list[list[str]]] = {name: [] for name in FRONTS}
    for members in groups.values():
        for split in FRONTS:
            images[split].append([])
        for name in members:
            scenes = _of(train, name)
            draw = generator(config.seed, "compose", "scenes", name)
            scenes = [scenes[i] for i in torch.randperm(len(scenes), generator=draw).tolist()]
            tested = [] if test is None else _of(test, name)
            if test is None:
                count = max(1, round(config.test_scenes * len(scenes)))
                tested, scenes = scenes[:count], scenes[count:]
            count = max(1, round(config.val_scenes * len(scenes)))
            parts = {"val": scenes[:count], "train": scenes[count:], "test": tested}
            for split, part in parts.items():
                if not part:
                    raise IclmsrError(
                        f"scene class {name!r} in {tree.where('')} has too few images: none is "
                        f"left for {split}"
                    )
                images[split][-1] += sorted(part)
    return Scenes(groups, images)


def places(count: int, front: str, config: ComposeConfig) -> list[Place]:
    """Where objects lie in ``count`` composites of the split ``front``, in their order."""
    draw = generator(config.seed, "compose", front, "places")
    numbers = torch.rand(count, 4, generator=draw, dtype=torch.float64).tolist()
    low, high = config.scale
    return [
        Place(low + (high - low) * share, across, down, flip < config.flip)
        for share, across, down, flip in numbers
    ]


def draw_scenes(
    labels: Sequence[int], scenes: Sequence[Sequence[str]], split: str, config: ComposeConfig
) -> list[tuple[int, str]]:
    """The group and the scene of each composite.

    Args:
        labels: The object's class in each composite.
        scenes: Each group's scenes.
        split: The split; one that ends in ``-swapped`` has rho = 0.
        config: rho and the seed.

    >>> everyone = ComposeConfig(rho=1)
    >>> draw_scenes([1, 0], [["alp.png"], ["reef.png"]], "train", everyone)
    [(1, 'reef.png'), (0, 'alp.png')]
    """
    draw = generator(config.seed, "compose", split, "scenes")
    rho = 0.0 if split.endswith(SWAPPED) else config.rho
    count = len(labels)
    own = torch.rand(count, generator=draw, dtype=torch.float64) < rho
    anyone = torch.randint(len(scenes), (count,), generator=draw)
    groups = torch.where(own, torch.tensor(labels), anyone).tolist()
    share = torch.rand(count, generator=draw, dtype=torch.float64).tolist()
    return [
        (group, scenes[group][int(part * len(scenes[group]))])
        for group, part in zip(groups, share, strict=True)
    ]


def _listings(tree: Tree, rules: Rules) -> tuple[Listing, Listing | None]:
    """Images by class, of train and, if there is such a folder, of test."""
    train = list_folder(tree, "train", rules)
    if not train.classes:
        raise IclmsrError(f"the images in {tree.where('')} have no classes: move them to CLASS/")
    has_test = not set(rules.folders["test"]).isdisjoint(tree.folders())
    return train, list_folder(tree, "test", rules) if has_test else None


def _of(listing: Listing, name: str) -> list[str]:
    """The files of a class."""
    label = listing.classes.index(name)
    return [file for file, of in zip(listing.files, listing.labels, strict=True) if of == label]


def _object_of(path: str, pattern: str) -> str:
    """The object that an image shows."""
    stem = PurePosixPath(path).stem
    match = re.search(pattern, stem)
    found = match and match[1 if match.re.groups else 0]
    if not found:
        raise IclmsrError(
            f"--object-pattern {pattern!r} finds no object in {printable(stem)!r}, of "
            f"{printable(path)}"
        )
    return found
