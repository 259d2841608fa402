# SPDX-License-Identifier: Apache-2.0
"""Values that compare every row with all others, in memory that grows with N instead of N^2."""

from collections.abc import Callable, Sequence
from itertools import compress, repeat
from typing import Any

import torch
from torch import Tensor

ENTRIES = 2**24
"""The most (row, column) pairs that are held at once: 64 MiB for each float32 step on the way."""


def over_rows(f: Callable[..., Tensor], rows: Sequence[Tensor], shared: Sequence[Tensor]) -> Tensor:
    """``f(*rows, *shared)`` for an ``f`` that treats each row by itself, large inputs in tiles.

    A column is a vector in ``shared``. Up to ``ENTRIES`` pairs of a row and a column this is the
    call itself. Beyond, ``f`` sees as many rows at a time as stay within; the gradient, and the
    gradient of the gradient, call ``f`` again for each tile, so that nothing with a row and a
    column is kept between them.

    Args:
        f: (R, D), ... rows and (C, D), ... shared to (R, ...) values; pure, and what it closes
            over is constant to it. Tiles run without autocast.
        rows: Tensors of N rows each; those that are not floating are labels, without gradient.
        shared: Tensors that every row sees whole.

    Returns:
        (N, ...) values of all rows, differentiable any number of times.

    Source: ours; recomputing tiles is Gao et al. 2021 (arXiv 2101.06983) and Dao et al. 2022
    (arXiv 2205.14135). Departure: a tile's gradient is itself made in tiles.

    >>> x = torch.tensor([[1.0], [2.0], [4.0]])
    >>> over_rows(lambda x_i, x: (x_i @ x.T).sum(1), [x], [x])
    tensor([ 7., 14., 28.])
    """
    columns = sum(x.shape[:-1].numel() for x in shared)
    if len(rows[0]) * columns <= ENTRIES:
        return f(*rows, *shared)
    size = max(ENTRIES // columns, 1)
    split = (True,) * len(rows) + (False,) * len(shared)
    found: tuple[Tensor] = _Tiled.apply(
        lambda *tile: (f(*tile),), size, split, (True,), *rows, *shared
    )
    return found[0]


class _Tiled(torch.autograd.Function):
    """Several values of ``f``, each per row or a sum over rows, from tensors that are split or not.

    Closed under differentiation: a gradient is such a function too. What is split has a gradient
    per row, what is not has a sum, and the other way round for cotangents.
    """

    @staticmethod
    def forward(
        ctx: Any,
        f: Callable[..., Sequence[Tensor]],
        size: int,
        split: tuple[bool, ...],
        per_row: tuple[bool, ...],
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:
        ctx.f, ctx.size, ctx.split, ctx.per_row = f, size, split, per_row
        ctx.save_for_backward(*tensors)
        parts = (
            torch.split(x.detach(), size) if cut else repeat(x.detach())
            for x, cut in zip(tensors, split, strict=True)
        )
        found: list[list[Tensor]] = [[] for _ in per_row]
        with torch.autocast(tensors[0].device.type, enabled=False):
            for tile in zip(*parts, strict=False):
                for value, pieces, joined in zip(f(*tile), found, per_row, strict=True):
                    if joined or not pieces:
                        pieces.append(value)
                    else:
                        pieces[0] = pieces[0] + value
        return tuple(
            torch.cat(pieces) if joined else pieces[0]
            for pieces, joined in zip(found, per_row, strict=True)
        )

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        needed = ctx.needs_input_grad[4:]
        gradients = _Tiled.apply(
            _pullback(ctx.f, needed),
            ctx.size,
            ctx.split + ctx.per_row,
            tuple(compress(ctx.split, needed)),
            *ctx.saved_tensors,
            *cotangents,
        )
        each = iter(gradients)
        return (None,) * 4 + tuple(next(each) if need else None for need in needed)


def _pullback(
    f: Callable[..., Sequence[Tensor]], needed: Sequence[bool]
) -> Callable[..., Sequence[Tensor]]:
    """From ``f``'s arguments and its values' cotangents to gradients of the ``needed`` ones."""

    def pullback(*tensors: Tensor) -> Sequence[Tensor]:
        again = torch.is_grad_enabled()
        arguments, cotangents = tensors[: len(needed)], tensors[len(needed) :]
        with torch.enable_grad():
            arguments = tuple(
                x.detach().requires_grad_() if need and not x.requires_grad else x
                for x, need in zip(arguments, needed, strict=True)
            )
            values = zip(f(*arguments), cotangents, strict=True)
            moving = [(value, cotangent) for value, cotangent in values if value.requires_grad]
            return torch.autograd.grad(
                [value for value, _ in moving],
                list(compress(arguments, needed)),
                [cotangent for _, cotangent in moving],
                create_graph=again,
                materialize_grads=True,
            )

    return pullback
