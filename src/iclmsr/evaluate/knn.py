# SPDX-License-Identifier: Apache-2.0
"""The nearest-neighbour classifier: what the features say without any training."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from iclmsr.errors import IclmsrError
from iclmsr.evaluate.accuracy import topk_accuracy
from iclmsr.evaluate.candidates import (
    HALF_SPARE,
    SPARE,
    find_candidates,
    half_is_fast,
    rows_of,
)
from iclmsr.evaluate.features import Features, class_count


class Neighbours(NamedTuple):
    """The k nearest training images of some test images, nearest first.

    Attributes:
        rows: Which test images, R of them.
        places: (R, k) int64, in the training set.
        distances: (R, k) float64, Euclidean.
    """

    rows: slice
    places: Tensor
    distances: Tensor


def knn_votes(train: Features, test: Features, *, k: int = 5, chunk_bytes: int = 2**26) -> Tensor:
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
    votes = torch.zeros(len(test.features), classes, dtype=torch.int64, device=test.labels.device)
    for rows, index, _ in neighbours(train, test, k=k, chunk_bytes=chunk_bytes):
        labels = train.labels[index]
        votes[rows].scatter_add_(1, labels, torch.ones_like(labels))
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


def neighbours(
    train: Features, test: Features, *, k: int, chunk_bytes: int = 2**26
) -> Iterator[Neighbours]:
    """The k nearest training images of every test image, some test images at a time.

    Ranked as :func:`knn_votes` says. Products in bfloat16 (where the processor has them) find
    candidates, whose true distances in float64 decide; rows that rounding could have deceived
    are looked at again in float32, then in float64, and last by all distances. So neither
    hardware nor chunks change a result, only the time it takes.

    Args:
        train: (N, F) features; labels do not count.
        test: (M, F) features.
        k: Neighbours, in [1, N].
        chunk_bytes: As for :func:`knn_votes`.

    Raises:
        IclmsrError: k outside [1, N].

    Source: none. Departure: none.

    >>> one = Features(torch.tensor([[0.0], [1.0], [5.0]]), torch.zeros(3))
    >>> next(neighbours(one, one, k=2)).places[:, 1].tolist()
    [1, 0, 1]
    """
    if not 1 <= k <= len(train.features):
        raise IclmsrError(f"k must be in [1, {len(train.features)}], the training set, got {k}")
    width = train.features.shape[1]
    # Queries of one block share a pass over the training set; candidates are compared in parts.
    block = rows_of(chunk_bytes, max(k + HALF_SPARE, 1 + width * test.features.itemsize // 8))
    centre = _mean(train.features, rows_of(chunk_bytes, width))
    start = 0
    for queries in test.features.split(block):  # type: ignore[no-untyped-call]
        index, distances = _nearest(queries, train.features, centre, k, chunk_bytes)
        yield Neighbours(slice(start, start + len(queries)), index, distances)
        start += len(queries)


def _mean(features: Tensor, rows: int) -> Tensor:
    """Mean row (F,), some rows at a time; in the features' own dtype, so that shifts are exact."""
    total = torch.zeros(features.shape[1], dtype=torch.float64, device=features.device)
    for part in features.split(rows):  # type: ignore[no-untyped-call]
        total += part.sum(0, dtype=torch.float64)
    return (total / len(features)).to(features)


def _nearest(
    queries: Tensor, train: Tensor, centre: Tensor, k: int, chunk_bytes: int
) -> tuple[Tensor, Tensor]:
    """Indices and distances (R, k) of the k nearest of ``train`` (N, F) to ``queries`` (R, F).

    A row is settled by the first precision whose error cannot have hidden a nearer neighbour
    among the rows that are no candidates.
    """
    index = torch.empty(len(queries), k, dtype=torch.int64, device=queries.device)
    distances = torch.empty(len(queries), k, dtype=torch.float64, device=queries.device)
    open_rows = torch.arange(len(queries), device=queries.device)
    for dtype in (torch.bfloat16, torch.float32, torch.float64):
        if dtype == torch.bfloat16 and not half_is_fast(len(queries), train, k):
            continue
        if not len(open_rows):
            break
        some = queries if len(open_rows) == len(queries) else queries[open_rows]
        candidates, bound = find_candidates(some, train, centre, k, chunk_bytes, dtype)
        doubtful = []
        step = rows_of(chunk_bytes, candidates.shape[1] * train.shape[1])
        for first in range(0, len(some), step):
            part = slice(first, first + step)
            own, near, beyond = candidates[part], train[candidates[part]], bound[part]
            if dtype == torch.bfloat16:
                own, near, beyond = _fewer(some[part], own, near, beyond, k + SPARE)
            found, order = _distances(some[part, None].double(), near.double())[:, 0].sort(
                stable=True
            )
            rows = open_rows[part]
            index[rows], distances[rows] = own.gather(1, order[:, :k]), found[:, :k]
            # Written so that a bound which is not a number leaves a doubt.
            doubtful.append(rows[~(found[:, k - 1].square() < beyond)])
        open_rows = torch.cat(doubtful)
    rows_at_once, step = rows_of(chunk_bytes, train.shape[1]), rows_of(chunk_bytes, len(train))
    for first in range(0, len(open_rows), step):
        rows = open_rows[first : first + step]
        parts = [
            _distances(queries[rows].double(), part.double())
            for part in train.split(rows_at_once)  # type: ignore[no-untyped-call]
        ]
        found, order = torch.cat(parts, 1).sort(stable=True)
        index[rows], distances[rows] = order[:, :k], found[:, :k]
    return index, distances


def _fewer(
    queries: Tensor, places: Tensor, near: Tensor, bound: Tensor, count: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The ``count`` nearest of candidates (R, m) by differences in their own dtype, and the bound.

    Reading them as float64 costs more than all the rest.
    """
    if places.shape[1] <= count:
        return places, near, bound
    far = _distances(queries[:, None], near)[:, 0]
    kept = far.topk(count, largest=False, sorted=False).indices.sort(1).values
    # A difference, its square and a sum of F of them: relative to the distance.
    error = 2 * (near.shape[2] + 4) * torch.finfo(near.dtype).eps
    least = far.scatter(1, kept, torch.inf).amin(1).double().square() * (1 - error)
    near = near.gather(1, kept[..., None].expand(-1, -1, near.shape[2]))
    return places.gather(1, kept), near, torch.minimum(bound, least)


def _distances(x: Tensor, y: Tensor) -> Tensor:
    """Euclidean distances (..., R, N) by differences: equal rows are equally far, bit for bit."""
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")
