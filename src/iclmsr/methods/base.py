# SPDX-License-Identifier: Apache-2.0
"""What a contrastive method is: networks that embed views, and a loss on the embeddings."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from iclmsr.networks import Encoder


class Embeddings(NamedTuple):
    """All that a loss or a regularizer sees of the networks.

    Attributes:
        online: (V, B, D), carries gradient; not normalized, for that belongs to the loss.
        target: (V, B, D), the very same tensor when the method has no target network.
        features: (V, B, F), what left the encoder, or None where nobody will ask for it.
    """

    online: Tensor
    target: Tensor
    features: Tensor | None = None


class Method(nn.Module, ABC):
    """A contrastive method: final classes below hold their networks and their loss.

    ``loss`` is pure: same inputs and generator state, same value, and no buffer moves, because
    a bilevel step calls it more than once. All state moves in ``after_step``, which is called
    once an optimizer step. Randomness in a loss comes from ``generator`` only.

    Attributes:
        encoder: f: (B, 3, H, W) -> (B, F), all that evaluation uses.
    """

    encoder: Encoder

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
            progress: Share of the run that is done, in [0, 1].
        """

    def forward(self, views: Sequence[Tensor]) -> Embeddings:
        """The same as :meth:`embed`, so that wrappers and functional calls reach it."""
        return self.embed(views)
