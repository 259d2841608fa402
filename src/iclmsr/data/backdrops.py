# SPDX-License-Identifier: Apache-2.0
"""Background augmentations: before a view is made, its background may be taken away or exchanged.

They need masks at training time and are what a regularizer without masks is compared with.
"""

from collections.abc import Sequence
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
    kinds: Sequence[Background], probability: float, order: Tensor, *, seed: int, epoch: int
) -> list[Tensor]:
    """Whose background every image of the data set gets in each view of one epoch.

    Under ``swaps`` images that follow each other in ``order`` form groups, as many as there are
    views with backgrounds of their own: two views, pairs. One view shows an image on its own
    background, the next on that of the next image in its group, and so on around. Whichever view
    is the anchor, its positive in any other view has another background, and in that view another
    image, a hard negative, has the anchor's.

    Args:
        kinds: (V) what each view does. ``keep``: its own. ``remove``: none (BG_RM). ``random``:
            that of any image (BG_Random). ``swaps``: as above (BG_Swaps); views that keep theirs
            are the first in their group.
        probability: With which an image is changed, independently in each view; for ``swaps``,
            each group in all views at once.
        order: (N,) permutation of the data set, in which batches are cut. A batch holds whole
            groups where its size is a multiple of theirs.
        seed: The run's seed.
        epoch: Index of the epoch.

    Returns:
        V times (N,) int64 by place in the data set; -1 for none.

    Source: Ryali, Schwab and Morcos 2021 (arXiv 2103.12719). Departure: BG_Swaps' hard negative is
    an image of the batch, seen by every loss that compares an anchor with the batch's other images
    in another view, not a further entry of a queue; and the positive's background is that of an
    image of the group, not of any. A loss that takes its negatives from a queue alone (ReSSL), or
    has none (BYOL, SimSiam, DINO and those of covariances), is left with positives on other
    backgrounds.

    >>> order = torch.tensor([2, 0, 1, 3])  # pairs 2, 0 and 1, 3
    >>> one, other = draw_donors(["swaps", "swaps"], 1.0, order, seed=0, epoch=0)
    >>> one.tolist(), other.tolist()
    ([0, 1, 2, 3], [2, 3, 0, 1])
    """
    turned = [view for view, kind in enumerate(kinds) if kind == "swaps"]
    first = int(len(turned) < len(kinds))  # another view shows images on their own backgrounds
    swaps = _swaps(len(turned) + first, probability, order, seed=seed, epoch=epoch)
    donors = []
    for view, kind in enumerate(kinds):
        own = torch.arange(len(order))
        draw = generator(seed, "backgrounds", epoch, view)
        anyone = torch.randint(len(order), own.shape, generator=draw)
        changed = torch.rand(len(order), generator=draw) < probability
        if kind == "swaps":
            own[swaps] = swaps.roll(-(first + turned.index(view)), 1)
        elif kind == "remove":
            own[changed] = REMOVED
        elif kind == "random":
            own[changed] = anyone[changed]
        donors.append(own)
    return donors


def _swaps(size: int, probability: float, order: Tensor, *, seed: int, epoch: int) -> Tensor:
    """The groups (G, size) of an epoch whose images exchange backgrounds."""
    groups = order[: len(order) - len(order) % size].view(-1, size)
    luck = torch.rand(len(groups), generator=generator(seed, "backgrounds", epoch, "swaps"))
    return groups[luck < probability]


def fingerprint(images: ImageSet | FileSet, *, masks: bool) -> str:
    """What a run's data are known by: images and labels, and their masks where it uses them.

    Args:
        images: The training images.
        masks: Whether the run uses their masks.
    """
    known = images.fingerprint()
    return f"{known}, masks {images.mask_fingerprint()}" if masks else known
