# SPDX-License-Identifier: Apache-2.0
"""The nearest-neighbour classifier: what the features say without any training."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from iclmsr.errors import IclmsrError
from iclmsr.evaluate.accuracy import topk_accuracy
from iclmsr.evaluate.features import Features, class_count

_SPARE = 11
"""Candidates beyond k: enough that rounding rarely leaves the k nearest in doubt."""
_HALF_SPARE = 59
"""The same for products in bfloat16."""
_HALF_UP_TO = 50
"""Neighbours; more of them lie too close together for bfloat16."""
_HALF_FROM = 2**32
"""Products of features from which on a first look in bfloat16 is worth its while."""


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
    train: Features, test: Features, *, k: int, chunk_bytes: int = 2**25
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
    block = _rows(chunk_bytes, max(k + _HALF_SPARE, 1 + width * test.features.itemsize // 8))
    centre = _mean(train.features, _rows(chunk_bytes, width))
    start = 0
    for queries in test.features.split(block):  # type: ignore[no-untyped-call]
        index, distances = _nearest(queries, train.features, centre, k, chunk_bytes)
        yield Neighbours(slice(start, start + len(queries)), index, distances)
        start += len(queries)


def _rows(chunk_bytes: int, width: int) -> int:
    """How many rows of ``width`` float64 fit, at least one."""
    return max(1, chunk_bytes // (8 * width))


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
        if dtype == torch.bfloat16 and not _half_is_fast(len(queries), train, k):
            continue
        if not len(open_rows):
            break
        some = queries if len(open_rows) == len(queries) else queries[open_rows]
        candidates, bound = _candidates(some, train, centre, k, chunk_bytes, dtype)
        doubtful = []
        step = _rows(chunk_bytes, candidates.shape[1] * train.shape[1])
        for first in range(0, len(some), step):
            part = slice(first, first + step)
            own = candidates[part]
            found, order = _distances(some[part, None].double(), train[own].double())[:, 0].sort(
                stable=True
            )
            rows = open_rows[part]
            index[rows], distances[rows] = own.gather(1, order[:, :k]), found[:, :k]
            # Written so that a bound which is not a number leaves a doubt.
            doubtful.append(rows[~(found[:, k - 1].square() < bound[part])])
        open_rows = torch.cat(doubtful)
    rows_at_once, step = _rows(chunk_bytes, train.shape[1]), _rows(chunk_bytes, len(train))
    for first in range(0, len(open_rows), step):
        rows = open_rows[first : first + step]
        parts = [
            _distances(queries[rows].double(), part.double())
            for part in train.split(rows_at_once)  # type: ignore[no-untyped-call]
        ]
        found, order = torch.cat(parts, 1).sort(stable=True)
        index[rows], distances[rows] = order[:, :k], found[:, :k]
    return index, distances


def _half_is_fast(queries: int, train: Tensor, k: int) -> bool:
    """Whether this processor multiplies in bfloat16, and whether that would pay."""
    supported = torch.cpu._is_avx512_bf16_supported()
    worth = queries * train.numel() >= _HALF_FROM and k <= _HALF_UP_TO
    return bool(train.device.type == "cpu" and supported and worth)


def _candidates(
    queries: Tensor, train: Tensor, centre: Tensor, k: int, chunk_bytes: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Places (R, m), ascending, and what every other row's squared distance exceeds, (R,)."""
    half = dtype == torch.bfloat16
    spare = _HALF_SPARE if half else _SPARE + k // 8
    count, width = min(len(train), k + spare), train.shape[1]
    query = _Side.of(queries - centre, dtype)
    block = max(1, min(len(queries), int((chunk_bytes // 128) ** 0.5)))
    rows = max(1, chunk_bytes // (max(2, dtype.itemsize) * max(block, 2 * width)))
    scores = query.left.new_empty(len(queries), 0)
    index = torch.empty(len(queries), 0, dtype=torch.int64, device=queries.device)
    longest = worst = torch.zeros((), dtype=torch.float64, device=queries.device)
    for start in range(0, len(train), rows):
        chunk = _Side.of(train[start : start + rows] - centre, dtype)
        longest = torch.maximum(longest, chunk.norms.max())
        worst = torch.maximum(worst, chunk.errors.max())
        right = chunk.right.T
        found = [_largest(part @ right, count) for part in query.left.split(block)]  # type: ignore[no-untyped-call]
        scores = torch.cat([scores, torch.cat([values for values, _ in found])], 1)
        index = torch.cat([index, torch.cat([columns for _, columns in found]) + start], 1)
        scores, kept = scores.topk(min(count, scores.shape[1]), sorted=False)
        index = index.gather(1, kept)
    index = index.sort(1).values  # so that a stable sort puts the smaller of equally far ones first
    if count == len(train):
        return index, torch.full_like(query.norms, torch.inf)
    least = scores.amin(1).double()
    if half:
        least += least.abs() * 2.0**-8  # a score may have been rounded down to it
    # Sums of F + 3 terms: a product's error is at most F eps |x| |y|, twice, a square's F eps / 2.
    eps = torch.finfo(torch.float32 if half else dtype).eps
    squares = query.norms.square()
    error = 2 * (width + 4) * eps * (squares + longest.square())
    error += 2 * (query.errors * longest + (query.norms + query.errors) * worst)
    return index, squares - 2 * least - error


class _Side(NamedTuple):
    """One side of a product whose entries are x.y - |y|^2 / 2: larger is nearer.

    Attributes:
        left: (R, F + 3), rows x with ones.
        right: (R, F + 3), the same with minus half their squared norms, in three parts.
        norms: (R,) float64, of the rows before they were rounded.
        errors: (R,) float64, how far rounding moved each row.
    """

    left: Tensor
    right: Tensor
    norms: Tensor
    errors: Tensor

    @classmethod
    def of(cls, rows: Tensor, dtype: torch.dtype) -> "_Side":
        """Of rows (R, F)."""
        count, width = rows.shape
        left = rows.new_ones(count, width + 3, dtype=dtype)
        left[:, :width] = rows
        exact = torch.float64 if dtype == torch.float64 else torch.float32
        norms = torch.linalg.vector_norm(rows, dim=1, dtype=exact).double()
        moved = torch.zeros_like(norms)
        if dtype.itemsize < rows.itemsize:
            moved = torch.linalg.vector_norm(rows - left[:, :width], dim=1).double() * 1.001
        right, rest = left.clone(), norms.square() / -2
        for part in range(3):
            right[:, width + part] = rest
            rest = rest - right[:, width + part].double()
        return cls(left, right, norms, moved)


def _largest(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The ``count`` largest of each row of (R, N) and their columns, in no order.

    The largest of each group of columns first: the groups with the largest of these hold all
    that are looked for.
    """
    rows, columns = values.shape
    size = math.isqrt(columns // count)  # as many groups as columns in the groups that remain
    groups = columns // max(size, 1)
    if size < 4:
        return values.topk(min(count, columns), sorted=False)
    main = values[:, : groups * size].view(rows, size, groups)
    best = main.amax(1).topk(count, sorted=False).indices  # (R, count)
    place = best[:, None] + groups * torch.arange(size, device=values.device)[:, None]
    place = place.flatten(1)
    if groups * size < columns:
        rest = torch.arange(groups * size, columns, device=values.device).expand(rows, -1)
        place = torch.cat([place, rest], 1)
    most, order = values.gather(1, place).topk(count, sorted=False)
    return most, place.gather(1, order)


def _distances(x: Tensor, y: Tensor) -> Tensor:
    """Euclidean distances (..., R, N) by differences: equal rows are equally far, bit for bit."""
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")
