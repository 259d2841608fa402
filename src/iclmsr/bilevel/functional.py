# SPDX-License-Identifier: Apache-2.0
"""Modules as pure functions, and their outputs as tensors that a graph can be cut at."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

Theta = Mapping[str, Tensor]


def parameters_of(module: nn.Module) -> dict[str, Tensor]:
    """Theta: the trainable parameters of ``module`` by name."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def stateless(module: nn.Module) -> Callable[[Theta, Any], Any]:
    """``module`` as a pure function ``(theta, batch) -> module(batch)``.

    Buffers are cloned for every call, so that BatchNorm statistics move only in the clones;
    parameters absent from theta (a target network's) are the module's own.

    Args:
        module: Any module, in the mode (train or eval) that it shall be called in; the bare
            module, not a wrapper for several processes.
    """

    def call(theta: Theta, batch: Any) -> Any:
        buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
        return functional_call(module, {**buffers, **theta}, (batch,))

    return call


def tensors_of(outputs: Any) -> list[Tensor]:
    """The different tensors in ``outputs``, a tensor or a tuple of them and of anything else."""
    fields = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    unique = {id(field): field for field in fields if isinstance(field, Tensor)}
    return list(unique.values())


def put_back(outputs: Any, old: Sequence[Tensor], new: Sequence[Tensor]) -> Any:
    """``outputs`` with each tensor of ``old`` exchanged for its counterpart in ``new``.

    A tensor that stands in two fields, as SimCLR's online and target, is the very same in both
    of the result too.

    >>> a, b = torch.zeros(1), torch.ones(1)
    >>> put_back((a, None, a), [a], [b])
    (tensor([1.]), None, tensor([1.]))
    """
    counterpart = {id(one): other for one, other in zip(old, new, strict=True)}
    if isinstance(outputs, Tensor):
        return counterpart.get(id(outputs), outputs)
    fields = [counterpart.get(id(field), field) for field in outputs]
    return type(outputs)(*fields) if hasattr(outputs, "_fields") else type(outputs)(fields)


def at_least_float32(tensor: Tensor) -> Tensor:
    """The tensor itself, or in float32 when it has fewer bits."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


@contextlib.contextmanager
def replay(device: torch.device, state: Tensor | None) -> Iterator[None]:
    """Random layers within draw from ``state``; the global generator is untouched afterwards.

    Args:
        device: Whose generator the layers draw from.
        state: As :func:`random_state` returned it; None is where the generator is now.
    """
    with torch.random.fork_rng([device.index] if device.type == "cuda" else []):
        if state is not None:
            if device.type == "cuda":
                torch.cuda.set_rng_state(state, device)
            else:
                torch.set_rng_state(state)
        yield


def random_state(device: torch.device) -> Tensor:
    """Where the generator of random layers on ``device`` is."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()
