# SPDX-License-Identifier: Apache-2.0
"""What a contrastive method is: networks that embed views, and a loss on the embeddings."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import combinations, permutations
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from iclmsr.errors import IclmsrError
from iclmsr.networks import Encoder, TargetNetwork

TargetSchedule = Literal["epoch", "step"]


class Embeddings(NamedTuple):
    """All that a loss or a regularizer sees of the networks.

    Attributes:
        online: (V, B, D), carries gradient; not normalized, for that belongs to the loss.
        target: (V, B, D), the very same tensor when the method has no target network.
        features: (V, B, F), what left the encoder, or None where nobody will ask for it.
        pairs: Which (anchor view j, positive view l) the method compares, where not all j != l:
            a method that shows each view to one branch only.
    """

    online: Tensor
    target: Tensor
    features: Tensor | None = None
    pairs: tuple[tuple[int, int], ...] | None = None


class Settings(ABC):
    """A method's config: a frozen dataclass with a ``name``, the first of its fields.

    Attributes:
        name: The method's name.
        embedding_dim: D.
    """

    name: str
    embedding_dim: int

    @abstractmethod
    def build(self, encoder: Encoder) -> "Method":
        """The method around ``encoder``; other initial weights come from torch's generator."""

    def check_batch(self, batch_size: int, view_count: int) -> None:  # noqa: B027 - none fails
        """Raises :class:`IclmsrError` for batches that the method cannot train on."""


class Method(nn.Module, ABC):
    """A contrastive method: final classes below hold their networks and their loss.

    ``loss`` is pure: same inputs and generator state, same value, and no buffer moves, because
    a bilevel step calls it more than once. All state moves in ``after_step``, which is called
    once an optimizer step. Randomness in a loss comes from ``generator`` only. Every trainable
    parameter acts in ``embed``: the virtual step of stage 2 reaches no other.

    Attributes:
        encoder: f: (B, 3, H, W) -> (B, F), all that evaluation uses.
        counts_epochs: Whether ``after_step`` is told of whole epochs instead of steps.
    """

    encoder: Encoder
    counts_epochs: bool = False

    @abstractmethod
    def embed(self, views: Sequence[Tensor]) -> Embeddings:
        """Embeddings of V views, each (B, 3, H, W) of the same B images."""

    @abstractmethod
    def loss(self, embeddings: Embeddings, *, generator: torch.Generator | None = None) -> Tensor:
        """The method's own loss L_cl, [] in the unit that the method's file states."""

    def after_step(self, embeddings: Embeddings, progress: float) -> None:
        """Moves what moves once a step (target network, queue); nothing by default.

        Args:
            embeddings: Those of the step just taken.
            progress: Share of the run that was done before it, in [0, 1].
        """

    def forward(self, views: Sequence[Tensor]) -> Embeddings:
        """The same as :meth:`embed`, so that wrappers and functional calls reach it."""
        return self.embed(views)


def embed_jointly(
    encoder: nn.Module, projector: nn.Module, views: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Embeddings (V, B, D) and features (V, B, F); g sees all views at once.

    F sees one view at a time; g's batch norm spans V * B rows, as in W-MSE's public code.
    """
    features = torch.stack([encoder(view) for view in views])
    return projector(features.flatten(0, 1)).unflatten(0, features.shape[:2]), features


def embed_each(
    encoder: nn.Module, head: Callable[[Tensor], Tensor], views: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Embeddings (V, B, D) and features (V, B, F); f and the head see one view at a time."""
    features = [encoder(view) for view in views]
    return torch.stack([head(feature) for feature in features]), torch.stack(features)


def embed_target(target: TargetNetwork, views: Sequence[Tensor]) -> Tensor:
    """The target branch's embeddings (V, B, D), one view at a time, without gradient."""
    return torch.stack([target(view)[1] for view in views])


def over_pairs(loss: Callable[[Tensor, Tensor], Tensor], views: Tensor) -> Tensor:
    """Mean of ``loss(view i, view j)`` over i < j, [], for views (V, B, D)."""
    return torch.stack([loss(a, b) for a, b in combinations(views, 2)]).mean()


def over_directions(
    loss: Callable[[Tensor, Tensor], Tensor], online: Tensor, target: Tensor
) -> Tensor:
    """Sum of ``loss(online[j], target[l])`` over j != l, divided by the V (V - 1) / 2 pairs, []."""
    terms = [loss(online[j], target[l]) for j, l in permutations(range(len(online)), 2)]
    return 2 * torch.stack(terms).mean()


def check_decay(decay: float) -> None:
    """Raises :class:`IclmsrError` unless 0 <= decay <= 1."""
    if not 0 <= decay <= 1:
        raise IclmsrError(f"method.target-decay must be in [0, 1], got {decay}")
