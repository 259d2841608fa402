# SPDX-License-Identifier: Apache-2.0
"""VICReg: variance-invariance-covariance regularization (Bardes et al. 2021).

arXiv 2105.04906.

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
class VICRegConfig(Settings):
    """VICReg with the sizes of the table's protocol."""

    name: Literal["vicreg"] = "vicreg"
    """The method's name."""
    invariance_weight: float = 25.0
    """Weight of the squared distance of two views, >= 0."""
    variance_weight: float = 25.0
    """Weight of the hinge that keeps every dimension's standard deviation at 1, >= 0."""
    covariance_weight: float = 1.0
    """Weight of the covariances between dimensions, >= 0."""
    hidden_dim: int = 1024
    """Width of the projector's hidden layer."""
    embedding_dim: int = 64
    """D, the size of an embedding."""

    def __post_init__(self) -> None:
        for name in ("invariance_weight", "variance_weight", "covariance_weight"):
            if not getattr(self, name) >= 0:
                option = name.replace("_", "-")
                raise IclmsrError(f"method.{option} must be >= 0, got {getattr(self, name)}")

    def build(self, encoder: Encoder) -> "VICReg":
        """The method around ``encoder``; the projector's weights come from torch's generator.

        Raises:
            IclmsrError: lightly is not installed.
        """
        return VICReg(self, encoder)


class VICReg(Method):
    """z = g(f(x)), one view at a time, and lightly's ``VICRegLoss``.

    Source: Bardes et al. 2021, Eq. 1 to 6. Departure: the head of the table's protocol.
    """

    def __init__(self, config: VICRegConfig, encoder: Encoder) -> None:
        super().__init__()
        try:
            from lightly.loss.vicreg_loss import VICRegLoss
        except ImportError as error:
            raise IclmsrError(
                "vicreg needs lightly, which is not installed: pip install 'iclmsr[lightly]'"
            ) from error
        self.encoder = encoder
        self.projector = Projector(encoder.feature_dim, config.hidden_dim, config.embedding_dim)
        self.criterion = VICRegLoss(
            lambda_param=config.invariance_weight,
            mu_param=config.variance_weight,
            nu_param=config.covariance_weight,
        )

    def embed(self, views: Sequence[Tensor]) -> Embeddings:
        """Every network sees one view at a time."""
        z, features = embed_each(self.encoder, self.projector, views)
        return Embeddings(z, z, features)

    def loss(self, embeddings: Embeddings, *, generator: torch.Generator | None = None) -> Tensor:
        """Invariance, variance and covariance, mean over pairs of views, [] >= 0."""
        z = at_least_float32(embeddings.online)
        with torch.autocast(z.device.type, enabled=False):
            return over_pairs(self.criterion, z)
