# SPDX-License-Identifier: Apache-2.0
"""DINO: emerging properties in self-supervised vision transformers (Caron et al. 2021).

arXiv 2104.14294. Self-distillation onto prototypes, here with views of one size ("DINO-style").
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from iclmsr.errors import IclmsrError
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


def dino_loss(
    student: Tensor,
    teacher: Tensor,
    center: Tensor,
    *,
    student_temperature: float,
    teacher_temperature: float,
) -> Tensor:
    """Cross-entropy of the student's distribution over prototypes with the teacher's.

    -mean_i sum_j softmax((t_i - center) / t_teacher)_j log softmax(s_i / t_student)_j, and no
    gradient through the teacher's side.

    Args:
        student: (B, K) scores of one view.
        teacher: (B, K) of another.
        center: (K,) running mean of the teacher's scores.
        student_temperature: > 0.
        teacher_temperature: > 0.

    Returns:
        [] in nats; at least float32.

    Raises:
        IclmsrError: Shapes that differ, or a temperature <= 0.

    Source: Caron et al. 2021, Eq. 1 to 4. Departure: none.

    >>> scores, none = torch.zeros(2, 4), torch.zeros(4)
    >>> loss = dino_loss(scores, scores, none, student_temperature=0.1, teacher_temperature=0.04)
    >>> round(loss.item(), 6)  # log 4
    1.386294
    """
    check_temperature(student_temperature)
    check_temperature(teacher_temperature)
    check_pair(student, teacher)
    with torch.autocast(student.device.type, enabled=False):
        s, t = at_least_float32(student), at_least_float32(teacher.detach())
        wanted = ((t - center) / teacher_temperature).softmax(1)
        return F.cross_entropy(s / student_temperature, wanted)


@dataclass(frozen=True)
class DINOConfig(Settings):
    """DINO with few prototypes, for small data sets."""

    name: Literal["dino"] = "dino"
    """The method's name."""
    student_temperature: float = 0.1
    """Temperature of the student's scores, > 0."""
    teacher_temperature: float = 0.04
    """Temperature of the teacher's scores, > 0."""
    center_decay: float = 0.9
    """Share of itself that the center of the teacher's scores keeps at a step, in [0, 1]."""
    target_decay: float = 0.99
    """Share of itself that the teacher keeps at a step, at the start, in [0, 1]; rises to 1."""
    target_schedule: TargetSchedule = "step"
    """Whether that rise goes by steps (the paper) or by whole epochs."""
    hidden_dim: int = 1024
    """Width of the projector's hidden layer."""
    bottleneck_dim: int = 64
    """Width of what the prototypes are compared with."""
    embedding_dim: int = 1024
    """K, the number of prototypes; an embedding holds the scores of all."""

    def __post_init__(self) -> None:
        check_temperature(self.student_temperature)
        check_temperature(self.teacher_temperature)
        check_decay(self.target_decay)
        if not 0 <= self.center_decay <= 1:
            raise IclmsrError(f"method.center-decay must be in [0, 1], got {self.center_decay}")

    def build(self, encoder: Encoder) -> "DINO":
        """The method around ``encoder``; other initial weights come from torch's generator."""
        return DINO(self, encoder)


class Prototypes(nn.Linear):
    """Cosine of an embedding with each prototype: (B, inputs) -> (B, K)."""

    def __init__(self, inputs: int, count: int) -> None:
        super().__init__(inputs, count, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        """Scores in [-1, 1]."""
        return F.linear(F.normalize(input, dim=1), F.normalize(self.weight, dim=1))


class DINO(Method):
    """Scores of prototypes by student and teacher; each view's student follows the others'.

    Source: Caron et al. 2021, Algorithm 1. Departure: no small crops, two layers with batch norm
    before the prototypes, and no frozen first epoch.
    """

    center: Tensor

    def __init__(self, config: DINOConfig, encoder: Encoder) -> None:
        super().__init__()
        self.config = config
        self.counts_epochs = config.target_schedule == "epoch"
        self.encoder = encoder
        self.projector = nn.Sequential(
            Projector(encoder.feature_dim, config.hidden_dim, config.bottleneck_dim),
            Prototypes(config.bottleneck_dim, config.embedding_dim),
        )
        self.target = TargetNetwork(encoder, self.projector)
        self.register_buffer("center", torch.zeros(config.embedding_dim))

    def embed(self, views: Sequence[Tensor]) -> Embeddings:
        """Every network sees one view at a time."""
        online, features = embed_each(self.encoder, self.projector, views)
        return Embeddings(online, embed_target(self.target, views), features)

    def loss(self, embeddings: Embeddings, *, generator: torch.Generator | None = None) -> Tensor:
        """:func:`dino_loss`, mean over both directions and pairs of views, [] in nats."""
        direction = partial(
            dino_loss,
            center=self.center,
            student_temperature=self.config.student_temperature,
            teacher_temperature=self.config.teacher_temperature,
        )
        return over_directions(direction, embeddings.online, embeddings.target) / 2

    def after_step(self, embeddings: Embeddings, progress: float) -> None:
        """The teacher follows the student, the center follows the teacher."""
        decay = target_decay(self.config.target_decay, progress)
        self.target.follow(self.encoder, self.projector, decay=decay)
        mean = embeddings.target.detach().to(self.center.dtype).flatten(0, 1).mean(0)
        self.center.lerp_(mean, 1 - self.config.center_decay)
