# SPDX-License-Identifier: Apache-2.0
"""What ranks do together; every rank has to call each of these, in the same order."""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function

T = TypeVar("T")
Fields = TypeVar("Fields", bound=NamedTuple)


def world_size() -> int:
    """How many ranks there are now: 1 outside of :func:`join`."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class _Gather(Function):
    """All ranks' rows; the gradient of the own ones, times ``scale``."""

    @staticmethod
    def forward(tensor: Tensor, dim: int, scale: float) -> Tensor:  # noqa: ARG004
        tensor = tensor.contiguous()
        parts = [torch.empty_like(tensor) for _ in range(world_size())]
        dist.all_gather(parts, tensor)
        return torch.cat(parts, dim)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int, float], output: Tensor) -> None:  # noqa: ARG004
        tensor, ctx.dim, ctx.scale = inputs
        ctx.length = tensor.shape[ctx.dim]

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None]:
        own = slope.narrow(ctx.dim, dist.get_rank() * ctx.length, ctx.length)
        return own * ctx.scale, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Any:
        return _Gather.apply(tangent, ctx.dim, ctx.scale)


class _Sum(Function):
    """The sum over ranks; it is linear and its own transpose, so all derivatives are it again."""

    @staticmethod
    def forward(tensor: Tensor) -> Tensor:
        total = tensor.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Any:  # noqa: ARG004
        return _Sum.apply(slope)

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Any:  # noqa: ARG004
        return _Sum.apply(tangent)


def gather(tensor: Tensor, dim: int, *, scale: float = 1.0) -> Tensor:
    """All ranks' tensors, one behind the other, on every rank.

    Every rank is to compute the same loss of the result. The gradient of the rank's own rows is
    then complete, and is all that goes back, so the ranks' parameter gradients have to be *summed*
    (:func:`sum_over_ranks_`). ``DistributedDataParallel`` takes their mean: there, ``scale`` is
    the number of ranks. Second derivatives and tangents pass; a tangent takes no ``scale``.

    Args:
        tensor: This rank's part, of one shape on all ranks.
        dim: Where to join the parts, in order of rank.
        scale: What the gradient is multiplied by on its way back.

    Returns:
        The whole; ``tensor`` itself in a world of one.

    Source: the gradient of GradCache (Gao et al. 2021, arXiv 2101.06983). Departure: none.

    >>> rows = torch.ones(2, 3)
    >>> gather(rows, 0) is rows
    True
    """
    if world_size() == 1:
        return tensor
    whole: Tensor = _Gather.apply(tensor, dim, scale)
    return whole


def gather_outputs(outputs: Fields, *, scale: float = 1.0) -> Fields:
    """Outputs of the whole batch: :func:`gather` of every tensor (V, b, ...) along b.

    Args:
        outputs: A named tuple of one rank; what is no tensor in it stays as it is.
        scale: As in :func:`gather`.

    Returns:
        The same named tuple with tensors (V, ranks * b, ...). Fields that are one tensor still
        are, gathered once.
    """
    known: dict[int, Tensor] = {}

    def whole(field: object) -> object:
        if not isinstance(field, Tensor):
            return field
        if id(field) not in known:
            known[id(field)] = gather(field, 1, scale=scale)
        return known[id(field)]

    return outputs._make(whole(field) for field in outputs)


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """The sum of all ranks' tensors of one shape, differentiable any number of times.

    Its gradient is the ranks' gradients summed, which is right where each rank holds its own part
    of the objective, as after :func:`gather`. ``tensor`` itself in a world of one.
    """
    if world_size() == 1:
        return tensor
    total: Tensor = _Sum.apply(tensor)
    return total


@torch.no_grad()
def sum_over_ranks_(tensors: Sequence[Tensor]) -> None:
    """Replaces each tensor by its sum over ranks, with one message for each dtype."""
    if world_size() == 1:
        return
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
        own = [tensor for tensor in tensors if tensor.dtype == dtype]
        flat = torch.cat([tensor.flatten() for tensor in own])
        dist.all_reduce(flat)
        parts = torch.split(flat, [tensor.numel() for tensor in own])
        for tensor, part in zip(own, parts, strict=True):
            tensor.copy_(part.view_as(tensor))


def any_rank(flag: bool) -> bool:
    """Whether ``flag`` holds on any rank; the same answer on all."""
    if world_size() == 1:
        return flag
    votes = torch.tensor(int(flag))
    dist.all_reduce(votes)
    return bool(votes)


def all_agree(flag: bool) -> bool:
    """Whether ``flag`` holds on all ranks; the same answer on all."""
    return not any_rank(not flag)


def barrier() -> None:
    """Waits until all ranks are here."""
    any_rank(False)


def broadcast_object(value: T) -> T:
    """Rank 0's value, on all ranks."""
    values = [value]
    if world_size() > 1:
        dist.broadcast_object_list(values)
    return values[0]


def gather_object(value: T) -> list[T]:
    """All ranks' values in order of rank, on rank 0; an empty list on the others."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size() if dist.get_rank() == 0 else []
    dist.gather_object(value, values or None)
    return values
