# SPDX-License-Identifier: Apache-2.0
"""How the linear probe is trained, as a value."""

from dataclasses import dataclass

from iclmsr.errors import IclmsrError


@dataclass(frozen=True)
class LinearProbeConfig:
    """A linear classifier trained with Adam on frozen features.

    Source: W-MSE's public code. Departure: none.
    """

    epochs: int = 500
    """Passes over the training features, >= 1."""
    lr: float = 1e-2
    """Learning rate of the first epoch, > 0."""
    last_lr: float = 1e-6
    """What the learning rate decays to exponentially, reached after the last epoch, in (0, lr]."""
    weight_decay: float = 5e-6
    """Coupled L2 penalty (Adam, not AdamW) on weight and bias, >= 0."""
    batch_size: int = 1000
    """Images in a batch, >= 1; a smaller last batch is used too."""
    seed: int = 0
    """Of the initial classifier and the order of the images."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if not getattr(self, name) >= 1:
                raise IclmsrError(
                    f"linear-probe.{name.replace('_', '-')} must be >= 1, got {getattr(self, name)}"
                )
        if not 0 < self.lr < float("inf"):
            raise IclmsrError(f"linear-probe.lr must be > 0 and finite, got {self.lr}")
        if not 0 < self.last_lr <= self.lr:
            raise IclmsrError(
                f"linear-probe.last-lr must be in (0, lr] = (0, {self.lr}], got {self.last_lr}"
            )
        if not 0 <= self.weight_decay < float("inf"):
            raise IclmsrError(
                f"linear-probe.weight-decay must be >= 0 and finite, got {self.weight_decay}"
            )
