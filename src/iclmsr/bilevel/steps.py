# SPDX-License-Identifier: Apache-2.0
"""One optimizer step as a pure, differentiable function, and its effect on a direction.

A virtual step goes parameter by parameter, so its derivative is parameter by parameter too: one
vector-Jacobian product of each replaces v by the direction that the update lets through.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from iclmsr.bilevel.functional import Theta

Step = Callable[[str, Tensor, Tensor], Tensor]
"""``(name, parameter, gradient) -> parameter after the step``, differentiable in the gradient."""

_TINY = 1e-30  # under it Adam's second moment counts as constant: its root has no slope at 0


def sgd(
    lr: float,
    *,
    momentum: float = 0.0,
    nesterov: bool = False,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    buffers: Mapping[str, Tensor] | None = None,
) -> Step:
    """SGD: theta - lr d, d = g + weight_decay theta; with momentum b <- momentum b + d.

    Args:
        lr: alpha, >= 0.
        momentum: In [0, 1).
        nesterov: Step along d + momentum b instead of b.
        dampening: Share of d that b does not take up, in [0, 1]; a new b takes up all.
        weight_decay: Added to the gradient, >= 0.
        buffers: b of each parameter; none is new.

    Source: torch.optim.SGD. Departure: none.

    >>> float(sgd(0.1)("w", torch.tensor(1.0), torch.tensor(2.0)))
    0.800000011920929
    """

    def step(name: str, parameter: Tensor, gradient: Tensor) -> Tensor:
        d = gradient + weight_decay * parameter if weight_decay else gradient
        return parameter - lr * _carry(d, name, momentum, nesterov, dampening, buffers)

    return step


def adam(
    lr: float,
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled: bool = False,
    moments: Mapping[str, tuple[Tensor, Tensor]] | None = None,
    steps: Mapping[str, int] | None = None,
) -> Step:
    """Adam: theta - lr m / (sqrt(s) + eps) with both moments corrected for their bias.

    Args:
        lr: alpha, >= 0.
        betas: Decay of the first and the second moment, in [0, 1).
        eps: > 0.
        weight_decay: >= 0.
        decoupled: AdamW: weight decay shrinks the parameter instead of joining the gradient.
        moments: First and second moment of each parameter; none is zero.
        steps: Steps taken before, of each parameter; none is 0.

    Source: torch.optim.Adam and AdamW. Departure: none.
    """

    def step(name: str, parameter: Tensor, gradient: Tensor) -> Tensor:
        if weight_decay and decoupled:
            parameter = parameter * (1 - lr * weight_decay)
        elif weight_decay:
            gradient = gradient + weight_decay * parameter
        first, second = (moments or {}).get(name, (0.0, 0.0))
        count = (steps or {}).get(name, 0) + 1
        m = betas[0] * first + (1 - betas[0]) * gradient
        s = betas[1] * second + (1 - betas[1]) * gradient.square()
        root = (s / (1 - betas[1] ** count)).clamp_min(_TINY).sqrt()
        return parameter - lr / (1 - betas[0] ** count) * m / (root + eps)

    return step


def lars(
    lr: float,
    *,
    trust: float = 0.001,
    eps: float = 1e-8,
    momentum: float = 0.9,
    nesterov: bool = False,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    adapt: Callable[[str], bool] = lambda _: True,
    buffers: Mapping[str, Tensor] | None = None,
) -> Step:
    """LARS: SGD with momentum on q d, q = trust |theta| / (|g| + weight_decay |theta| + eps).

    Args:
        lr: alpha, >= 0.
        trust: Trust coefficient, > 0.
        eps: >= 0.
        momentum: In [0, 1).
        nesterov: As in :func:`sgd`.
        dampening: As in :func:`sgd`.
        weight_decay: >= 0.
        adapt: Of a name, whether q applies to that parameter.
        buffers: As in :func:`sgd`.

    Source: You et al. 2017 (arXiv 1708.03888) as timm.optim.Lars. Departure: none.
    """

    def step(name: str, parameter: Tensor, gradient: Tensor) -> Tensor:
        d = gradient + weight_decay * parameter
        length, slope = parameter.norm(), gradient.norm()
        if adapt(name) and length > 0 and slope > 0:
            d = d * (trust * length / (slope + length * weight_decay + eps))
        return parameter - lr * _carry(d, name, momentum, nesterov, dampening, buffers)

    return step


def step_of(optimizer: torch.optim.Optimizer, theta: Theta, *, lr: float) -> Step:
    """The step that ``optimizer`` would take now, at rate ``lr``; it is only read.

    Args:
        optimizer: torch's SGD, Adam or AdamW, or timm's Lars, over the tensors of ``theta``.
        theta: Names of the tensors.
        lr: alpha, >= 0, in place of the optimizer's own.

    Raises:
        ValueError: Another optimizer, or an option of it that has no virtual step.
    """
    names = {id(tensor): name for name, tensor in theta.items()}
    rules: dict[str, Step] = {}
    for group in optimizer.param_groups:
        known = {names[id(p)]: optimizer.state.get(p, {}) for p in group["params"]}
        rules |= dict.fromkeys(known, _rule(group, known, lr))
    return lambda name, parameter, gradient: rules[name](name, parameter, gradient)


def _rule(group: Mapping[str, Any], known: Mapping[str, Mapping[str, Any]], lr: float) -> Step:
    """The step of one parameter group, told by the options that it has."""
    refused = [name for name in ("amsgrad", "maximize", "trust_clip") if group.get(name)]
    if refused or not {"betas", "momentum"} & group.keys():
        raise ValueError(f"no virtual step for an optimizer with {refused or sorted(group)}")
    if "betas" in group:
        begun = {name: state for name, state in known.items() if "exp_avg" in state}
        return adam(
            lr,
            betas=group["betas"],
            eps=group["eps"],
            weight_decay=group["weight_decay"],
            decoupled=group.get("decoupled_weight_decay", False),
            moments={n: (state["exp_avg"], state["exp_avg_sq"]) for n, state in begun.items()},
            steps={name: int(state["step"]) for name, state in begun.items()},
        )
    buffers = {name: state.get("momentum_buffer") for name, state in known.items()}
    carried: dict[str, Any] = {
        "momentum": group["momentum"],
        "nesterov": group["nesterov"],
        "dampening": group["dampening"],
        "weight_decay": group["weight_decay"],
        "buffers": {name: buffer for name, buffer in buffers.items() if buffer is not None},
    }
    if "trust_coeff" not in group:
        return sgd(lr, **carried)
    adapted = bool(group["weight_decay"] or group["always_adapt"])
    return lars(
        lr, trust=group["trust_coeff"], eps=group["eps"], adapt=lambda _: adapted, **carried
    )


def effective_direction(
    step: Step, theta: Theta, gradient: Sequence[Tensor], v: Sequence[Tensor]
) -> list[Tensor]:
    """What the step lets through of v: (d theta' / d g)^T v, parameter by parameter.

    Minus alpha v for plain SGD, minus alpha (1 + momentum) v for Nesterov's, an elementwise
    factor for Adam, a projection for LARS.

    Args:
        step: The virtual step.
        theta: Where it starts.
        gradient: g, the inner loss's, in theta's order.
        v: The outer loss's gradient at theta', in theta's order.

    Source: ICL-MSR's Eq. 5 by the chain rule through the update. Departure: none.

    >>> one = torch.ones(1)
    >>> effective_direction(sgd(0.1, momentum=0.9, nesterov=True), {"w": one}, [one], [one])
    [tensor([-0.1900])]
    """
    found = []
    for (name, parameter), slope, along in zip(theta.items(), gradient, v, strict=True):
        with torch.enable_grad():
            leaf = slope.detach().requires_grad_()
            after = step(name, parameter.detach(), leaf)
            found.append(torch.autograd.grad(after, leaf, along.to(after.dtype))[0])
    return found


def _carry(
    d: Tensor,
    name: str,
    momentum: float,
    nesterov: bool,
    dampening: float,
    buffers: Mapping[str, Tensor] | None,
) -> Tensor:
    """The direction of a step with momentum."""
    if not momentum:
        return d
    buffer = (buffers or {}).get(name)
    b = d if buffer is None else momentum * buffer + (1 - dampening) * d
    return d + momentum * b if nesterov else b
