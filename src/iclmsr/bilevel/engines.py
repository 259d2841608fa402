# SPDX-License-Identifier: Apache-2.0
"""The gradient of Eq. 5 for psi: by double backward, and without a second derivative of ``embed``.

Theta enters L only through what ``embed`` returns, u(theta). With v the gradient of the outer loss
at theta' and w = (d theta' / d g)^T v what the step lets through of it,

    d outer(theta'(psi)) / d psi = d/dpsi < grad_u L(u, psi), u_dot >,    u_dot = J w,      (6)

where u and u_dot are constants: after u_dot is known, no network is differentiated any more.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Literal, NamedTuple, TypeVar, get_args

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from iclmsr.bilevel.functional import Theta, at_least_float32, put_back, replay, tensors_of
from iclmsr.bilevel.steps import Step, effective_direction
from iclmsr.bilevel.tangents import tangents_of

Batch = TypeVar("Batch")
Outputs = TypeVar("Outputs")

Engine = Literal["reference", "forward", "dual", "difference", "free"]
ENGINES: tuple[str, ...] = get_args(Engine)


class MetaGradient(NamedTuple):
    """What stage 2 needs to move psi.

    Attributes:
        psi: One gradient per psi tensor, same shapes and order.
        outer_loss: [] the outer loss at theta' (at theta from engine ``free``), detached.
    """

    psi: tuple[Tensor, ...]
    outer_loss: Tensor


class Known(NamedTuple):
    """What a step of theta on the inner batch has computed already, at the very same theta.

    Attributes:
        outputs: What ``embed`` returned; its graph may be gone.
        gradient: grad_theta L, in theta's order.
        random_state: Where the generator of random layers was before; None if there are none.
    """

    outputs: Any
    gradient: Sequence[Tensor]
    random_state: Tensor | None = None


class Ranks(NamedTuple):
    """How processes that hold a part of the batch each work on one loss of the whole batch.

    Attributes:
        gather: Outputs of this process -> outputs of the whole batch. Its backward hands on the
            rows of this process, for every process computes the whole loss.
        reduce: Sums gradients for theta over the processes, in place.
    """

    gather: Callable[[Any], Any]
    reduce: Callable[[Sequence[Tensor]], None]


ALONE = Ranks(lambda outputs: outputs, lambda gradients: None)


def meta_gradient(
    embed: Callable[[Theta, Batch], Outputs],
    inner_loss: Callable[[Outputs], Tensor],
    outer_loss: Callable[[Outputs], Tensor],
    theta: Theta,
    psi: Sequence[Tensor],
    inner_batch: Batch,
    outer_batch: Batch,
    *,
    step: Step,
    direct: Callable[[Outputs], Tensor] | None = None,
    engine: Engine = "reference",
    known: Known | None = None,
    sides: Literal[1, 2] = 1,
    relative_step: float | None = None,
    ranks: Ranks = ALONE,
) -> MetaGradient:
    """The gradient for psi through one virtual step of theta.

    Touches nothing: no ``.grad``, no buffer (with :func:`stateless`), no random state. Random
    layers draw the same numbers in every pass.

    Args:
        embed: Pure function of theta and a batch, e.g. ``stateless(method)``; returns a tensor or
            a (named) tuple of tensors and anything else.
        inner_loss: L of what ``embed`` returned, []; depends on psi.
        outer_loss: The outer loss of what ``embed`` returned, []; does not depend on psi.
        theta: Named tensors that require gradient.
        psi: Tensors that require gradient.
        inner_batch: What the virtual step is taken on.
        outer_batch: What theta' is judged on; may be the same object.
        step: The virtual step, e.g. ``sgd(alpha)``.
        direct: A term of the outer objective that reads psi itself, [], given the inner
            batch's outputs at theta; they are constants to it.
        engine: ``reference``: double backward through ``embed``, the oracle, in the weights' own
            precision. The others cut the graph at ``embed``'s outputs and differ in u_dot:
            ``forward``: forward-mode differentiation, exact; ``dual``: dual numbers, exact, also
            under autocast; ``difference``: one or two more forward passes; ``free``: an
            approximation that takes the inner gradient for v and never visits theta'.
        known: What stage 1 has computed on the inner batch, so that it is not computed again.
        sides: Of ``difference`` and ``free``.
        relative_step: Of ``difference`` and ``free``; see :func:`by_difference`.
        ranks: For batches that are spread over processes; every engine but ``reference``.

    Returns:
        Gradients of ``outer_loss(embed(theta', outer_batch)) + direct`` and the outer loss.

    Raises:
        ValueError: An unknown engine.

    Source: ICL-MSR, Eq. 5. Departure: none.

    >>> from iclmsr.bilevel import sgd
    >>> theta = {"w": torch.tensor(1.0, requires_grad=True)}
    >>> psi = [torch.tensor(3.0, requires_grad=True)]
    >>> for engine in ("reference", "dual"):  # theta' = w - 0.1 psi x = 0.4,
    ...     meta_gradient(  # d(theta'^2)/dpsi = 2 theta' * -0.2
    ...         lambda theta, x: theta["w"] * x, lambda out: psi[0] * out, lambda out: out**2 / 4,
    ...         theta, psi, 2.0, 2.0, step=sgd(0.1), engine=engine).psi
    (tensor(-0.1600),)
    (tensor(-0.1600),)
    """
    if engine not in ENGINES:
        raise ValueError(f"engine must be one of {', '.join(ENGINES)}, got {engine!r}")
    again = _replay(theta, known)
    if engine == "reference":
        return _by_double_backward(
            embed, inner_loss, outer_loss, theta, psi, inner_batch, outer_batch, step, direct, again
        )
    whole = partial(_loss_and_gradient, embed, ranks=ranks, again=again)
    if known is None:
        _, known = whole(inner_loss, theta, inner_batch)
    if engine == "free":
        with torch.no_grad():
            outer = outer_loss(ranks.gather(known.outputs))
        v = known.gradient
    else:
        with torch.no_grad():
            stepped = {
                name: step(name, parameter, slope).requires_grad_()
                for (name, parameter), slope in zip(theta.items(), known.gradient, strict=True)
            }
        outer, at_stepped = whole(outer_loss, stepped, outer_batch)
        v = at_stepped.gradient
        del stepped, at_stepped  # a copy of theta and one of the outputs
    direction = effective_direction(step, theta, known.gradient, v)
    del v
    tensors = tensors_of(known.outputs)
    moving = [place for place, tensor in enumerate(tensors) if tensor.requires_grad]
    tangents = tangents_of(
        engine, embed, theta, direction, inner_batch, moving,
        here=[tensors[place] for place in moving], replay=again,
        sides=sides, relative_step=relative_step,
    )  # fmt: skip
    del direction
    moved = ranks.gather(put_back(known.outputs, [tensors[place] for place in moving], tangents))
    tangents = [tensors_of(moved)[place] for place in moving]
    outputs = ranks.gather(known.outputs)
    gradients = _mixed_derivative(inner_loss, outputs, moving, tangents, psi, direct)
    return MetaGradient(gradients, outer.detach())


def automatic(theta: Theta) -> tuple[Engine, str]:
    """The engine to take for these weights on their device, and why."""
    tensors = list(theta.values())
    if all(tensor.dtype == torch.float64 for tensor in tensors):
        return "dual", "exact in float64"
    device = tensors[0].device
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
        free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        copy = sum(tensor.nbytes for tensor in tensors)
        if free < 3 * copy:
            return "dual", f"{free / 2**30:.1f} GiB free, two copies of the weights do not fit"
    return "difference", "one forward pass more than the gradient at theta'"


def cosine(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    """Cosine of two gradients as vectors, in [-1, 1]; 0 where one is zero."""
    one, other = (torch.cat([tensor.flatten() for tensor in tensors]) for tensors in (a, b))
    return float(torch.cosine_similarity(one, other, dim=0))


def _loss_and_gradient(
    embed: Callable[[Theta, Batch], Outputs],
    loss: Callable[[Outputs], Tensor],
    theta: Theta,
    batch: Batch,
    *,
    ranks: Ranks,
    again: Callable[[], AbstractContextManager[None]],
) -> tuple[Tensor, Known]:
    """The loss of the whole batch at theta, [], the outputs and the gradient."""
    with torch.enable_grad(), again():
        outputs = embed(theta, batch)
        value = loss(ranks.gather(outputs))
        gradient = torch.autograd.grad(value, list(theta.values()), materialize_grads=True)
    ranks.reduce(gradient)
    return value.detach(), Known(outputs, gradient)


def _mixed_derivative(
    inner_loss: Callable[[Outputs], Tensor],
    outputs: Outputs,
    moving: Sequence[int],
    tangents: Sequence[Tensor],
    psi: Sequence[Tensor],
    direct: Callable[[Outputs], Tensor] | None,
) -> tuple[Tensor, ...]:
    """The right side of (6) plus the direct term's gradient, at least in float32."""
    tensors = tensors_of(outputs)
    kind = tensors[0].device.type
    with torch.enable_grad(), torch.autocast(kind, enabled=False):
        constants = [at_least_float32(tensor.detach()) for tensor in tensors]
        leaves = [constants[place].requires_grad_() for place in moving]
        u = put_back(outputs, tensors, constants)
        slopes = torch.autograd.grad(
            inner_loss(u), leaves, create_graph=True, materialize_grads=True
        )
        objective = sum(
            ((slope * t).sum() for slope, t in zip(slopes, tangents, strict=True)),
            torch.zeros((), device=constants[0].device),
        )
        if direct is not None:
            fixed = [constant.detach() for constant in constants]
            objective = objective + direct(put_back(outputs, tensors, fixed))
        if not objective.requires_grad:
            return tuple(torch.zeros_like(tensor) for tensor in psi)
        return torch.autograd.grad(objective, psi, materialize_grads=True)


def _by_double_backward(
    embed: Callable[[Theta, Batch], Outputs],
    inner_loss: Callable[[Outputs], Tensor],
    outer_loss: Callable[[Outputs], Tensor],
    theta: Theta,
    psi: Sequence[Tensor],
    inner_batch: Batch,
    outer_batch: Batch,
    step: Step,
    direct: Callable[[Outputs], Tensor] | None,
    again: Callable[[], AbstractContextManager[None]],
) -> MetaGradient:
    """The reference: Eq. 5 as it stands."""
    kind = next(iter(theta.values())).device.type
    # Fused attention has no second derivative.
    with torch.autocast(kind, enabled=False), sdpa_kernel(SDPBackend.MATH):
        with again():
            outputs = embed(theta, inner_batch)
            gradient = torch.autograd.grad(
                inner_loss(outputs),
                list(theta.values()),
                create_graph=True,
                materialize_grads=True,
            )
        stepped = {
            name: step(name, parameter, slope)
            for (name, parameter), slope in zip(theta.items(), gradient, strict=True)
        }
        with again():
            outer = outer_loss(embed(stepped, outer_batch))
        through_theta = torch.autograd.grad(
            outer, psi, retain_graph=direct is not None, materialize_grads=True
        )
        if direct is None:
            return MetaGradient(through_theta, outer.detach())
        tensors = tensors_of(outputs)
        fixed = put_back(outputs, tensors, [tensor.detach() for tensor in tensors])
        straight = torch.autograd.grad(direct(fixed), psi, materialize_grads=True)
    total = tuple(a + b for a, b in zip(through_theta, straight, strict=True))
    return MetaGradient(total, outer.detach())


def _replay(theta: Theta, known: Known | None) -> Callable[[], AbstractContextManager[None]]:
    """A context, to be entered for every pass, in which random layers draw the same numbers."""
    device = next(iter(theta.values())).device
    return partial(replay, device, None if known is None else known.random_state)
