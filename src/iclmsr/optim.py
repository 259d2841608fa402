# SPDX-License-Identifier: Apache-2.0
"""Optimizers, and learning rates as a function of the step alone."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from timm.optim.lars import Lars
from torch import Tensor

from iclmsr.errors import IclmsrError


@dataclass(frozen=True)
class OptimizerConfig:
    """Optimizer of theta and the course of its learning rate."""

    name: Literal["adam", "adamw", "sgd", "lars"] = "adam"
    """adam, sgd and lars add weight decay to the gradient (L2), adamw decouples it; lars, for
    batches of thousands, adapts the rate of every weight matrix."""
    lr: float = 3e-3
    """Base learning rate, > 0."""
    weight_decay: float = 1e-6
    """Weight decay of every parameter, >= 0; lars leaves out biases and batch norm."""
    sgd_momentum: float = 0.9
    """Momentum of sgd and lars, in [0, 1)."""
    nesterov: bool = False
    """Nesterov's momentum, of sgd and lars."""
    warmup_steps: int = 500
    """Linear warm-up in steps; at most half of the run."""
    schedule: Literal["step", "cosine", "constant"] = "step"
    """After the warm-up: step (drops near the end), cosine to zero, or constant."""
    drops: tuple[int, ...] = (50, 25)
    """For step: how many epochs before the end the rate drops; those before the start do not."""
    drop_factor: float = 0.2
    """For step: what the rate is multiplied with at each drop."""

    def __post_init__(self) -> None:
        if not self.lr > 0:
            raise IclmsrError(f"optimizer.lr must be > 0, got {self.lr}")
        if not 0 <= self.sgd_momentum < 1:
            raise IclmsrError(f"optimizer.sgd-momentum must be in [0, 1), got {self.sgd_momentum}")
        if self.nesterov and self.sgd_momentum == 0:
            raise IclmsrError("optimizer.nesterov needs optimizer.sgd-momentum > 0, got 0")
        for name in ("weight_decay", "warmup_steps", "drop_factor"):
            if getattr(self, name) < 0:
                option = name.replace("_", "-")
                raise IclmsrError(f"optimizer.{option} must be >= 0, got {getattr(self, name)}")


def build_optimizer(config: OptimizerConfig, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
    """The optimizer, fused where torch has it so."""
    tensors = list(parameters)
    lr, decay = config.lr, config.weight_decay
    momentum, nesterov = config.sgd_momentum, config.nesterov
    if config.name == "sgd":
        return torch.optim.SGD(
            tensors, lr, momentum=momentum, nesterov=nesterov, weight_decay=decay, fused=True
        )
    if config.name == "lars":
        matrices = {"params": [t for t in tensors if t.ndim > 1], "always_adapt": True}
        others = {"params": [t for t in tensors if t.ndim <= 1], "weight_decay": 0.0}
        groups = [group for group in (matrices, others) if group["params"]]
        lars: torch.optim.Optimizer = Lars(
            groups, lr, momentum=momentum, nesterov=nesterov, weight_decay=decay
        )
        return lars
    optimizer = torch.optim.Adam if config.name == "adam" else torch.optim.AdamW
    return optimizer(tensors, lr, weight_decay=decay, fused=True)


def learning_rate(
    config: OptimizerConfig, step: int, *, steps_per_epoch: int, epochs: int
) -> float:
    """The learning rate of one step.

    Args:
        config: Base rate and schedule.
        step: Index of the step in the run, from 0.
        steps_per_epoch: Steps in an epoch.
        epochs: Epochs in the run.

    Returns:
        The rate: lr (step + 1) / warmup_steps during the warm-up, then the schedule's.

    Source: W-MSE's public code. Departure: a warm-up never takes more than
    half of the run, and drops that would fall before the first epoch are left out.

    >>> config = OptimizerConfig()
    >>> [learning_rate(config, step, steps_per_epoch=97, epochs=1000) for step in (0, 499, 500)]
    [6e-06, 0.003, 0.003]
    >>> round(learning_rate(config, 97 * 950, steps_per_epoch=97, epochs=1000), 10)
    0.0006
    """
    total = steps_per_epoch * epochs
    warmup = min(config.warmup_steps, total // 2)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    if config.schedule == "cosine":
        return config.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))
    if config.schedule == "constant":
        return config.lr
    passed = sum(0 < epochs - drop <= step // steps_per_epoch for drop in config.drops)
    return config.lr * config.drop_factor**passed
