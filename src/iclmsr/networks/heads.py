# SPDX-License-Identifier: Apache-2.0
"""What stands behind or beside an encoder: projector g, predictor q, target branch, queue."""

import copy
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from iclmsr.errors import IclmsrError


class Projector(nn.Sequential):
    """A projector g or predictor q: Linear - BatchNorm - ReLU - Linear, (B, inputs) -> (B, D).

    Args:
        inputs: Width of what comes in, F for a projector.
        hidden: Width of the hidden layer.
        outputs: D.
        hidden_norm: Whether the BatchNorm is there.
        output_norm: Whether another one, with affine parameters, ends it.

    Source: W-MSE's public code. Departure: none.
    """

    def __init__(
        self,
        inputs: int,
        hidden: int,
        outputs: int,
        *,
        hidden_norm: bool = True,
        output_norm: bool = False,
    ) -> None:
        super().__init__(
            nn.Linear(inputs, hidden),
            *([nn.BatchNorm1d(hidden)] if hidden_norm else []),
            nn.ReLU(),
            nn.Linear(hidden, outputs),
            *([nn.BatchNorm1d(outputs)] if output_norm else []),
        )


class TargetNetwork(nn.Module):
    """The target branch g_xi(f_xi(x)): a copy of f and g that follows them slowly.

    xi <- decay * xi + (1 - decay) * theta, once an optimizer step. Only parameters follow; the
    copy's batch norm uses each batch's own statistics, as in W-MSE's public code. No gradient
    ever reaches it.

    Args:
        encoder: f, copied.
        projector: g, copied.

    Source: Grill et al. 2020 (arXiv 2006.07733), Eq. 1. Departure: none.
    """

    def __init__(self, encoder: nn.Module, projector: nn.Module) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(encoder).requires_grad_(False)
        self.projector = copy.deepcopy(projector).requires_grad_(False)

    @torch.no_grad()
    def forward(self, view: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, F) and embeddings (B, D) of one view (B, 3, H, W)."""
        features: Tensor = self.encoder(view)
        return features, self.projector(features)

    @torch.no_grad()
    def follow(self, encoder: nn.Module, projector: nn.Module, *, decay: float) -> None:
        """Moves every parameter by (1 - decay) (online - target), ``decay`` in [0, 1]."""
        for own, online in ((self.encoder, encoder), (self.projector, projector)):
            for target, source in zip(own.parameters(), online.parameters(), strict=True):
                target.lerp_(source, 1 - decay)


def target_decay(start: float, progress: float) -> float:
    """A decay that rises from ``start`` to 1 along half a cosine.

    Args:
        start: Decay at the beginning, in [0, 1].
        progress: Share of the run that is done, in [0, 1].

    Source: Grill et al. 2020, section 3.3. Departure: none.

    >>> [round(target_decay(0.99, progress), 4) for progress in (0, 0.5, 1)]
    [0.99, 0.995, 1.0]
    """
    return 1 - (1 - start) * (math.cos(math.pi * progress) + 1) / 2


class FeatureQueue(nn.Module):
    """The newest ``size`` unit embeddings, first in, first out.

    Starts with normalized Gaussian rows from torch's global generator.

    Attributes:
        rows: (K, D) unit rows.
        pointer: [] int64, the row that the next embedding replaces.

    Source: He et al. 2020 (MoCo, arXiv 1911.05722). Departure: K need not be a multiple of B.
    """

    rows: Tensor
    pointer: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("rows", F.normalize(torch.randn(size, dim), dim=1))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def push(self, embeddings: Tensor) -> None:
        """Replaces the B oldest rows by ``embeddings`` (B, D), normalized; B <= K."""
        size, count = len(self.rows), len(embeddings)
        if count > size:
            raise IclmsrError(f"a queue of {size} cannot take {count} embeddings at once")
        unit = F.normalize(embeddings.to(self.rows.dtype), dim=1)
        places = (self.pointer + torch.arange(count, device=self.rows.device)) % size
        self.rows[places] = unit
        self.pointer.copy_((self.pointer + count) % size)
