# SPDX-License-Identifier: Apache-2.0
"""u_dot = J w: how the outputs of ``embed`` move when theta moves along w, three ways."""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from iclmsr.bilevel.functional import Theta, at_least_float32, tensors_of

Embed = Callable[[Theta, Any], Any]
Replay = Callable[[], AbstractContextManager[None]]

RELATIVE_STEPS = {  # of (precision, sides), calibrated in tests/bilevel
    (torch.float64, 1): 1e-8,
    (torch.float64, 2): 1e-6,
    (torch.float32, 1): 3e-6,
    (torch.float32, 2): 3e-6,
    (torch.bfloat16, 1): 1e-4,
    (torch.bfloat16, 2): 1e-4,
}


def tangents_of(
    engine: str,
    embed: Embed,
    theta: Theta,
    direction: Sequence[Tensor],
    batch: Any,
    moving: Sequence[int],
    *,
    here: Sequence[Tensor],
    replay: Replay,
    sides: Literal[1, 2],
    relative_step: float | None,
) -> list[Tensor]:
    """Tangents of the tensors that move, in the way of ``engine``; arguments as below."""
    arguments = embed, theta, direction, batch, moving
    if engine in ("difference", "free"):
        return by_difference(
            *arguments, here=here, replay=replay, sides=sides, relative_step=relative_step
        )
    with replay():
        return by_forward_mode(*arguments) if engine == "forward" else by_dual_numbers(*arguments)


def by_forward_mode(
    embed: Embed, theta: Theta, direction: Sequence[Tensor], batch: Any, moving: Sequence[int]
) -> list[Tensor]:
    """Forward-mode differentiation of ``embed`` (torch.func.jvp): exact.

    Args:
        embed: Pure function of theta and a batch.
        theta: Where.
        direction: w, in theta's order.
        batch: Its other argument.
        moving: Places in :func:`tensors_of` its outputs of the tensors that depend on theta.

    Returns:
        Tangents of those tensors, same shapes.
    """

    def outputs(parameters: Mapping[str, Tensor]) -> list[Tensor]:
        tensors = tensors_of(embed(parameters, batch))
        return [tensors[place] for place in moving]

    with _forward_mode():
        here = {name: parameter.detach() for name, parameter in theta.items()}
        along = dict(zip(theta, direction, strict=True))
        tangents = torch.func.jvp(outputs, (here,), (along,))[1]
    return list(tangents)


def by_dual_numbers(
    embed: Embed, theta: Theta, direction: Sequence[Tensor], batch: Any, moving: Sequence[int]
) -> list[Tensor]:
    """As :func:`by_forward_mode` with dual numbers, which work under autocast too: exact."""
    with _forward_mode(), forward_ad.dual_level():
        duals = {
            name: forward_ad.make_dual(parameter.detach(), along)  # type: ignore[no-untyped-call]
            for (name, parameter), along in zip(theta.items(), direction, strict=True)
        }
        tensors = tensors_of(embed(duals, batch))
        pairs = [forward_ad.unpack_dual(tensors[place]) for place in moving]  # type: ignore[no-untyped-call]
    return [torch.zeros_like(p) if tangent is None else tangent for p, tangent in pairs]


def by_difference(
    embed: Embed,
    theta: Theta,
    direction: Sequence[Tensor],
    batch: Any,
    moving: Sequence[int],
    *,
    here: Sequence[Tensor],
    replay: Replay,
    sides: Literal[1, 2] = 1,
    relative_step: float | None = None,
) -> list[Tensor]:
    """(u(theta + e w) - u(theta)) / e, or on two sides (u(theta + e w) - u(theta - e w)) / 2 e.

    Needs nothing but forward passes, e = relative_step |theta| / |w|.

    Args:
        embed: Pure function of theta and a batch.
        theta: Where.
        direction: w, in theta's order.
        batch: Its other argument.
        moving: As for :func:`by_forward_mode`.
        here: u(theta), the tensors that move; read for one side.
        replay: A context in which random layers draw the same numbers every time.
        sides: 1: one forward pass, an error of the order of e; 2: two, of e^2.
        relative_step: > 0; None takes :data:`RELATIVE_STEPS` of the least precise output.
    """
    length = _norm(direction)
    if length == 0:
        return [torch.zeros_like(tensor) for tensor in here]
    if relative_step is None:
        relative_step = RELATIVE_STEPS[_precision((*here, *theta.values())), sides]
    e = relative_step * _norm(list(theta.values())) / length

    def at(offset: float) -> list[Tensor]:
        moved = {
            name: torch.add(parameter.detach(), along, alpha=offset)
            for (name, parameter), along in zip(theta.items(), direction, strict=True)
        }
        with torch.no_grad(), replay():
            tensors = tensors_of(embed(moved, batch))
        return [at_least_float32(tensors[place]) for place in moving]

    ahead = at(e)
    behind = at(-e) if sides == 2 else [at_least_float32(tensor.detach()) for tensor in here]
    return [(a - b) / (sides * e) for a, b in zip(ahead, behind, strict=True)]


@contextlib.contextmanager
def _forward_mode() -> Iterator[None]:
    """What both exact ways need: no graph, no fused attention (it has no forward mode)."""
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), warnings.catch_warnings():
        # Of torch about its own first use of forward mode.
        warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)
        yield


def _precision(tensors: Sequence[Tensor]) -> torch.dtype:
    """Of the least precise one; what a GPU computes in TF32 is no better than bfloat16."""
    least = min((tensor.dtype for tensor in tensors), key=lambda dtype: torch.finfo(dtype).bits)
    rounded = tensors[0].is_cuda and torch.backends.cudnn.allow_tf32
    if least == torch.float16 or (least == torch.float32 and rounded):
        return torch.bfloat16
    return least


def _norm(tensors: Sequence[Tensor]) -> float:
    """The length of all tensors as one vector."""
    return float(torch.nn.utils.get_total_norm([tensor.detach() for tensor in tensors]))
