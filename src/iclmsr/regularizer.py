# SPDX-License-Identifier: Apache-2.0
"""The meta semantic regularizer: weights the strata of the interventional loss, and learns how."""

import math
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from iclmsr.bilevel import (
    Engine,
    Theta,
    automatic,
    meta_gradient,
    parameters_of,
    sgd,
    stateless,
)
from iclmsr.errors import IclmsrError
from iclmsr.interventional import Negatives, interventional_loss
from iclmsr.losses import at_least_float32, check_temperature

__all__ = [
    "Bound",
    "MetaSemanticRegularizer",
    "Negatives",
    "Prior",
    "Source",
    "interventional_loss",
]

Source = Literal["static", "features", "features-attached"]
Bound = Literal["sigmoid", "softplus", "softmax"]
Prior = Literal["uniform", "learned"]


class MetaSemanticRegularizer(nn.Module):
    """f_msr: makes the strata weights A_s; its parameters are psi.

    ``msr(online, target)`` is L_do with A_s held fixed, to be added to any contrastive loss
    (stage 1); :meth:`meta_backward` gives psi its gradient (stage 2). ``msr(..., fixed=False)``
    lets gradient reach psi, for virtual steps made by :func:`iclmsr.bilevel.meta_gradient`.

    Args:
        dim: D, the embedding size.
        strata: n >= 1.
        source: ``static``: A_s is one learnable (n, D) matrix; ``features``: an MLP on the V
            views' encoder features gives every image its own, (B, n, D), and no gradient
            flows back into the features; ``features-attached``: it does, in stage 2.
        feature_dim: V * F, the width of the views' features side by side; for a source other
            than ``static``.
        bound: Range of a weight: ``sigmoid`` (0, 1), ``softplus`` (0, inf), or ``softmax`` over
            D times D, (0, D) with mean 1.
        prior: ``uniform``: P(Z_t) = 1/n; ``learned``: softmax of n logits, part of psi.
        temperature: Of L_do, > 0.
        negatives: See :func:`interventional_loss`.
        hidden: Width of the MLP.
        initial_std: Standard deviation of the initial logits, so that strata differ.
        generator: Where the initial values come from; torch's global one when None.

    Raises:
        IclmsrError: A value outside its range, or a source whose ``feature_dim`` is missing.

    Source: ICL-MSR, section 4. Departure: the source's layers, n, and range are not known; the
    ones here are decisions, each an argument.

    >>> msr = MetaSemanticRegularizer(dim=4, strata=2)
    >>> [tuple(p.shape) for p in msr.parameters()], tuple(msr.weights().shape)
    ([(2, 4)], (2, 4))
    """

    def __init__(
        self,
        dim: int,
        *,
        strata: int = 8,
        source: Source = "static",
        feature_dim: int | None = None,
        bound: Bound = "sigmoid",
        prior: Prior = "uniform",
        temperature: float = 0.5,
        negatives: Negatives = "other_view",
        hidden: int = 512,
        initial_std: float = 0.5,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_temperature(temperature)
        for name, value, allowed in (
            ("source", source, Source),
            ("bound", bound, Bound),
            ("prior", prior, Prior),
            ("negatives", negatives, Negatives),
        ):
            if value not in get_args(allowed):
                raise IclmsrError(f"{name} must be one of {get_args(allowed)}, got {value!r}")
        if dim < 1 or strata < 1:
            raise IclmsrError(f"dim and strata must be >= 1, got {dim} and {strata}")
        self.dim, self.strata = dim, strata
        self.source, self.bound, self.negatives = source, bound, negatives
        self.temperature = temperature
        initial = torch.randn(strata, dim, generator=generator) * initial_std
        if source == "static":
            self.logits = nn.Parameter(initial)
        else:
            if feature_dim is None:
                raise IclmsrError(f"source {source!r} needs feature_dim, the width V * F")
            self.mlp = _mlp(feature_dim, hidden, initial.flatten(), generator)
        self.prior_logits = nn.Parameter(torch.zeros(strata)) if prior == "learned" else None

    def weights(self, features: Tensor | None = None) -> Tensor:
        """A_s with gradient to psi: (n, D), or (B, n, D) for a source that reads features.

        Args:
            features: (V, B, F) encoder features, read unless the source is ``static``.

        Raises:
            IclmsrError: The source needs features and got None.
        """
        if self.source == "static":
            logits = self.logits
        elif features is None:
            raise IclmsrError(f"source {self.source!r} needs the encoder's features, got None")
        else:
            side_by_side = at_least_float32(features).transpose(0, 1).flatten(1)  # (B, V F)
            if self.source == "features":
                side_by_side = side_by_side.detach()
            with torch.autocast(side_by_side.device.type, enabled=False):
                logits = self.mlp(side_by_side).unflatten(1, (self.strata, self.dim))
        if self.bound == "sigmoid":
            return logits.sigmoid()
        if self.bound == "softplus":
            return F.softplus(logits)
        return logits.softmax(-1) * self.dim

    def log_prior(self) -> Tensor | None:
        """Log P(Z_t), (n,), or None where it is uniform."""
        return None if self.prior_logits is None else self.prior_logits.log_softmax(0)

    def forward(
        self,
        online: Tensor,
        target: Tensor | None = None,
        features: Tensor | None = None,
        pairs: Sequence[tuple[int, int]] | None = None,
        *,
        fixed: bool = True,
    ) -> Tensor:
        """L_do of Eq. 3, [] in nats.

        Args:
            online: (V, B, D) anchors.
            target: (V, B, D) positives and negatives; ``online`` when None.
            features: (V, B, F), for sources that read them.
            pairs: See :func:`interventional_loss`.
            fixed: Hold A_s and the prior fixed, as stage 1 does.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and not fixed):
            weights, log_prior = self.weights(features), self.log_prior()
        return interventional_loss(
            online,
            online if target is None else target,
            weights,
            temperature=self.temperature,
            negatives=self.negatives,
            log_prior=log_prior,
            pairs=pairs,
        )

    def meta_backward(
        self,
        model: nn.Module,
        views: Sequence[Tensor],
        loss: Callable[..., Tensor],
        *,
        lr: float,
        loss_weight: float = 1.0,
        target: Tensor | None = None,
        outer_views: Sequence[Tensor] | None = None,
        engine: Engine | Literal["auto"] = "auto",
    ) -> Tensor:
        """Stage 2 for a loop that is not ours: sets ``.grad`` of psi to the gradient of Eq. 5.

        Nothing of ``model`` moves: neither parameters, nor ``.grad``, nor batch norm statistics.
        Returning the loss, it is a closure for psi's optimizer:
        ``psi_optimizer.step(lambda: msr.meta_backward(model, [x0, x1], criterion, lr=lr))``.

        Args:
            model: Maps one view (B, 3, H, W) to embeddings (B, D), the bare module rather than a
                wrapper of it; its parameters that require gradient are theta.
            views: V views of a batch, for the virtual step.
            loss: The contrastive loss of the V embeddings, ``loss(z_0, z_1)`` for two views. It is
                called twice and must not change anything (no memory bank).
            lr: alpha, the rate of the virtual step: theta's current learning rate.
            loss_weight: lambda, the weight that L_do has in the loop's stage 1.
            target: (V, B, D) the target network's embeddings of ``views``, constants here; the
                model's own when None.
            outer_views: What theta' is judged on; ``views`` when None.
            engine: See :func:`iclmsr.bilevel.meta_gradient`; ``auto``: the cheapest that is
                exact but for rounding.

        Returns:
            [] the contrastive loss at theta'.

        Raises:
            IclmsrError: The source reads features, which ``model`` does not give: use
                :func:`iclmsr.bilevel.meta_gradient`.

        Source: ICL-MSR, Eq. 5. Departure: none.
        """
        if self.source != "static":
            raise IclmsrError(
                f"meta_backward has no features for source {self.source!r}: use source 'static', "
                "or iclmsr.bilevel.meta_gradient with an embed that returns features"
            )
        call, theta = stateless(model), parameters_of(model)

        def embed(theta: Theta, batch: Sequence[Tensor]) -> Tensor:
            return torch.stack([call(theta, view) for view in batch])

        found = meta_gradient(
            embed,
            lambda z: loss(*z) + loss_weight * self(z, target, fixed=False),
            lambda z: loss(*z),
            theta,
            list(self.parameters()),
            views,
            views if outer_views is None else outer_views,
            step=sgd(lr),
            engine=automatic(theta)[0] if engine == "auto" else engine,
        )
        for tensor, slope in zip(self.parameters(), found.psi, strict=True):
            tensor.grad = slope
        return found.outer_loss

    def diversity(self, features: Tensor | None = None) -> Tensor:
        """L_div: log mean over t != u of exp(-2 ||a_t - a_u||^2), rows normalized; [], <= 0.

        The mean spans the images too where weights are per image; 0 for one stratum.
        """
        rows = F.normalize(self.weights(features), dim=-1)  # (..., n, D)
        if self.strata == 1:
            return rows.sum() * 0
        squared = 2 - 2 * rows @ rows.transpose(-1, -2)  # (..., n, n)
        apart = ~torch.eye(self.strata, dtype=torch.bool, device=rows.device)
        return (-2 * squared[..., apart]).exp().mean().log()

    @torch.no_grad()
    def saturation(self, features: Tensor | None = None) -> float:
        """Share of (stratum, dimension) pairs whose weight is at an end of its range, in [0, 1].

        At an end: within 0.01 of it; a ``softplus`` weight has no upper one.
        """
        weights = self.weights(features)
        top = {"sigmoid": 1.0, "softplus": float("inf"), "softmax": float(self.dim)}[self.bound]
        return ((weights < 0.01) | (weights > top - 0.01)).float().mean().item()


def _mlp(
    inputs: int, hidden: int, outputs: Tensor, generator: torch.Generator | None
) -> nn.Sequential:
    """Linear - BatchNorm - ReLU - Linear whose last bias is ``outputs``, so that strata differ.

    Its BatchNorm keeps no running statistics: f_msr has no state besides psi.
    """
    first, last = nn.Linear(inputs, hidden), nn.Linear(hidden, len(outputs))
    for layer in (first, last):
        nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=generator)
    with torch.no_grad():
        first.bias.zero_()
        last.bias.copy_(outputs)
    return nn.Sequential(first, nn.BatchNorm1d(hidden, track_running_stats=False), nn.ReLU(), last)
