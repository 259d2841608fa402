# SPDX-License-Identifier: Apache-2.0
"""The variants of ImageNet-9: the same images with foreground or background taken or exchanged."""

from collections.abc import Callable
from dataclasses import replace
from typing import Literal, get_args

import torch
from torch import Tensor

from iclmsr.data.composite import SOFTNESS, composite, inpainted
from iclmsr.data.images import ImageSet
from iclmsr.errors import IclmsrError, nearest
from iclmsr.seeds import generator

Variant = Literal[
    "original",
    "only_fg",
    "only_bg_b",
    "only_bg_t",
    "no_fg",
    "mixed_same",
    "mixed_rand",
    "mixed_next",
]
Filler = Literal["gray", "mean", "black"]


def make_variant(
    images: ImageSet,
    variant: Variant,
    *,
    filler: Filler = "gray",
    seed: int = 0,
    softness: float = SOFTNESS,
) -> ImageSet:
    """A set of images under one variant.

    Args:
        images: With masks; those of a class are donors for each other.
        variant: ``original``; ``only_fg``: the background filled; ``only_bg_b``: the foreground's
            box black; ``only_bg_t``: the box tiled with the background beside it; ``no_fg``: the
            foreground black; ``mixed_same``, ``mixed_rand``, ``mixed_next``: on the inpainted
            background of another image of the same, of any, of the next class.
        filler: Of ``only_fg``: gray (128), the mean color of the set, or black.
        seed: Of the donors.
        softness: Blur of the mask's edge where foregrounds are pasted on another image's
            background, pixels, >= 0; all other variants have hard edges.

    Returns:
        The images in their order, with their masks; ``backgrounds`` of mixed images are the
        donors' where these are known, else the donors' classes, and None where there is no
        background left.

    Raises:
        IclmsrError: No such variant, no masks, or images without labels where donors are drawn
            by class.

    Source: Xiao et al. 2020, section 2 and Table 1. Departure: inpainted backgrounds instead of
    tiled ones behind mixed foregrounds, and soft edges there.
    """
    if variant not in get_args(Variant):
        raise IclmsrError(f"unknown variant {variant!r}: {nearest(variant, get_args(Variant))}")
    check_variant(variant, masks=images.masks is not None, labels=bool((images.labels >= 0).all()))
    if filler not in get_args(Filler):
        raise IclmsrError(f"unknown filler {filler!r}: {nearest(filler, get_args(Filler))}")
    if variant == "original":
        return images
    pixels, masks = images.images, images.masks
    assert masks is not None  # it has been checked
    if variant == "only_fg":
        fill = torch.tensor(_fill(pixels, filler), dtype=torch.uint8)[:, None, None]
        return replace(
            images,
            images=torch.where(masks[:, None], pixels, fill),
            backgrounds=None,
            background_names=(),
        )
    if variant in _REMOVED:
        return replace(images, images=_REMOVED[variant](pixels, masks))
    donors = _donors(images.labels, len(images.classes), variant, seed)
    behind = inpainted(pixels, masks)[donors]
    known = images.backgrounds is not None
    kinds = images.labels if images.backgrounds is None else images.backgrounds
    return replace(
        images,
        images=composite(pixels, masks, behind, softness),
        backgrounds=kinds[donors],
        background_names=images.background_names if known else images.classes,
    )


def check_variant(variant: Variant, *, masks: bool, labels: bool, on_disk: bool = False) -> None:
    """Raises unless there is what a variant needs.

    Args:
        variant: The variant.
        masks: Whether the images have masks.
        labels: Whether they all have labels.
        on_disk: Whether they stay there.

    Raises:
        IclmsrError: They lack masks, or labels where donors are drawn by class, or stay on disk.
    """
    if variant == "original":
        return
    if on_disk:
        raise IclmsrError(
            f"data.variant {variant} is for images in memory, these stay on disk: pass "
            "--data.resident memory"
        )
    if not masks:
        raise IclmsrError(
            f"variant {variant} needs foreground masks: pass --data.masks PATH; `iclmsr masks` "
            "makes some"
        )
    if variant.startswith("mixed") and not labels:
        raise IclmsrError(f"variant {variant} takes donors by class: every image needs a label")


