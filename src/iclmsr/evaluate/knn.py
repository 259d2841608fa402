# SPDX-License-Identifier: Apache-2.0
"""The nearest-neighbour classifier: what the features say without any training."""

import torch
from torch import Tensor

from iclmsr.errors import IclmsrError
from iclmsr.evaluate.accuracy import topk_accuracy
from iclmsr.evaluate.features import Features, class_count

_SPARE = 11
"""Candidates beyond k: enough that rounding rarely leaves the k nearest in doubt."""


def knn_votes(train: Features, test: Features, *, k: int = 5, chunk_bytes: int = 2**25) -> Tensor:
    """How many of the k nearest training images each class has, for every test image.

    Neighbours are ranked by the Euclidean distance of the raw features in float64, equal
    distances by the smaller training index. The result does not depend on ``chunk_bytes``.

    Args:
        train: (N, F) features and labels.
        test: (M, F) features and labels; the labels only say how many classes there are.
        k: Neighbours, in [1, N].
        chunk_bytes: No temporary grows beyond this, but for one row's; a few exist at a time.

    Returns:
        (M, C) int64, rows that sum to k.

    Raises:
        IclmsrError: k outside [1, N], or sets that do not fit together or are not finite.

    Source: W-MSE's public code. Departure: distances in float64 where torch.cdist has float32, so
    that hardware and its switches do not change the result.

    >>> train = Features(torch.tensor([[0.0], [1.0], [5.0]]), torch.tensor([0, 2, 2]))
    >>> knn_votes(train, Features(torch.tensor([[0.2]]), torch.tensor([0])), k=2)
    tensor([[1, 0, 1]])
    """
    classes = class_count(train, test)
    if not 1 <= k <= len(train.features):
        raise IclmsrError(f"k must be in [1, {len(train.features)}], the training set, got {k}")
    votes = torch.zeros(len(test.features), classes, dtype=torch.int64, device=test.labels.device)
    rows = _rows(chunk_bytes, (k + _SPARE) * train.features.shape[1])
    for queries, tally in zip(
        torch.split(test.features, rows), torch.split(votes, rows), strict=True
    ):
        neighbours = train.labels[_nearest(queries.double(), train.features, k, chunk_bytes)]
        tally.scatter_add_(1, neighbours, torch.ones_like(neighbours))
    return votes


def knn(train: Features, test: Features, *, k: int = 5) -> dict[str, float]:
    """Accuracy on ``test`` of a uniform majority vote of the k nearest training images.

    Equal votes go to the smallest class: neighbours of classes 3, 1, 3, 1, 2 say 1.

    Args:
        train: (N, F) features and labels; never normalized here.
        test: (M, F) features and labels.
        k: Neighbours, in [1, N].

    Returns:
        ``{"top1": ...}`` in [0, 100] percent.

    Raises:
        IclmsrError: k outside [1, N], or sets that do not fit together or are not finite.

    Source: W-MSE's public code. Departure: distances in float64, see :func:`knn_votes`.

    >>> train = Features(torch.arange(5.0)[:, None], torch.tensor([3, 1, 3, 1, 2]))
    >>> knn(train, Features(torch.tensor([[2.0]]), torch.tensor([1])))
    {'top1': 100.0}
    """
    return {"top1": topk_accuracy(knn_votes(train, test, k=k), test.labels, 1)}


def _rows(chunk_bytes: int, width: int) -> int:
    """How many rows of ``width`` float64 fit, at least one."""
    return max(1, chunk_bytes // (8 * width))


def _nearest(queries: Tensor, train: Tensor, k: int, chunk_bytes: int) -> Tensor:
    """Indices (R, k) int64 of the k nearest of ``train`` (N, F) to ``queries`` (R, F) float64.

    A matrix product finds k + 11 candidates and their true distances decide. Where a row that is
    no candidate could be as near as the k-th, rounding considered, all rows are compared.
    """
    count, width = min(len(train), k + _SPARE), train.shape[1]
    rows = _rows(chunk_bytes, max(len(queries), width))
    squares = queries.new_empty(len(queries), 0)
    index = squares.long()
    largest = queries.new_zeros(())
    for start in range(0, len(train), rows):
        chunk = train[start : start + rows].double()
        norms = chunk.square().sum(1)
        largest = torch.maximum(largest, norms.max())
        found = torch.addmm(norms, queries, chunk.T, alpha=-2)  # (R, rows), less |query|^2
        found, columns = found.topk(min(count, len(chunk)), largest=False, sorted=False)
        squares, index = torch.cat([squares, found], 1), torch.cat([index, columns + start], 1)
        squares, kept = squares.topk(min(count, squares.shape[1]), largest=False, sorted=False)
        index = index.gather(1, kept)

    index = index.sort(1).values  # so that a stable sort puts the smaller of equally far ones first
    distances, order = _distances(queries[:, None], train[index].double())[:, 0].sort(stable=True)
    nearest = index.gather(1, order[:, :k])
    if count < len(train):
        norms = queries.square().sum(1)
        # The product's error: each of about F terms, at most 2 (|x|^2 + |y|^2), rounds a few times.
        error = 8 * (width + 1) * torch.finfo(torch.float64).eps * (norms + largest)
        near = distances[:, k - 1].square() + error >= squares.amax(1) + norms
        doubtful, block = near.nonzero()[:, 0], _rows(chunk_bytes, len(train))
        for start in range(0, len(doubtful), block):
            some = doubtful[start : start + block]
            parts = [_distances(queries[some], part.double()) for part in torch.split(train, rows)]
            nearest[some] = torch.cat(parts, 1).sort(stable=True).indices[:, :k]
    return nearest


def _distances(x: Tensor, y: Tensor) -> Tensor:
    """Euclidean distances (..., R, N) by differences: equal rows are equally far, bit for bit."""
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")
