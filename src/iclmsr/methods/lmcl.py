# SPDX-License-Identifier: Apache-2.0
"""LMCL: large-margin contrastive learning with distance polarization (Chen et al. 2021, ICML).

No code of its authors is public, and the hyper-parameters of the paper's table are not either:
this is a re-implementation from the formula.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from iclmsr.errors import IclmsrError
from iclmsr.losses import at_least_float32, check_temperature, nt_xent
from iclmsr.methods.base import Embeddings, Method, Settings, embed_jointly, over_pairs
from iclmsr.networks import Encoder, Projector
from iclmsr.tiles import over_rows


def distance_polarization(
    z: Tensor, *, lower: float, upper: float, reduction: Literal["mean", "sum"] = "mean"
) -> Tensor:
    """Pushes distances out of (lower, upper), to either side.

    With D_ij = (1 - cos(z_i, z_j)) / 2 in [0, 1],

        R = sum_ij | min( (D_ij - lower) (D_ij - upper), 0 ) |.

    Args:
        z: (M, D) embeddings, M >= 2, not normalized.
        lower: d+, 0 < lower < upper.
        upper: d-, lower < upper < 1.
        reduction: ``sum`` over all pairs, or their ``mean`` over the M (M - 1) with i != j.

    Returns:
        [] >= 0; float32 or the input's dtype if that is wider.

    Raises:
        IclmsrError: Thresholds out of order, an unknown reduction, or fewer than 2 rows.

    Source: Chen et al. 2021 (ICML), Eq. 6. Departure: the mean is ours, so that the weight does
    not depend on the batch size.

    >>> distance_polarization(torch.eye(2), lower=0.1, upper=0.9).item()  # D = 1/2: 0.4 * 0.4
    0.1599999964237213
    """
    if not 0 < lower < upper < 1:
        raise IclmsrError(f"need 0 < lower < upper < 1, got {lower} and {upper}")
    if reduction not in ("mean", "sum"):
        raise IclmsrError(f"reduction must be mean or sum, got {reduction!r}")
    if z.ndim != 2 or len(z) < 2:
        raise IclmsrError(f"z must be (M, D) with M >= 2, got {tuple(z.shape)}")

    def cost(z_i: Tensor, z: Tensor) -> Tensor:
        distance = (1 - (z_i @ z.T).clamp(-1, 1)) / 2  # (R, M)
        return F.relu((distance - lower) * (upper - distance)).sum(1)  # D_ii = 0 costs nothing

    with torch.autocast(z.device.type, enabled=False):
        unit = F.normalize(at_least_float32(z), dim=1)
        total = over_rows(cost, [unit], [unit]).sum()
        return total if reduction == "sum" else total / (len(z) * (len(z) - 1))


@dataclass(frozen=True)
class LMCLConfig(Settings):
    """SimCLR and distance polarization; thresholds and weight are ours."""

    name: Literal["lmcl"] = "lmcl"
    """The method's name."""
    temperature: float = 0.5
    """Temperature of NT-Xent, > 0."""
    polarization_weight: float = 1.0
    """Weight of the polarization, >= 0."""
    lower: float = 0.2
    """d+: pairs closer than the middle of (lower, upper) are pulled together, in (0, upper)."""
    upper: float = 0.5
    """d-: pairs beyond that middle are pushed apart, in (lower, 1)."""
    reduction: Literal["mean", "sum"] = "mean"
    """Mean over pairs of different embeddings, or sum over all."""
    hidden_dim: int = 1024
    """Width of the projector's hidden layer."""
    embedding_dim: int = 64
    """D, the size of an embedding."""

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        if not 0 < self.lower < self.upper < 1:
            raise IclmsrError(
                f"need 0 < method.lower < method.upper < 1, got {self.lower} and {self.upper}"
            )
        if not self.polarization_weight >= 0:
            raise IclmsrError(
                f"method.polarization-weight must be >= 0, got {self.polarization_weight}"
            )

    def build(self, encoder: Encoder) -> "LMCL":
        """The method around ``encoder``; the projector's weights come from torch's generator."""
        return LMCL(self, encoder)


class LMCL(Method):
    """NT-Xent plus distance polarization over the embeddings of all views.

    Source: Chen et al. 2021 (ICML), Eq. 9. Departure: everything but the polarization is
    SimCLR's in the table's protocol; thresholds (0.2, 0.5) and weight 1 are ours.
    """

    def __init__(self, config: LMCLConfig, encoder: Encoder) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.projector = Projector(
            encoder.feature_dim, config.hidden_dim, config.embedding_dim, output_norm=True
        )

    def embed(self, views: Sequence[Tensor]) -> Embeddings:
        """F sees one view at a time, g all of them at once: its batch norm spans V * B rows."""
        z, features = embed_jointly(self.encoder, self.projector, views)
        return Embeddings(z, z, features)

    def loss(self, embeddings: Embeddings, *, generator: torch.Generator | None = None) -> Tensor:
        """NT-Xent, mean over pairs of views, and the weighted polarization, []."""
        config, z = self.config, embeddings.online
        contrastive = over_pairs(partial(nt_xent, temperature=config.temperature), z)
        polarization = distance_polarization(
            z.flatten(0, 1), lower=config.lower, upper=config.upper, reduction=config.reduction
        )
        return contrastive + config.polarization_weight * polarization
