# SPDX-License-Identifier: Apache-2.0
"""SimSiam: exploring simple siamese representation learning (Chen and He 2020).

arXiv 2011.10566.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from iclmsr.losses import regression_loss
from iclmsr.methods.base import Embeddings, Method, Settings, embed_each, over_directions
from iclmsr.networks import Encoder, Projector


@dataclass(frozen=True)
class SimSiamConfig(Settings):
    """SimSiam with the sizes of the table's protocol."""

    name: Literal["simsiam"] = "simsiam"
    """The method's name."""
    hidden_dim: int = 1024
    """Width of the projector's hidden layer."""
    embedding_dim: int = 64
    """D, the size of an embedding; the predictor's hidden layer is a quarter as wide."""

    def build(self, encoder: Encoder) -> "SimSiam":
        """The method around ``encoder``; other initial weights come from torch's generator."""
        return SimSiam(self, encoder)


class SimSiam(Method):
    """Predictions q(g(f(x))) of one view meet g(f(x)) of the other, which gets no gradient.

    Source: Chen and He 2020, Algorithm 1. Departure: the batch norm after g is affine.
    """

    def __init__(self, config: SimSiamConfig, encoder: Encoder) -> None:
        super().__init__()
        dim = config.embedding_dim
        self.encoder = encoder
        self.projector = Projector(encoder.feature_dim, config.hidden_dim, dim, output_norm=True)
        self.predictor = Projector(dim, max(1, dim // 4), dim)

    def embed(self, views: Sequence[Tensor]) -> Embeddings:
        """Every network sees one view at a time; the target is the same branch, detached."""
        z, features = embed_each(self.encoder, self.projector, views)
        online = torch.stack([self.predictor(view) for view in z])
        return Embeddings(online, z.detach(), features)

    def loss(self, embeddings: Embeddings, *, generator: torch.Generator | None = None) -> Tensor:
        """Minus the mean cosine over directions and pairs of views, [] in [-1, 1]."""
        return over_directions(regression_loss, embeddings.online, embeddings.target) / 4 - 1
