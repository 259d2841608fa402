# SPDX-License-Identifier: Apache-2.0
"""Foregrounds on backgrounds, every one on every one."""

import torch
from torch import Tensor

from iclmsr.data.composite import composite, inpainted
from iclmsr.data.images import ImageSet


def composite_grid(images: ImageSet, side: int) -> ImageSet:
    """Every one of some foregrounds on every one of as many backgrounds, none of them its own.

    Args:
        images: N >= 2, with masks and labels.
        side: How many foregrounds, >= 1; N / 2 where there are not so many images.

    Returns:
        side * side composites, row by row: foreground i on background j is image i * side + j.
        Classes are as equal in number as possible among the foregrounds, and among those that
        the backgrounds are from.

    Source: none. Departure: none.
    """
    assert images.masks is not None
    chosen = _spread(images.labels, min(side, len(images) // 2))
    some, other = images.take(chosen[0]), images.take(chosen[1])
    assert some.masks is not None
    assert other.masks is not None
    behind = inpainted(other.images, other.masks)
    count = len(some)
    row = torch.arange(count).repeat_interleave(count)
    column = torch.arange(count).repeat(count)
    pixels = composite(some.images[row], some.masks[row], behind[column])
    return ImageSet(pixels, some.labels[row], images.classes)


def _spread(labels: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Two disjoint choices of ``count`` images, classes as equal in number as possible."""
    rank = torch.zeros_like(labels)
    for label in range(int(labels.max()) + 1):
        own = labels == label
        rank[own] = torch.arange(int(own.sum()))
    order = (rank * (int(labels.max()) + 1) + labels).argsort()
    return order[:count], order[count : 2 * count]
