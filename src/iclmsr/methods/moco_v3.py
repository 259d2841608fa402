# SPDX-License-Identifier: Apache-2.0
"""MoCo v3: an empirical study of training self-supervised vision transformers (Chen et al. 2021).

arXiv 2104.02057. Symmetric InfoNCE between predictions and a target network, without a queue.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from iclmsr.losses import at_least_float32, check_pair, check_temperature
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
from iclmsr.tiles import over_rows


def info_nce(queries: Tensor, keys: Tensor, *, temperature: float) -> Tensor:
    """2 * temperature * cross-entropy of finding each query's own key among the batch's keys.

    Args:
        queries: (B, D), not normalized.
        keys: (B, D), not normalized.
        temperature: > 0.

    Returns:
        [] >= 0, in nats times 2 * temperature; at least float32.

    Raises:
        IclmsrError: Shapes that differ, or temperature <= 0.

    Source: Chen et al. 2021, Algorithm 1. Departure: none.

    >>> eye = torch.eye(2, dtype=torch.float64)
    >>> round(info_nce(eye, eye, temperature=0.5).item(), 9)  # log(1 + e^-2)
    0.126928011
    """
    check_temperature(temperature)
    check_pair(queries, keys)

    def find_own(q_i: Tensor, i: Tensor, k: Tensor) -> Tensor:
        return F.cross_entropy(q_i @ k.T / temperature, i, reduction="none")  # (R,)

    with torch.autocast(queries.device.type, enabled=False):
        q, k = (F.normalize(at_least_float32(x), dim=1) for x in (queries, keys))
        rows = torch.arange(len(q), device=q.device)
        return 2 * temperature * over_rows(find_own, [q, rows], [k]).mean()


@dataclass(frozen=True)
class MoCoV3Config(Settings):
    """MoCo v3 with the sizes of the table's protocol."""

    name: Literal["moco-v3"] = "moco-v3"
    """The method's name."""
    temperature: float = 0.2
    """Temperature of the similarities, > 0."""
    target_decay: float = 0.99
    """Share of itself that the target keeps at a step, at the start, in [0, 1]; rises to 1."""
    target_schedule: TargetSchedule = "step"
    """Whether that rise goes by steps (the paper) or by whole epochs."""
    hidden_dim: int = 1024
    """Width of the hidden layers of projector and predictor."""
    embedding_dim: int = 64
    """D, the size of an embedding."""

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        check_decay(self.target_decay)

    def build(self, encoder: Encoder) -> "MoCoV3":
        """The method around ``encoder``; other initial weights come from torch's generator."""
        return MoCoV3(self, encoder)


class MoCoV3(Method):
    """Predictions q(g(f(x))) of one view find the target embedding of the other in the batch.

    Source: Chen et al. 2021, Algorithm 1. Departure: heads of the table's protocol; the patch
    embedding of a vision transformer is trained, not frozen.
    """

    def __init__(self, config: MoCoV3Config, encoder: Encoder) -> None:
        super().__init__()
        self.config = config
        self.counts_epochs = config.target_schedule == "epoch"
        hidden, dim = config.hidden_dim, config.embedding_dim
        self.encoder = encoder
        self.projector = Projector(encoder.feature_dim, hidden, dim, output_norm=True)
        self.predictor = Projector(dim, hidden, dim)
        self.target = TargetNetwork(encoder, self.projector)

    def embed(self, views: Sequence[Tensor]) -> Embeddings:
        """Every network sees one view at a time."""
        online, features = embed_each(
            self.encoder, lambda h: self.predictor(self.projector(h)), views
        )
        return Embeddings(online, embed_target(self.target, views), features)

    def loss(self, embeddings: Embeddings, *, generator: torch.Generator | None = None) -> Tensor:
        """Sum of both directions' :func:`info_nce`, mean over pairs of views, []."""
        direction = partial(info_nce, temperature=self.config.temperature)
        return over_directions(direction, embeddings.online, embeddings.target)

    def after_step(self, embeddings: Embeddings, progress: float) -> None:
        """The target follows f and g."""
        decay = target_decay(self.config.target_decay, progress)
        self.target.follow(self.encoder, self.projector, decay=decay)