def boxes(masks: Tensor) -> Tensor:
    """Top, left, bottom, right (beyond the last pixel) of each foreground, (N, 4) int64.

    Args:
        masks: (N, H, W) bool; an empty one has the box 0, 0, 0, 0.

    >>> boxes(torch.tensor([[[False, False], [False, True]]])).tolist()
    [[1, 1, 2, 2]]
    """
    rows, columns = masks.any(2), masks.any(1)
    sides = []
    for line in (rows, columns):
        some = line.any(1)
        first = line.int().argmax(1)
        last = line.shape[1] - line.flip(1).int().argmax(1)
        sides.append((first * some, last * some))
    (top, bottom), (left, right) = sides
    return torch.stack([top, left, bottom, right], 1)


def _fill(pixels: Tensor, filler: Filler) -> list[int]:
    """The byte of each channel that a background is filled with."""
    if filler == "mean":
        return [round(value) for value in pixels.double().mean((0, 2, 3)).tolist()]
    return [128 if filler == "gray" else 0] * 3


def _box_black(pixels: Tensor, masks: Tensor) -> Tensor:
    """The foreground's bounding box black."""
    return pixels.masked_fill(_inside(masks)[:, None], 0)


def _box_tiled(pixels: Tensor, masks: Tensor) -> Tensor:
    """The box filled with copies of the largest strip of background beside it, side by side."""
    height, width = masks.shape[1:]
    result = pixels.clone()
    for image, (top, left, bottom, right) in zip(result, boxes(masks).tolist(), strict=True):
        strips = {
            (0, top, 0, width): top * width,
            (bottom, height, 0, width): (height - bottom) * width,
            (0, height, 0, left): height * left,
            (0, height, right, width): height * (width - right),
        }
        (first, last, start, end), area = max(strips.items(), key=lambda strip: strip[1])
        box = image[:, top:bottom, left:right]
        if not area or not box.numel():
            box.zero_()
            continue
        tile = image[:, first:last, start:end]
        rows = torch.arange(bottom - top) % tile.shape[1]
        columns = torch.arange(right - left) % tile.shape[2]
        box.copy_(tile[:, rows][:, :, columns].clone())
    return result


def _inside(masks: Tensor) -> Tensor:
    """Each foreground's bounding box, (N, H, W) bool."""
    top, left, bottom, right = boxes(masks)[:, :, None, None].unbind(1)
    rows = torch.arange(masks.shape[1])[None, :, None]
    columns = torch.arange(masks.shape[2])[None, None, :]
    inside: Tensor = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
    return inside


_REMOVED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "only_bg_b": _box_black,
    "only_bg_t": _box_tiled,
    "no_fg": lambda pixels, masks: pixels.masked_fill(masks[:, None], 0),
}


def _donors(labels: Tensor, classes: int, variant: str, seed: int) -> Tensor:
    """Whose background each image gets, (N,) int64: never its own where there is another."""
    draw = generator(seed, "variants", variant)
    count = len(labels)
    if variant == "mixed_rand":
        kinds = torch.randint(classes, (count,), generator=draw)
    else:
        kinds = (labels + (variant == "mixed_next")) % classes
    luck = torch.rand(count, generator=draw, dtype=torch.float64)
    donors = torch.empty(count, dtype=torch.int64)
    members = [(labels == kind).nonzero()[:, 0] for kind in range(classes)]
    for kind, own in enumerate(members):
        asked = (kinds == kind).nonzero()[:, 0]
        pool = own if len(own) else torch.arange(count)
        rank = torch.searchsorted(pool, asked).clamp(max=len(pool) - 1)
        others = (pool[rank] == asked) & (len(pool) > 1)
        place = (luck[asked] * (len(pool) - others.long())).long()
        donors[asked] = pool[place + (others & (place >= rank)).long()]  # passes over itself
    return donors
