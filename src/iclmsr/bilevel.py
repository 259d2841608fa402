# SPDX-License-Identifier: Apache-2.0
"""The meta-gradient of a bilevel problem with one virtual inner step.

Two parameter sets: theta (the networks) takes steps on an inner loss L(theta, psi); psi (the
regularizer) is judged by an outer loss after one such step:

    theta'(psi) = theta - alpha * grad_theta L(theta, psi)
    wanted:       d/dpsi [ outer(theta'(psi)) + direct(psi) ]

Nothing here knows a model, a method or a regularizer: they come in as functions.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

Batch = TypeVar("Batch")
Outputs = TypeVar("Outputs")
Theta = Mapping[str, Tensor]


class MetaGradient(NamedTuple):
    """What stage 2 needs to move psi.

    Attributes:
        psi: One gradient per psi tensor, same shapes and order.
        outer_loss: [] the outer loss at theta', detached.
    """

    psi: tuple[Tensor, ...]
    outer_loss: Tensor


def parameters_of(module: nn.Module) -> dict[str, Tensor]:
    """Theta: the trainable parameters of ``module`` by name."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def stateless(module: nn.Module) -> Callable[[Theta, Any], Any]:
    """``module`` as a pure function ``(theta, batch) -> module(batch)``.

    Buffers are cloned for every call, so that BatchNorm statistics move only in the clones;
    parameters absent from theta (a target network's) are the module's own.

    Args:
        module: Any module, in the mode (train or eval) that it shall be called in.
    """

    def call(theta: Theta, batch: Any) -> Any:
        buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
        return functional_call(module, {**buffers, **theta}, (batch,))

    return call


def meta_gradient(
    embed: Callable[[Theta, Batch], Outputs],
    inner_loss: Callable[[Outputs], Tensor],
    outer_loss: Callable[[Outputs], Tensor],
    theta: Theta,
    psi: Sequence[Tensor],
    inner_batch: Batch,
    outer_batch: Batch,
    *,
    alpha: float,
    direct: Callable[[Outputs], Tensor] | None = None,
) -> MetaGradient:
    """The gradient for psi in its reference form: double backward through the virtual step.

    Touches nothing: no ``.grad``, no buffer (with :func:`stateless`), no random state. Autocast
    is off within: this is the exact form.

    Args:
        embed: Pure function of theta and a batch, e.g. ``stateless(method)``.
        inner_loss: L of what ``embed`` returned, []; depends on psi.
        outer_loss: The outer loss of what ``embed`` returned, [].
        theta: Named tensors that require gradient.
        psi: Tensors that require gradient.
        inner_batch: What the virtual step is taken on.
        outer_batch: What theta' is judged on; may be the same object.
        alpha: Rate of the virtual plain-SGD step, >= 0.
        direct: A term of the outer objective that reads psi itself, [], given the inner
            batch's outputs at theta; they are constants to it.

    Returns:
        Gradients of ``outer_loss(embed(theta', outer_batch)) + direct`` and the outer loss.

    Source: ICL-MSR, Eq. 5. Departure: none.

    >>> theta = {"w": torch.tensor(1.0, requires_grad=True)}
    >>> psi = [torch.tensor(3.0, requires_grad=True)]
    >>> meta_gradient(  # theta' = w - 0.1 psi x = 0.4, d(theta'^2)/dpsi = 2 theta' * -0.2
    ...     lambda theta, x: theta["w"] * x, lambda out: psi[0] * out, lambda out: out**2 / 4,
    ...     theta, psi, 2.0, 2.0, alpha=0.1).psi
    (tensor(-0.1600),)
    """
    kind = next(iter(theta.values())).device.type
    # Fused attention has no second derivative.
    with (
        _same_random_state(theta),
        torch.autocast(kind, enabled=False),
        sdpa_kernel(SDPBackend.MATH),
    ):
        outputs = embed(theta, inner_batch)
        gradients = torch.autograd.grad(
            inner_loss(outputs),
            list(theta.values()),
            create_graph=True,
            materialize_grads=True,
        )
        stepped = {
            name: parameter - alpha * gradient
            for (name, parameter), gradient in zip(theta.items(), gradients, strict=True)
        }
        outer = outer_loss(embed(stepped, outer_batch))
        through_theta = torch.autograd.grad(
            outer, psi, retain_graph=direct is not None, materialize_grads=True
        )
        if direct is None:
            return MetaGradient(through_theta, outer.detach())
        straight = torch.autograd.grad(direct(outputs), psi, materialize_grads=True)
    total = tuple(a + b for a, b in zip(through_theta, straight, strict=True))
    return MetaGradient(total, outer.detach())


def _same_random_state(theta: Theta) -> Any:
    """A context after which torch's global generators are where they were before it."""
    devices = {p.device.index for p in theta.values() if p.device.type == "cuda"}
    return torch.random.fork_rng(devices=sorted(devices))
