# SPDX-License-Identifier: Apache-2.0
"""The order of an epoch over images that lie in shards."""

import torch
from torch import Tensor

from iclmsr.errors import IclmsrError


def shard_order(shards: Tensor, *, window: int, generator: torch.Generator) -> Tensor:
    """A random order of images that needs few shards at a time.

    The shards are shuffled and cut into windows of ``window`` shards; the images of a window are
    shuffled together. The order follows from the generator's seed alone, so it is the same
    for every process and worker, and resuming at any image is exact.

    Args:
        shards: (N,) int64, >= 0: the shard that each image is in.
        window: How many shards are mixed, >= 1. As many as there are, or more, make a plain random
            order, in which all shards are needed at once.
        generator: Of the epoch.

    Returns:
        (N,) int64 indices of the images: each once.

    Raises:
        IclmsrError: The window is < 1.

    >>> shards = torch.tensor([0, 1, 0, 1])
    >>> order = shard_order(shards, window=1, generator=torch.Generator().manual_seed(0))
    >>> shards[order].tolist() in ([0, 0, 1, 1], [1, 1, 0, 0])
    True
    """
    if window < 1:
        raise IclmsrError(f"the window of shards must be >= 1, got {window}")
    there, which = torch.unique(shards, return_inverse=True)
    rank = torch.randperm(len(there), generator=generator)
    mixed = torch.randperm(len(shards), generator=generator)
    windows = (rank // window)[which[mixed]]
    return mixed[torch.argsort(windows, stable=True)]
