# SPDX-License-Identifier: Apache-2.0
"""W-MSE: whitening for self-supervised learning (Ermolov et al. 2021, arXiv 2007.06346)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from iclmsr.errors import Diverged, IclmsrError
from iclmsr.losses import at_least_float32, regression_loss
from iclmsr.methods.base import Embeddings, Method, Settings, embed_jointly, over_pairs
from iclmsr.networks import Encoder, Projector


def whiten(x: Tensor, *, eps: float = 0.0, double: bool = True) -> Tensor:
    """The rows of one sub-batch, centred and with covariance I.

    With C the covariance of the rows (w - 1 in its denominator) and L its lower Cholesky factor,
    Z = (X - mean) L^-T. Gradient flows through the mean, C and L.

    Args:
        x: (w, D) embeddings of one view, w > D, any floating dtype.
        eps: C is replaced by (1 - eps) C + eps I, in [0, 1].
        double: Compute in float64: in float32 the gradient is off by 3 % once C has a condition
            number of 1e6. False is the public code's precision.

    Returns:
        (w, D) in the inputs' dtype, at least float32.

    Raises:
        IclmsrError: w <= D, or eps outside [0, 1]. :class:`Diverged` where C is not positive
            definite.

    Source: Ermolov et al. 2021, section 3.1. Departure: float64 by default.

    >>> whiten(torch.tensor([[0.0], [2.0]])).flatten().tolist()  # variance 2, so +-1 / sqrt(2)
    [-0.7071067690849304, 0.7071067690849304]
    """
    if not 0 <= eps <= 1:
        raise IclmsrError(f"eps must be in [0, 1], got {eps}")
    if x.ndim != 2 or len(x) <= x.shape[1]:
        raise IclmsrError(
            f"whitening needs more rows than dimensions, (w, D) with w > D, got {tuple(x.shape)}: "
            "use a larger sub_batch or a smaller embedding_dim"
        )
    with torch.autocast(x.device.type, enabled=False):
        rows = x.double() if double else at_least_float32(x)
        centred = rows - rows.mean(0)  # (w, D)
        covariance = centred.T @ centred / (len(x) - 1)  # (D, D)
        eye = torch.eye(x.shape[1], dtype=rows.dtype, device=x.device)
        lower, failed = torch.linalg.cholesky_ex((1 - eps) * covariance + eps * eye)
        if failed:
            raise Diverged(
                f"the covariance of {len(x)} embeddings of size {x.shape[1]} is singular: "
                "raise sub_batch or eps (1e-4 helps), or lower the learning rate"
            )
        white: Tensor = torch.linalg.solve_triangular(lower, centred.T, upper=False)
        return white.T.to(at_least_float32(x).dtype)


def w_mse_loss(
    views: Tensor,
    *,
    sub_batch: int,
    iterations: int = 1,
    generator: torch.Generator | None = None,
    eps: float = 0.0,
    normalize: bool = True,
    double: bool = True,
) -> Tensor:
    """Distance of whitened views, mean over pairs of views and over random sub-batches.

    Every iteration cuts one random order of the images into sub-batches, the same for all views,
    and whitens every view within each.

    Args:
        views: (V, B, D) embeddings, V >= 2, not normalized.
        sub_batch: w, rows that are whitened together; divides B, > D (2 D in the paper).
        iterations: Random orders to average over, >= 1.
        generator: A CPU generator for the orders; None keeps the images' own order.
        eps: As in :func:`whiten`.
        normalize: Compare by 2 - 2 cos of the whitened rows; False by their mean squared error.
        double: As in :func:`whiten`.

    Returns:
        [] in [0, 4] if normalized, else >= 0; float32 or the inputs' dtype if that is wider.

    Raises:
        IclmsrError: A ``sub_batch`` that does not divide B, or as :func:`whiten`.

    Source: Ermolov et al. 2021, Eq. 2 to 6. Departure: none.

    >>> x = torch.randn(2, 8, 3).double()
    >>> round(w_mse_loss(torch.stack([x[0], -x[0]]), sub_batch=8).item(), 9)  # opposite rows
    4.0
    """
    count, batch, _ = views.shape
    if count < 2:
        raise IclmsrError(f"need at least 2 views, got {count}")
    if iterations < 1 or sub_batch < 1 or batch % sub_batch:
        raise IclmsrError(
            f"sub_batch must divide the batch of {batch} and iterations be >= 1, "
            f"got {sub_batch} and {iterations}"
        )
    distance = regression_loss if normalize else F.mse_loss
    losses = []
    for _ in range(iterations):
        order = torch.arange(batch)
        if generator is not None:
            order = torch.randperm(batch, generator=generator)
        shuffled = views[:, order.to(views.device)]
        white = torch.stack(
            [
                torch.cat([whiten(x, eps=eps, double=double) for x in view.split(sub_batch)])
                for view in shuffled
            ]
        )
        losses.append(over_pairs(distance, white))
    return torch.stack(losses).mean()


@dataclass(frozen=True)
class WMSEConfig(Settings):
    """W-MSE as its authors' public code trains it."""

    name: Literal["w-mse"] = "w-mse"
    """The method's name."""
    sub_batch: int = 128
    """Embeddings that are whitened together: divides the batch, at least 2 D."""
    iterations: int = 1
    """Random cuts into sub-batches that the loss is averaged over, >= 1."""
    eps: float = 0.0
    """Share of the identity that is mixed into the covariance, in [0, 1]."""
    normalize: bool = True
    """Compare whitened embeddings by their cosine; False: by their squared distance."""
    whitening: Literal["float64", "float32"] = "float64"
    """Precision of the whitening; float32 is the public code's."""
    hidden_dim: int = 1024
    """Width of the projector's hidden layer."""
    embedding_dim: int = 64
    """D, the size of an embedding."""

    def __post_init__(self) -> None:
        if self.sub_batch < 2 * self.embedding_dim:
            raise IclmsrError(
                f"method.sub-batch must be at least twice method.embedding-dim "
                f"{self.embedding_dim}, got {self.sub_batch}"
            )
        if self.iterations < 1:
            raise IclmsrError(f"method.iterations must be >= 1, got {self.iterations}")
        if not 0 <= self.eps <= 1:
            raise IclmsrError(f"method.eps must be in [0, 1], got {self.eps}")

    def build(self, encoder: Encoder) -> "WMSE":
        """The method around ``encoder``; the projector's weights come from torch's generator."""
        return WMSE(self, encoder)

    def check_batch(self, batch_size: int, view_count: int) -> None:
        """Sub-batches have to fill the batch."""
        if batch_size % self.sub_batch:
            raise IclmsrError(
                f"method.sub-batch {self.sub_batch} must divide batch-size {batch_size}"
            )


class WMSE(Method):
    """z = g(f(x)), whitened in the loss only, so that no negatives are needed.

    Source: Ermolov et al. 2021, section 3. Departure: none from its public code, which has no
    batch norm after g and runs g once on all views.
    """

    def __init__(self, config: WMSEConfig, encoder: Encoder) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.projector = Projector(encoder.feature_dim, config.hidden_dim, config.embedding_dim)

    def embed(self, views: Sequence[Tensor]) -> Embeddings:
        """F sees one view at a time, g all of them at once."""
        z, features = embed_jointly(self.encoder, self.projector, views)
        return Embeddings(z, z, features)

    def loss(self, embeddings: Embeddings, *, generator: torch.Generator | None = None) -> Tensor:
        """:func:`w_mse_loss`, []."""
        config = self.config
        return w_mse_loss(
            embeddings.online,
            sub_batch=config.sub_batch,
            iterations=config.iterations,
            generator=generator,
            eps=config.eps,
            normalize=config.normalize,
            double=config.whitening == "float64",
        )
