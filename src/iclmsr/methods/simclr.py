# SPDX-License-Identifier: Apache-2.0
"""SimCLR: a simple framework for contrastive learning (Chen et al. 2020, arXiv 2002.05709)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from iclmsr.losses import check_temperature, nt_xent
from iclmsr.methods.base import Embeddings, Method, Settings, embed_jointly, over_pairs
from iclmsr.networks import Encoder, Projector


@dataclass(frozen=True)
class SimCLRConfig(Settings):
    """SimCLR as in the W-MSE paper's protocol: head, temperature, sizes."""

    name: Literal["simclr"] = "simclr"
    """The method's name."""
    temperature: float = 0.5
    """Temperature of NT-Xent, > 0."""
    hidden_dim: int = 1024
    """Width of the projector's hidden layer."""
    embedding_dim: int = 64
    """D, the size of an embedding."""

    def __post_init__(self) -> None:
        check_temperature(self.temperature)

    def build(self, encoder: Encoder) -> "SimCLR":
        """The method around ``encoder``; the projector's weights come from torch's generator."""
        return SimCLR(self, encoder)


class SimCLR(Method):
    """z = BN(g(f(x))) and NT-Xent between views.

    Source: Chen et al. 2020, section 2.1. Departure: head, batch norm after it and its joint
    statistics over all views as in W-MSE's public code, whose numbers the paper's table quotes.
    """

    def __init__(self, config: SimCLRConfig, encoder: Encoder) -> None:
        super().__init__()
        self.temperature = config.temperature
        self.encoder = encoder
        self.projector = Projector(
            encoder.feature_dim, config.hidden_dim, config.embedding_dim, output_norm=True
        )

    def embed(self, views: Sequence[Tensor]) -> Embeddings:
        """F sees one view at a time, g all of them at once: its batch norm spans V * B rows."""
        z, features = embed_jointly(self.encoder, self.projector, views)
        return Embeddings(z, z, features)

    def loss(self, embeddings: Embeddings, *, generator: torch.Generator | None = None) -> Tensor:
        """NT-Xent, mean over the V (V - 1) / 2 pairs of views, [] in nats."""
        return over_pairs(partial(nt_xent, temperature=self.temperature), embeddings.online)
