# SPDX-License-Identifier: Apache-2.0
"""Where the nearest neighbours must be, by products in little precision and what they may miss."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

SPARE = 11
"""Candidates beyond k: enough that rounding rarely leaves the k nearest in doubt."""
HALF_SPARE = 27
"""The same for products in bfloat16."""
_HALF_UP_TO = 50
"""Neighbours; more of them lie too close together for bfloat16."""
_HALF_FROM = 2**32
"""Products of features from which on a first look in bfloat16 is worth its while."""


def rows_of(chunk_bytes: int, width: int) -> int:
    """How many rows of ``width`` float64 fit, at least one."""
    return max(1, chunk_bytes // (8 * width))


def half_is_fast(queries: int, train: Tensor, k: int) -> bool:
    """Whether this processor multiplies in bfloat16, and whether that would pay."""
    supported = torch.cpu._is_avx512_bf16_supported()
    worth = queries * train.numel() >= _HALF_FROM and k <= _HALF_UP_TO
    return bool(train.device.type == "cpu" and supported and worth)


def find_candidates(
    queries: Tensor, train: Tensor, centre: Tensor, k: int, chunk_bytes: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Places (R, m), ascending, and what every other row's squared distance exceeds, (R,)."""
    half = dtype == torch.bfloat16
    spare = HALF_SPARE if half else SPARE + k // 8
    count, width = min(len(train), k + spare), train.shape[1]
    query = Side.of(queries - centre, dtype)
    block = max(1, min(len(queries), int((chunk_bytes // 128) ** 0.5)))
    rows = max(1, chunk_bytes // (max(2, dtype.itemsize) * max(block, 2 * width)))
    scores = query.left.new_empty(len(queries), 0)
    index = torch.empty(len(queries), 0, dtype=torch.int64, device=queries.device)
    longest = worst = torch.zeros((), dtype=torch.float64, device=queries.device)
    for start in range(0, len(train), rows):
        chunk = Side.of(train[start : start + rows] - centre, dtype)
        longest = torch.maximum(longest, chunk.norms.max())
        worst = torch.maximum(worst, chunk.errors.max())
        right = chunk.right.T
        found = [largest(part @ right, count) for part in query.left.split(block)]  # type: ignore[no-untyped-call]
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


class Side(NamedTuple):
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
    def of(cls, rows: Tensor, dtype: torch.dtype) -> "Side":
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


def largest(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
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
