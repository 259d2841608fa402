# SPDX-License-Identifier: Apache-2.0
"""ReSSL: relational self-supervised learning (Zheng et al. 2021, arXiv 2107.09282)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from iclmsr.errors import IclmsrError
from iclmsr.losses import at_least_float32, check_pair, check_temperature
from iclmsr.methods.base import Embeddings, Method, Settings, check_decay
from iclmsr.networks import Encoder, FeatureQueue, Projector, TargetNetwork, split_batch_norm


def ressl_loss(
    student: Tensor,
    teacher: Tensor,
    queue: Tensor,
    *,
    student_temperature: float,
    teacher_temperature: float,
) -> Tensor:
    """Cross-entropy of the two branches' similarities to the rows of a queue.

    With q, k the unit embeddings and Q the queue,

        L = -mean_i sum_j softmax(k Q^T / t_teacher)_ij log softmax(q Q^T / t_student)_ij,

    and no gradient through the teacher's side.

    Args:
        student: (B, D) embeddings of the strong views, not normalized.
        teacher: (B, D) of the weak views.
        queue: (K, D) unit rows; the batch's own embeddings are not among them.
        student_temperature: > 0.
        teacher_temperature: > 0, the smaller for a sharper teacher.

    Returns:
        [] in nats; float32 or the inputs' dtype if that is wider.

    Raises:
        IclmsrError: Shapes that do not fit, or a temperature <= 0.

    Source: Zheng et al. 2021, Eq. 3 to 5. Departure: none.

    >>> one = torch.tensor([[1.0, 0.0]])
    >>> constant = one.expand(8, 2)  # a queue that tells nothing: log 8
    >>> loss = ressl_loss(one, one, constant, student_temperature=0.1, teacher_temperature=0.04)
    >>> round(loss.item(), 4)
    2.0794
    """
    check_temperature(student_temperature)
    check_temperature(teacher_temperature)
    check_pair(student, teacher)
    if queue.ndim != 2 or queue.shape[1] != student.shape[1]:
        raise IclmsrError(f"queue must be (K, {student.shape[1]}), got {tuple(queue.shape)}")
    with torch.autocast(student.device.type, enabled=False):
        q = F.normalize(at_least_float32(student), dim=1)
        k = F.normalize(at_least_float32(teacher.detach()), dim=1)
        queue = queue.detach().to(q.dtype)
        wanted = (k @ queue.T / teacher_temperature).softmax(1)  # (B, K)
        return F.cross_entropy(q @ queue.T / student_temperature, wanted)


@dataclass(frozen=True)
class ReSSLConfig(Settings):
    """ReSSL: one strong view for the student, one weak view for the teacher."""

    name: Literal["ressl"] = "ressl"
    """The method's name."""
    student_temperature: float = 0.1
    """Temperature of the student's similarities, > 0."""
    teacher_temperature: float = 0.04
    """Temperature of the teacher's similarities, > 0."""
    queue_size: int = 4096
    """K, embeddings in the queue, at least a batch."""
    target_decay: float = 0.99
    """Share of itself that the teacher keeps at a step, constant, in [0, 1]."""
    bn_splits: int = 1
    """Parts of the batch that have batch norm statistics of their own; divides the batch."""
    hidden_dim: int = 1024
    """Width of the projector's hidden layer."""
    embedding_dim: int = 64
    """D, the size of an embedding."""

    def __post_init__(self) -> None:
        check_temperature(self.student_temperature)
        check_temperature(self.teacher_temperature)
        check_decay(self.target_decay)
        for name in ("queue_size", "bn_splits"):
            if getattr(self, name) < 1:
                option = name.replace("_", "-")
                raise IclmsrError(f"method.{option} must be >= 1, got {getattr(self, name)}")

    def build(self, encoder: Encoder) -> "ReSSL":
        """The method around ``encoder``; other initial weights come from torch's generator."""
        return ReSSL(self, encoder)

    def check_batch(self, batch_size: int, view_count: int) -> None:
        """Two views; the queue takes a whole batch; parts of equal size."""
        if view_count != 2:
            raise IclmsrError(f"ressl takes one strong and one weak view, got {view_count} views")
        if batch_size > self.queue_size:
            raise IclmsrError(
                f"method.queue-size {self.queue_size} must be at least batch-size {batch_size}"
            )
        if batch_size % self.bn_splits:
            raise IclmsrError(
                f"method.bn-splits {self.bn_splits} must divide batch-size {batch_size}"
            )


class ReSSL(Method):
    """Student of view 0 and teacher of view 1 agree on their likeness to a queue.

    Each view goes through one branch, so each has one embedding, and ``online[1]`` and
    ``target[0]`` only fill their places: the method compares the pair (0, 1).

    Source: Zheng et al. 2021, section 3. Departure: with ``bn_splits``, the teacher's batch is
    transposed, not shuffled, so that its parts share the same few rows with each of the
    student's; that needs no random numbers.
    """

    def __init__(self, config: ReSSLConfig, encoder: Encoder) -> None:
        super().__init__()
        self.config = config
        if config.bn_splits > 1:
            split_batch_norm(encoder, config.bn_splits)
        dim = config.embedding_dim
        self.encoder = encoder
        self.projector = Projector(encoder.feature_dim, config.hidden_dim, dim, hidden_norm=False)
        self.target = TargetNetwork(encoder, self.projector)
        self.queue = FeatureQueue(config.queue_size, dim)

    def embed(self, views: Sequence[Tensor]) -> Embeddings:
        """View 0 through the student, view 1 through the teacher."""
        if len(views) != 2:
            raise IclmsrError(f"ressl takes one strong and one weak view, got {len(views)} views")
        strong, weak = views
        features = self.encoder(strong)
        student = self.projector(features)
        rows = torch.arange(len(weak), device=weak.device)
        order = rows.view(-1, self.config.bn_splits).T.flatten()  # strided parts
        known, teacher = (out[order.argsort()] for out in self.target(weak[order]))
        return Embeddings(
            online=torch.stack([student, teacher]),
            target=torch.stack([student.detach(), teacher]),
            features=torch.stack([features, known]),
            pairs=((0, 1),),
        )

    def loss(self, embeddings: Embeddings, *, generator: torch.Generator | None = None) -> Tensor:
        """:func:`ressl_loss`, [] in nats."""
        return ressl_loss(
            embeddings.online[0],
            embeddings.target[1],
            self.queue.rows,
            student_temperature=self.config.student_temperature,
            teacher_temperature=self.config.teacher_temperature,
        )

    def after_step(self, embeddings: Embeddings, progress: float) -> None:
        """The teacher follows the student; the batch's weak views enter the queue."""
        self.target.follow(self.encoder, self.projector, decay=self.config.target_decay)
        self.queue.push(embeddings.target[1])
