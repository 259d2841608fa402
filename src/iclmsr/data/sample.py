# SPDX-License-Identifier: Apache-2.0
"""A few images of every class."""

from typing import NamedTuple

import torch

from iclmsr.data.draw import Draw
from iclmsr.data.findings import Findings
from iclmsr.data.folder import read_images
from iclmsr.data.images import ImageSet
from iclmsr.data.listing import Listing
from iclmsr.data.sources import as_variant, load
from iclmsr.data.splits import Split
from iclmsr.errors import IclmsrError
from iclmsr.seeds import generator


class Sample(NamedTuple):
    """Images of a split drawn at random.

    Attributes:
        images: The images as a run would have them; but of a variant that puts images of files on
            others' backgrounds, these are the sample's.
        names: What each is called: its class, or its own name where it has none.
        there: Images that they were drawn from, and those that cannot be used.
        split: What they were drawn from.
    """

    images: ImageSet
    names: tuple[str, ...]
    there: int
    split: str = "train"


def draw_sample(found: Findings, count: int, *, seed: int, split: str = "train") -> Sample:
    """Usable images of a split, as many of each class as of the others; no other files are read.

    Args:
        found: The data set.
        count: How many, > 0; all, if there are fewer. Where there are more classes, so many of
            them have one image each.
        seed: Of the draw.
        split: Which one.

    Raises:
        IclmsrError: There are no usable images in it, or there is no such split.
    """
    if split not in found.splits or not found.splits[split].usable():
        what = "training" if split == "train" else split
        raise IclmsrError(f"there are no {what} images to draw a sheet of")
    looked = found.splits[split]
    chosen = choose(looked, count, seed=seed)
    names = tuple(looked.labels[name] or name for name in chosen)
    if found.files is None or looked.tree is None:
        index_of = {name: index for index, name in enumerate(looked.labels)}
        index = torch.tensor([index_of[name] for name in chosen])
        images = load(found.config, "pretrain" if split == "train" else split)
        return Sample(images.take(index), names, len(looked), split)
    labels = tuple(
        looked.classes.index(looked.labels[name]) if looked.labels[name] else -1 for name in chosen
    )
    listing = Listing(looked.tree, tuple(chosen), labels, looked.classes)
    images = read_images(
        listing,
        image_size=found.config.image_size,
        on_corrupt="error",
        draw=Draw(),
        masks=found.files.masks_of(split),
        decoder=found.config.decoder,
    )
    shown = as_variant(images, found.config, split)
    assert isinstance(shown, ImageSet)
    return Sample(shown, names, len(looked), split)


def choose(split: Split, count: int, *, seed: int) -> list[str]:
    """Names of usable images, drawn in turn from every class, in the order of the classes.

    Args:
        split: The images.
        count: How many at most, > 0.
        seed: Of the draw.
    """
    labels, usable = split.labels, split.usable()
    draw = generator(seed, "sample")
    groups: dict[str, list[str]] = {}
    for index in torch.randperm(len(usable), generator=draw).tolist():
        groups.setdefault(labels[usable[index]], []).append(usable[index])
    turns = [
        (turn, place, name)
        for place, group in enumerate(groups.values())
        for turn, name in enumerate(group[:count])
    ]
    rank = {label: place for place, label in enumerate((*split.classes, ""))}
    order = {name: place for place, name in enumerate(labels)}
    names = [name for _, _, name in sorted(turns)[:count]]
    return sorted(names, key=lambda name: (rank[labels[name]], order[name]))
