# SPDX-License-Identifier: Apache-2.0
"""Background augmentations: before a view is made, its background may be taken away or exchanged.

They need masks at training time and are what a regularizer without masks is compared with.
"""

from typing import Literal

import torch
from torch import Tensor

from iclmsr.data.composite import composite, inpainted
from iclmsr.data.feed import Masked
from iclmsr.data.file_set import FileSet
from iclmsr.data.images import ImageSet
from iclmsr.seeds import generator

Background = Literal["keep", "remove", "random", "swaps"]
GRAY = 128
"""The byte that a background which was taken away is filled with."""
REMOVED = -1


def exchanged(found: Masked, rows: Tensor, donors: Tensor) -> Tensor:
    """Images on the backgrounds of others.

    Args:
        found: M images, their masks, and those of their donors.
        rows: (B,) int64, which of them are wanted.
        donors: (B,) int64, on whose background each is put: its own row keeps it as it is, -1
            puts it on gray.

    Returns:
        (B, 3, H, W) uint8.
    """
    images = found.images[rows]
    changed = (donors != rows).nonzero()[:, 0]
    if not len(changed):
        return images
    rows, donors = rows[changed], donors[changed]
    behind = torch.full_like(images[changed], GRAY)
    there = donors != REMOVED
    behind[there] = inpainted(found.images[donors[there]], found.masks[donors[there]])
    images[changed] = composite(images[changed], found.masks[rows], behind)
    return images


def draw_donors(
    kind: Background, probability: float, order: Tensor, *, seed: int, epoch: int, view: int
) -> Tensor:
    """Whose background every image of the data set gets in one view of one epoch.

    Args:
        kind: ``keep``: its own. ``remove``: none (BG_RM). ``random``: that of any image
            (BG_Random). ``swaps``: view 0 of every second image in ``order`` gets the background
            of the image before it, which keeps its own: an anchor and a hard negative share one
            background; the other views get that of any image (BG_Swaps).
        probability: With which an image is changed, independently for each; for the shared
            background, each pair.
        order: (N,) permutation of the data set, in which batches are cut.
        seed: The run's seed.
        epoch: Index of the epoch.
        view: Index of the view.

    Returns:
        (N,) int64 by place in the data set; -1 for none.

    Source: Ryali, Schwab and Morcos 2021 (arXiv 2103.12719). Departure: BG_Swaps' matched
    negative is an image of the batch, as methods without a queue need it.

    >>> draw_donors("swaps", 1.0, torch.tensor([2, 0, 1, 3]), seed=0, epoch=0, view=0).tolist()
    [2, 1, 2, 1]
    """
    count = len(order)
    donors = torch.arange(count)
    if kind == "keep":
        return donors
    draw = generator(seed, "backgrounds", epoch, view)
    anyone = torch.randint(count, (count,), generator=draw)
    changed = torch.rand(count, generator=draw) < probability
    if kind == "remove":
        return donors.where(~changed, REMOVED)
    if kind == "random" or view > 0:
        return donors.where(~changed, anyone)
    pairs = order[: count - count % 2].view(-1, 2)
    first, second = pairs[changed[pairs[:, 0]]].unbind(1)
    donors[second] = first
    return donors


def fingerprint(images: ImageSet | FileSet, *, masks: bool) -> str:
    """What a run's data are known by: images and labels, and their masks where it uses them."""
    known = images.fingerprint()
    return f"{known}, masks {images.mask_fingerprint()}" if masks else known
