# SPDX-License-Identifier: Apache-2.0
"""Objects composited on scenes that say something about their class, in the way of Waterbirds."""

import hashlib
import io
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.progress import track
from torch import Tensor

from iclmsr import __version__
from iclmsr.data.compose_plan import (
    FRONTS,
    SWAPPED,
    ComposeConfig,
    Objects,
    Scenes,
    draw_scenes,
    places,
    split_objects,
    split_scenes,
)
from iclmsr.data.composite import composite
from iclmsr.data.cutouts import Cutout, cut_out, put
from iclmsr.data.decode import FaintMask, Unusable, careful, decode_image
from iclmsr.data.folder import mask_name
from iclmsr.data.image_files import write_backgrounds
from iclmsr.data.listing import top
from iclmsr.data.places import check_outside
from iclmsr.data.readers import open_masks
from iclmsr.data.trees import Content, Tree, open_tree
from iclmsr.errors import IclmsrError
from iclmsr.files import whole_folder, write_json

SPLITS = {"train": ("train",), "val": ("val", "val-swapped"), "test": ("test", "test-swapped")}
"""Splits made of the same objects in the same places, by the one that they are drawn for."""
CHOICES = "compose.json"


@dataclass(frozen=True)
class Composed:
    """What :func:`compose` made.

    Attributes:
        counts: Composites in each split.
        own: Of each split, the share on a scene of the class's own group, in [0, 1].
        pairs: Each object class's own group.
    """

    counts: dict[str, int]
    own: dict[str, float]
    pairs: dict[str, str]


def compose(objects: Path, scenes: Path, out: Path, config: ComposeConfig) -> Composed:
    """Makes a data set of objects on scenes, whole or not at all, the same bytes from one seed.

    Args:
        objects: Images of objects by class, with masks, in train and test or not.
        scenes: Images of scenes by class, in train and test or not.
        out: The folder to make: ``SPLIT/CLASS/NAME.png``, ``masks/SPLIT/CLASS/NAME.png``,
            ``backgrounds.csv`` (path, group of scenes) and ``compose.json`` (every choice).
            Splits: train, val and test with ``config.rho``; val-swapped and test-swapped, the
            objects of val and test in the same places on scenes drawn with rho = 0.
        config: How.

    Raises:
        IclmsrError: Something is there already; the images, masks or groups are not what they
            should be; it lies in them, or cannot be written. Nothing is left of it then.

    Source: Sagawa et al. 2020 (arXiv 1911.08731), section 4.1. Departure: as many classes and
    groups as one likes; without a bond (1 - rho) a group is uniform, so may be the own one.
    """
    check_outside(out, objects, scenes)
    tree, behind = (top(open_tree(path)) for path in (objects, scenes))
    cast = split_objects(tree, config)
    stage = split_scenes(behind, cast.classes, config)
    masks = open_masks(objects if config.masks is None else config.masks, tree)
    maker = _Maker(tree, masks, behind, cast, stage, config)
    with whole_folder(out) as folder, careful(FaintMask):
        rows = [row for front in FRONTS for row in maker.make(front, folder)]
        write_backgrounds(folder, rows)
        write_json(folder / CHOICES, maker.choices())
    return Composed(maker.counts, maker.own, dict(zip(cast.classes, stage.groups, strict=True)))


