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


def confusion(predicted: Tensor, labels: Tensor, classes: int) -> Tensor:
    """How often each class was taken for each.

    Args:
        predicted: (M,) int64 in [0, C).
        labels: (M,) int64 in [0, C).
        classes: C.

    Returns:
        (C, C) int64: rows are the true classes, columns the predicted ones.

    Source: none, as scikit-learn's confusion_matrix. Departure: none.

    >>> confusion(torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]), 2).tolist()
    [[1, 1], [0, 1]]
    """
    counts = torch.bincount(labels * classes + predicted, minlength=classes * classes)
    return counts.view(classes, classes)


def per_class(matrix: Tensor) -> list[float | None]:
    """Share of each class's images that were recognized, in percent.

    Args:
        matrix: (C, C) of :func:`confusion`.

    Returns:
        C numbers in [0, 100]; None for a class without images.

    Source: none. Departure: none.

    >>> per_class(torch.tensor([[1, 3, 0], [0, 2, 0], [0, 0, 0]]))
    [25.0, 100.0, None]
    """
    rows = zip(matrix.diagonal().tolist(), matrix.sum(1).tolist(), strict=True)
    return [100 * right / count if count else None for right, count in rows]
