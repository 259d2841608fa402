# SPDX-License-Identifier: Apache-2.0
"""The order of an epoch over images that lie in shards, and which rank has which of them."""

import torch
from torch import Tensor

from iclmsr.errors import IclmsrError


def shard_order(
    shards: Tensor,
    *,
    window: int,
    generator: torch.Generator,
    ranks: int = 1,
    batch_size: int = 1,
) -> Tensor:
    """A random order of images in which a rank needs few shards at a time, and only its own.

    The shards of a rank are shuffled and cut into windows of ``window`` shards; the images of a
    window are shuffled together. A batch takes as many images from each rank's sequence, and in
    their order. All follows from the generator's seed and the number of ranks, so it is the same
    for every process and worker, and resuming at any batch is exact.

    Args:
        shards: (N,) int64, >= 0: the shard that each image is in.
        window: How many shards a rank mixes, >= 1. As many as it has, or more, make a plain random
            order, in which all of them are needed at once.
        generator: Of the epoch.
        ranks: R >= 1, among whom the shards are shared out, see :func:`shares`.
        batch_size: B, images of a batch, a multiple of R.

    Returns:
        (N,) int64 indices of the images: each once. Of each batch of B but the N mod B images at
        the end, the r-th of R equal parts are images of rank r.

    Raises:
        IclmsrError: The window is < 1.

    >>> shards = torch.tensor([0, 1, 0, 1])
    >>> order = shard_order(shards, window=1, generator=torch.Generator().manual_seed(0))
    >>> shards[order].tolist() in ([0, 0, 1, 1], [1, 1, 0, 0])
    True
    >>> two = {"generator": torch.Generator(), "ranks": 2, "batch_size": 2}
    >>> shards[shard_order(shards, window=1, **two)].tolist()
    [0, 1, 0, 1]
    """
    if window < 1:
        raise IclmsrError(f"the window of shards must be >= 1, got {window}")
    there, which = torch.unique(shards, return_inverse=True)
    turn = torch.randperm(len(there), generator=generator)[which]
    mixed = torch.randperm(len(shards), generator=generator)
    share = shares(shards, ranks)[mixed]
    sequences = []
    for rank in range(ranks):
        own = mixed[share == rank]
        _, turns = torch.unique(turn[own], return_inverse=True)
        sequences.append(own[torch.argsort(turns // window, stable=True)])
    batches, each = len(shards) // batch_size, batch_size // ranks
    parts = [own[: batches * each].view(batches, each) for own in sequences]
    rest = [own[batches * each :] for own in sequences]
    return torch.cat([torch.cat(parts, dim=1).flatten(), *rest])


def shares(shards: Tensor, ranks: int) -> Tensor:
    """Whose each image is: the same in every epoch, as many for each rank but for one.

    Rank r has the shards r, r + R, r + 2R and so on. Where that does not give every rank as many
    images, neighbours share a shard, R - 1 of them at most.

    Args:
        shards: (N,) int64, >= 0: the shard that each image is in.
        ranks: R >= 1.

    Returns:
        (N,) int64 in [0, R).

    >>> shares(torch.tensor([0, 0, 1, 1, 2, 2, 2]), 2).tolist()  # shard 2 has an image too many
    [0, 0, 1, 1, 0, 0, 1]
    """
    there, which = torch.unique(shards, return_inverse=True)
    dealt = torch.arange(len(there)) % ranks * len(there) + torch.arange(len(there))
    share = torch.empty_like(which)
    for rank, own in enumerate(torch.argsort(dealt[which], stable=True).tensor_split(ranks)):
        share[own] = rank
    return share