class _Maker:
    """Makes one split after the other."""

    def __init__(
        self,
        tree: Tree,
        masks: Tree,
        behind: Tree,
        cast: Objects,
        stage: Scenes,
        config: ComposeConfig,
    ) -> None:
        self.tree, self.masks, self.behind = tree, masks, behind
        self.cast, self.stage, self.config = cast, stage, config
        self.counts: dict[str, int] = {}
        self.own: dict[str, float] = {}
        self.hashes: dict[str, str] = {}
        self.used = hashlib.sha256()

    def make(self, front: str, folder: Path) -> Iterator[tuple[str, str]]:
        """Writes the splits that show the objects of ``front``; yields paths and groups."""
        config, images = self.config, self.cast.images[front]
        count = len(images) * config.copies
        labels = [label for _, label, _ in images for _ in range(config.copies)]
        where = places(count, front, config)
        drawn = {
            split: draw_scenes(labels, self.stage.images[front], split, config)
            for split in SPLITS[front]
        }
        digests = {split: hashlib.sha256() for split in drawn}
        groups = list(self.stage.groups)
        names = self._names(front)
        for number, (path, _, _) in enumerate(self._shown(images, front)):
            cutout = self._cutout(path)
            part = range(number * config.copies, (number + 1) * config.copies)
            placed = [put(cutout, where[place], config.size) for place in part]
            pixels, inside = (torch.stack(list(column)) for column in zip(*placed, strict=True))
            for split, scenes in drawn.items():
                back = torch.stack([self._scene(scenes[place][1]) for place in part])
                made = composite(pixels, inside, back, config.softness)
                for place, image, mask in zip(part, made, inside, strict=True):
                    name = f"{split}/{names[place]}"
                    content = _png(image.permute(1, 2, 0)), _png(mask.byte() * 255)
                    digests[split].update(name.encode("utf-8", "surrogateescape"))
                    for file, data in zip((name, f"masks/{name}"), content, strict=True):
                        digests[split].update(data)
                        (folder / file).parent.mkdir(parents=True, exist_ok=True)
                        (folder / file).write_bytes(data)
                    yield name, groups[scenes[place][0]]
        for split, scenes in drawn.items():
            self.counts[split] = count
            own = sum(group == label for label, (group, _) in zip(labels, scenes, strict=True))
            self.own[split] = own / count
            self.hashes[split] = digests[split].hexdigest()

    def choices(self) -> dict[str, Any]:
        """Everything that was chosen or drawn, as JSON values."""
        config = {
            name: str(value) if isinstance(value, Path) else value
            for name, value in asdict(self.config).items()
        }
        splits = {
            split: {
                "images": self.counts[split],
                "rho": 0.0 if split.endswith(SWAPPED) else self.config.rho,
                "share_on_own_group": self.own[split],
                "sha256": self.hashes[split],
            }
            for fronts in SPLITS.values()
            for split in fronts
        }
        groups = {
            name: {"class": own, "scene_classes": list(members)}
            for own, (name, members) in zip(
                self.cast.classes, self.stage.groups.items(), strict=True
            )
        }
        return {
            "version": __version__,
            "objects": str(self.tree.place),
            "scenes": str(self.behind.place),
            "config": config,
            "groups": groups,
            "splits": splits,
            "objects_in": {front: self.cast.names(front) for front in FRONTS},
            "scenes_in": {
                front: dict(zip(self.stage.groups, self.stage.images[front], strict=True))
                for front in FRONTS
            },
            "inputs_sha256": self.used.hexdigest(),
        }

    def _names(self, front: str) -> list[str]:
        """CLASS/NAME.png of every composite."""
        found, taken = [], set[str]()
        for path, label, _ in self.cast.images[front]:
            stem = PurePosixPath(path).stem
            kind = self.cast.classes[label]
            if f"{kind}/{stem}" in taken:
                raise IclmsrError(
                    f"two images of class {kind!r} in {self.tree.where('')} are called {stem!r}: "
                    "rename one"
                )
            taken.add(f"{kind}/{stem}")
            found += [f"{kind}/{stem}-{copy}.png" for copy in range(self.config.copies)]
        return found

    def _cutout(self, path: str) -> Cutout:
        """The object in an image."""
        image = _read(self.tree, path)
        name = self.masks.where(mask_name(path))
        try:
            mask = _read(self.masks, mask_name(path))
        except (FileNotFoundError, KeyError) as error:
            raise IclmsrError(f"{self.tree.where(path)} has no mask {name}") from error
        for content in (image, mask):
            self.used.update(content if isinstance(content, bytes) else b"")
        try:
            return cut_out(image, mask, name, self.config.erode)
        except Unusable as error:
            raise IclmsrError(f"{self.tree.where(path)} {error}: mend or remove it") from error

    def _scene(self, path: str) -> Tensor:
        """A scene (3, S, S)."""
        content = _read(self.behind, path)
        self.used.update(content if isinstance(content, bytes) else b"")
        try:
            return torch.from_numpy(decode_image(content, self.config.size)[0].copy())
        except Unusable as error:
            raise IclmsrError(f"{self.behind.where(path)} {error}: mend or remove it") from error

    def _shown(
        self, images: list[tuple[str, int, str]], front: str
    ) -> Iterator[tuple[str, int, str]]:
        """The images, with a bar on a terminal."""
        console = Console(stderr=True)
        hidden = not console.is_terminal
        yield from track(images, front, console=console, transient=True, disable=hidden)


def _read(tree: Tree, name: str) -> Content:
    """One file; raises where that takes all files before it."""
    try:
        reader = tree.reader(name)
    except IclmsrError as error:
        raise IclmsrError(
            f"cannot read {tree.where(name)} without all files before it: unpack the archive, or "
            "pack it as .tar or .zip"
        ) from error
    return reader()


def _png(pixels: Tensor) -> bytes:
    """An image (H, W, 3) or (H, W) uint8 as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels.numpy())).save(buffer, "PNG")
    return buffer.getvalue()
