# SPDX-License-Identifier: Apache-2.0
"""RELIC: representation learning via invariant causal mechanisms (Mitrovic et al. 2021).

arXiv 2010.07922. Its authors published no training code: this is a re-implementation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from iclmsr.errors import IclmsrError
from iclmsr.losses import at_least_float32, check_temperature
from iclmsr.methods.base import (
    Embeddings,
    Method,
    Settings,
    TargetSchedule,
    check_decay,
    embed_each,
    embed_target,
)
from iclmsr.networks import Encoder, Projector, TargetNetwork, target_decay
from iclmsr.tiles import over_rows

StopGradient = Literal["none", "first", "entropy"]


def relic_loss(
    online: Tensor,
    target: Tensor,
    *,
    temperature: float,
    alpha: float,
    kl_stopgrad: StopGradient = "none",
) -> Tensor:
    """Contrast of two views, and the Kullback-Leibler distance of what they say of the others.

    With unit rows, P12 = log_softmax(u_1 t_2^T / temperature) and P21 likewise,

        L = (CE(P12) + CE(P21)) / 2 + alpha (KL(P12 || P21) + KL(P21 || P12)) / 2,

    where the right column of CE is the row's own image and KL is the mean over rows.

    Args:
        online: (2, B, D) u, not normalized.
        target: (2, B, D) t; may be ``online`` itself.
        temperature: > 0.
        alpha: Weight of the invariance, >= 0.
        kl_stopgrad: No gradient through: ``none`` of the KL, the ``first`` of its two
            distributions, or its ``entropy`` term sum p log p.

    Returns:
        [] in nats, >= 0; float32 or the inputs' dtype if that is wider.

    Raises:
        IclmsrError: Shapes that do not fit, a temperature <= 0, or an unknown ``kl_stopgrad``.

    Source: Mitrovic et al. 2021, Eq. 3 to 5. Departure: negatives are the B - 1 other images of
    the other view.

    >>> eye = torch.eye(4, dtype=torch.float64).expand(2, 4, 4)
    >>> round(2 * relic_loss(eye, eye, temperature=0.5, alpha=1.0).item(), 10)
    0.6815059078
    """
    check_temperature(temperature)
    if online.ndim != 3 or len(online) != 2 or online.shape != target.shape:
        raise IclmsrError(
            "online and target need one shape (2, B, D), "
            f"got {tuple(online.shape)} and {tuple(target.shape)}"
        )
    if kl_stopgrad not in get_args(StopGradient):
        raise IclmsrError(
            f"kl_stopgrad must be one of {get_args(StopGradient)}, got {kl_stopgrad!r}"
        )

    def loss(u1: Tensor, u2: Tensor, i: Tensor, t1: Tensor, t2: Tensor) -> Tensor:
        p12 = (u1 @ t2.T / temperature).log_softmax(1)  # (R, B)
        p21 = (u2 @ t1.T / temperature).log_softmax(1)
        contrast = F.nll_loss(p12, i, reduction="none") + F.nll_loss(p21, i, reduction="none")
        if alpha == 0:
            return contrast / 2
        kl = _divergence(p12, p21, kl_stopgrad) + _divergence(p21, p12, kl_stopgrad)
        return (contrast + alpha * kl) / 2

    with torch.autocast(online.device.type, enabled=False):
        u = F.normalize(at_least_float32(online), dim=2)
        t = F.normalize(at_least_float32(target), dim=2)
        rows = torch.arange(u.shape[1], device=u.device)
        return over_rows(loss, [*u, rows], [*t]).mean()


def _divergence(p: Tensor, q: Tensor, stop_gradient: StopGradient) -> Tensor:
    """KL(p || q) of each row of log-probabilities, (R,) of (R, B)."""
    if stop_gradient == "first":
        p = p.detach()
    entropy = p.exp() * p
    if stop_gradient == "entropy":
        entropy = entropy.detach()
    return (entropy - p.exp() * q).sum(1)


@dataclass(frozen=True)
class RELICConfig(Settings):
    """RELIC with a slowly moving target, for the table's protocol."""

    name: Literal["relic"] = "relic"
    """The method's name."""
    temperature: float = 0.5
    """Temperature of the similarities, > 0."""
    alpha: float = 1.0
    """Weight of the invariance term, >= 0."""
    kl_stopgrad: StopGradient = "none"
    """What of the invariance term gets no gradient: none, the first of its two distributions,
    or its entropy."""
    target: Literal["ema", "none"] = "ema"
    """ema: a target network; none: the online branch on both sides, with gradient."""
    target_decay: float = 0.99
    """Share of itself that the target keeps at a step, at the start, in [0, 1]; rises to 1."""
    target_schedule: TargetSchedule = "epoch"
    """Whether that rise goes by whole epochs (the table's protocol) or by steps."""
    hidden_dim: int = 1024
    """Width of the projector's hidden layer."""
    embedding_dim: int = 64
    """D, the size of an embedding."""

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        check_decay(self.target_decay)
        if not self.alpha >= 0:
            raise IclmsrError(f"method.alpha must be >= 0, got {self.alpha}")

    def build(self, encoder: Encoder) -> "RELIC":
        """The method around ``encoder``; other initial weights come from torch's generator."""
        return RELIC(self, encoder)


class RELIC(Method):
    """Views predict each other's image, and do so alike.

    Source: Mitrovic et al. 2021, section 3. Departure: the critic is the table's two-layer head,
    and the other side a target network unless ``target`` is none.
    """

    def __init__(self, config: RELICConfig, encoder: Encoder) -> None:
        super().__init__()
        self.config = config
        self.counts_epochs = config.target_schedule == "epoch"
        self.encoder = encoder
        self.projector = Projector(encoder.feature_dim, config.hidden_dim, config.embedding_dim)
        self.target = TargetNetwork(encoder, self.projector) if config.target == "ema" else None

    def embed(self, views: Sequence[Tensor]) -> Embeddings:
        """Every network sees one view at a time."""
        online, features = embed_each(self.encoder, self.projector, views)
        target = online if self.target is None else embed_target(self.target, views)
        return Embeddings(online, target, features)

    def loss(self, embeddings: Embeddings, *, generator: torch.Generator | None = None) -> Tensor:
        """:func:`relic_loss`, mean over pairs of views, [] in nats."""
        config, (online, target) = self.config, embeddings[:2]
        losses = [
            relic_loss(
                online[[i, j]],
                target[[i, j]],
                temperature=config.temperature,
                alpha=config.alpha,
                kl_stopgrad=config.kl_stopgrad,
            )
            for i, j in combinations(range(len(online)), 2)
        ]
        return torch.stack(losses).mean()

    def after_step(self, embeddings: Embeddings, progress: float) -> None:
        """The target follows f and g."""
        if self.target is not None:
            decay = target_decay(self.config.target_decay, progress)
            self.target.follow(self.encoder, self.projector, decay=decay)
