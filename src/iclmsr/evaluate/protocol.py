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


@dataclass(frozen=True)
class LogisticProbeConfig:
    """Logistic regression at its optimum, the penalty chosen on held-out training images.

    Source: ours; as Radford et al. 2021, section E.3. Departure: a fixed grid, relative to the
    features' variance.
    """

    penalties: tuple[float, ...] = (1.0, 0.3, 0.1, 0.03, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 1e-5, 1e-6)
    """lambda / 2 ||weight||^2 beside the mean cross-entropy, to choose from, as multiples of the
    mean variance of a feature, > 0."""
    validation: float = 0.2
    """Share of each class's training images that is held out to choose on, in (0, 1)."""
    tolerance: float = 1e-8
    """Loss left to gain, relative to the loss, at which the optimizer stops, > 0."""
    max_iterations: int = 1000
    """Steps of L-BFGS at most, >= 1."""
    seed: int = 0
    """Of which images are held out."""

    def __post_init__(self) -> None:
        if not self.penalties or not all(0 < one < float("inf") for one in self.penalties):
            raise IclmsrError(
                f"linear-lbfgs.penalties must be > 0 and finite, at least one, got {self.penalties}"
            )
        if not 0 < self.validation < 1:
            raise IclmsrError(f"linear-lbfgs.validation must be in (0, 1), got {self.validation}")
        if not 0 < self.tolerance < 1:
            raise IclmsrError(f"linear-lbfgs.tolerance must be in (0, 1), got {self.tolerance}")
        if self.max_iterations < 1:
            raise IclmsrError(
                f"linear-lbfgs.max-iterations must be >= 1, got {self.max_iterations}"
            )


@dataclass(frozen=True)
class FewLabelConfig:
    """The probe again, learning from few of the labels."""

    shares: tuple[float, ...] = ()
    """Shares of each class's training images whose labels are used, in (0, 1], as 0.01 0.1."""
    draws: int = 3
    """How often each share is drawn anew, >= 1; the accuracy is their mean."""
    seed: int = 0
    """Of which images are drawn."""

    def __post_init__(self) -> None:
        for share in self.shares:
            if not 0 < share <= 1:
                raise IclmsrError(f"few-labels.shares must be in (0, 1], got {share}")
        if self.draws < 1:
            raise IclmsrError(f"few-labels.draws must be >= 1, got {self.draws}")


@dataclass(frozen=True)
class FineTuneConfig:
    """Encoder and classifier trained together, from the encoder and its linear probe.

    Source: Kumar et al. 2022, LP-FT. Departure: crops and flips as in ``data``'s image size.
    """

    epochs: int = 0
    """Passes over the training images, >= 0; 0 does not fine-tune."""
    lr: float = 0.01
    """Learning rate of the first step, > 0; a cosine takes it to zero."""
    sgd_momentum: float = 0.9
    """Nesterov's momentum, in (0, 1)."""
    weight_decay: float = 1e-4
    """L2 penalty on all parameters, >= 0."""
    batch_size: int = 128
    """Images in a batch, >= 2; the images that do not fill a last one are left out."""
    crop_scale: tuple[float, float] = (0.5, 1.0)
    """Smallest and largest share of the image's area that a crop covers, in (0, 1]."""
    share: float = 1.0
    """Share of each class's training images that is used, in (0, 1]."""
    seed: int = 0
    """Of the order, the crops and flips, and the draw for ``share``."""

    def __post_init__(self) -> None:
        for name, value, good in (
            ("epochs", self.epochs, self.epochs >= 0),
            ("batch-size", self.batch_size, self.batch_size >= 2),
            ("lr", self.lr, 0 < self.lr < float("inf")),
            ("sgd-momentum", self.sgd_momentum, 0 < self.sgd_momentum < 1),
            ("weight-decay", self.weight_decay, 0 <= self.weight_decay < float("inf")),
            ("share", self.share, 0 < self.share <= 1),
        ):
            if not good:
                raise IclmsrError(f"fine-tune.{name} is out of its range, got {value}")
