# SPDX-License-Identifier: Apache-2.0
"""Barlow Twins: self-supervised learning via redundancy reduction (Zbontar et al. 2021).

arXiv 2103.03230.

The loss is lightly's: ``pip install 'iclmsr[lightly]'``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from iclmsr.errors import IclmsrError
from iclmsr.losses import at_least_float32
from iclmsr.methods.base import Embeddings, Method, Settings, embed_each, over_pairs
from iclmsr.networks import Encoder, Projector


@dataclass(frozen=True)
class BarlowTwinsConfig(Settings):
    """Barlow Twins with the sizes of the table's protocol."""

    name: Literal["barlow-twins"] = "barlow-twins"
    """The method's name."""
    redundancy_weight: float = 5e-3
    """Weight of the cross-correlation's off-diagonal entries, >= 0."""
    hidden_dim: int = 1024
    """Width of the projector's hidden layer."""
    embedding_dim: int = 64
    """D, the size of an embedding."""

    def __post_init__(self) -> None:
        for name in ("redundancy_weight",):
            if not getattr(self, name) >= 0:
                option = name.replace("_", "-")
                raise IclmsrError(f"method.{option} must be >= 0, got {getattr(self, name)}")

    def build(self, encoder: Encoder) -> "BarlowTwins":
        """The method around ``encoder``; the projector's weights come from torch's generator.

        Raises:
            IclmsrError: lightly is not installed.
        """
        return BarlowTwins(self, encoder)


class BarlowTwins(Method):
    """z = g(f(x)), one view at a time, and lightly's ``BarlowTwinsLoss``.

    Source: Zbontar et al. 2021, Algorithm 1. Departure: the head of the table's protocol.
    """

    def __init__(self, config: BarlowTwinsConfig, encoder: Encoder) -> None:
        super().__init__()
        try:
            from lightly.loss.barlow_twins_loss import BarlowTwinsLoss
        except ImportError as error:
            raise IclmsrError(
                "barlow-twins needs lightly, which is not installed: pip install 'iclmsr[lightly]'"
            ) from error
        self.encoder = encoder
        self.projector = Projector(encoder.feature_dim, config.hidden_dim, config.embedding_dim)
        self.criterion = BarlowTwinsLoss(lambda_param=config.redundancy_weight)

    def embed(self, views: Sequence[Tensor]) -> Embeddings:
        """Every network sees one view at a time."""
        z, features = embed_each(self.encoder, self.projector, views)
        return Embeddings(z, z, features)

    def loss(self, embeddings: Embeddings, *, generator: torch.Generator | None = None) -> Tensor:
        """The cross-correlation of two views against I, mean over pairs of views, [] >= 0."""
        z = at_least_float32(embeddings.online)
        with torch.autocast(z.device.type, enabled=False):
            return over_pairs(self.criterion, z)
