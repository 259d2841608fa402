# SPDX-License-Identifier: Apache-2.0
"""How often the right class is among the first k."""

import torch
from torch import Tensor

from iclmsr.errors import IclmsrError


def topk_accuracy(scores: Tensor, labels: Tensor, k: int) -> float:
    """Share of rows whose own class is among the k with the highest scores, in percent.

    Equal scores rank by the smaller class. Integer scores count votes: a class without a vote
    is never right, whatever its rank. A class whose score is NaN is never right either.

    Args:
        scores: (M, C), M >= 1; floating, or integer votes >= 0.
        labels: (M,) int64 in [0, C).
        k: >= 1; with k >= C every scored class is among the first k.

    Returns:
        In [0, 100] percent.

    Raises:
        IclmsrError: Shapes that do not go together, or k < 1.

    Source: W-MSE's public code (ties). Departure: none.

    >>> topk_accuracy(torch.tensor([[0.2, 0.4, 0.4], [0.9, 0.1, 0.0]]), torch.tensor([1, 1]), 1)
    50.0
    """
    if scores.ndim != 2 or not len(scores) or labels.shape != scores.shape[:1]:
        raise IclmsrError(
            f"accuracy needs scores (M, C) and labels (M,) with M >= 1, "
            f"got {tuple(scores.shape)} and {tuple(labels.shape)}"
        )
    if k < 1:
        raise IclmsrError(f"k of top-k accuracy must be >= 1, got {k}")
    own = scores.gather(1, labels[:, None])  # (M, 1)
    classes = torch.arange(scores.shape[1], device=scores.device)
    ahead = (scores > own) | ((scores == own) & (classes < labels[:, None]))  # (M, C)
    counts = ~own.isnan() if scores.is_floating_point() else own > 0
    right = (ahead.sum(1) < k) & counts[:, 0]
    return 100 * int(right.sum()) / len(right)
