# SPDX-License-Identifier: Apache-2.0
"""BYOL: bootstrap your own latent (Grill et al. 2020, arXiv 2006.07733)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from iclmsr.losses import regression_loss
from iclmsr.methods.base import (
    Embeddings,
    Method,
    Settings,
    TargetSchedule,
    check_decay,
    embed_each,
    embed_target,
    over_directions,
)
from iclmsr.networks import Encoder, Projector, TargetNetwork, target_decay


@dataclass(frozen=True)
class BYOLConfig(Settings):
    """BYOL as in the W-MSE paper's protocol."""

    name: Literal["byol"] = "byol"
    """The method's name."""
    target_decay: float = 0.99
    """Share of itself that the target keeps at a step, at the start, in [0, 1]; rises to 1."""
    target_schedule: TargetSchedule = "epoch"
    """Whether that rise goes by whole epochs (the table's protocol) or by steps (the paper)."""
    hidden_dim: int = 1024
    """Width of the hidden layers of projector and predictor."""
    embedding_dim: int = 64
    """D, the size of an embedding."""

    def __post_init__(self) -> None:
        check_decay(self.target_decay)

    def build(self, encoder: Encoder) -> "BYOL":
        """The method around ``encoder``; other initial weights come from torch's generator."""
        return BYOL(self, encoder)


class BYOL(Method):
    """Predictions q(g(f(x))) of one view meet the target branch's embedding of the other.

    Source: Grill et al. 2020, section 3.1. Departure: sizes of the heads, statistics per view
    and the decay per epoch as in W-MSE's public code; ``target_schedule`` offers per step.
    """

    def __init__(self, config: BYOLConfig, encoder: Encoder) -> None:
        super().__init__()
        self.counts_epochs = config.target_schedule == "epoch"
        self.target_decay = config.target_decay
        hidden, dim = config.hidden_dim, config.embedding_dim
        self.encoder = encoder
        self.projector = Projector(encoder.feature_dim, hidden, dim)
        self.predictor = Projector(dim, hidden, dim)
        self.target = TargetNetwork(encoder, self.projector)

    def embed(self, views: Sequence[Tensor]) -> Embeddings:
        """Every network sees one view at a time."""
        online, features = embed_each(
            self.encoder, lambda h: self.predictor(self.projector(h)), views
        )
        return Embeddings(online, embed_target(self.target, views), features)

    def loss(self, embeddings: Embeddings, *, generator: torch.Generator | None = None) -> Tensor:
        """Sum of both directions' regression losses, mean over pairs of views, [] in [0, 8]."""
        return over_directions(regression_loss, embeddings.online, embeddings.target)

    def after_step(self, embeddings: Embeddings, progress: float) -> None:
        """The target follows f and g."""
        decay = target_decay(self.target_decay, progress)
        self.target.follow(self.encoder, self.projector, decay=decay)
