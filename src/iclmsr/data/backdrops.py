# SPDX-License-Identifier: Apache-2.0
"""Background augmentations: before a view is made, its background may be taken away or exchanged.

They need masks at training time and are what a regularizer without masks is compared with.
"""

from hashlib import sha256
from typing import Literal

import torch
from torch import Tensor

from iclmsr.data.composite import composite, inpainted
from iclmsr.data.file_set import FileSet
from iclmsr.data.images import ImageSet
from iclmsr.seeds import generator

Background = Literal["keep", "remove", "random", "swaps"]
GRAY = 128
"""The byte that a background which was taken away is filled with."""
REMOVED = -1


class Backdrops:
    """Images of a data set on other images' backgrounds.

    Args:
        images: With masks.
        device: Where views are made.
    """

    def __init__(self, images: ImageSet, device: torch.device) -> None:
        assert images.masks is not None, "backgrounds need masks"
        self.masks = images.masks.to(device)
        self.backgrounds = inpainted(images.images, images.masks).to(device)

    def put(self, images: Tensor, index: Tensor, donors: Tensor) -> Tensor:
        """The images (B, 3, H, W) uint8 at ``index`` on the backgrounds of their donors.

        Args:
            images: (B, 3, H, W) uint8, on the device.
            index: (B,) their places in the data set.
            donors: (B,) int64 places in the data set; an image's own keeps it as it is, -1 puts
                it on gray.

        Returns:
            (B, 3, H, W) uint8.
        """
        changed = (donors != index).nonzero()[:, 0]
        if not len(changed):
            return images
        index, donors = index[changed], donors[changed]
        there = self.backgrounds.device
        behind = self.backgrounds[donors.clamp(min=0).to(there)]
        behind[(donors == REMOVED).to(there)] = GRAY
        result = images.clone()
        changed = changed.to(there)
        result[changed] = composite(images[changed], self.masks[index.to(there)], behind)
        return result


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
    if not masks:
        return known
    assert isinstance(images, ImageSet), "checked when the run began"
    assert images.masks is not None, "checked when the run began"
    return f"{known}, masks {sha256(images.masks.numpy().data).hexdigest()}"
