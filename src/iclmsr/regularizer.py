# SPDX-License-Identifier: Apache-2.0
"""The interventional loss (Eq. 2, 3) and the meta semantic regularizer that weights its strata."""

import math
from itertools import permutations
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from iclmsr.errors import IclmsrError
from iclmsr.losses import at_least_float32, check_temperature

Negatives = Literal["other_view", "both_views"]
Source = Literal["static", "features", "features-attached"]
Bound = Literal["sigmoid", "softplus", "softmax"]
Strata = Literal["uniform", "learned"]

_TINY = 1e-24  # squared length under which a row counts as zero; (1e-12)^2 as in F.normalize


def interventional_loss(
    online: Tensor,
    target: Tensor,
    weights: Tensor,
    *,
    temperature: float,
    negatives: Negatives = "other_view",
    log_prior: Tensor | None = None,
) -> Tensor:
    """Minus the log of P(anchor | do(positive)), mean over images and ordered pairs of views.

    For anchor u = online[j, i], positive p = target[l, i] with l != j, strata a_t and cosine
    similarity sim, with s_t = sim(u, a_t * p) / temperature and m the log-sum-exp of
    sim(u, negative) / temperature over the negatives,

        log P = logsumexp_t [ log P(Z_t) + s_t - logaddexp(s_t, m) ].

    Args:
        online: (V, B, D) anchors, V >= 2, B >= 2, any floating dtype, not normalized.
        target: (V, B, D) positives and negatives; may be ``online`` itself.
        weights: A_s, (n, D) shared by the batch, (B, n, D) per image, or (V, B, n, D) per
            image and view, where ``weights[l, i]`` multiplies ``target[l, i]``.
        temperature: > 0.
        negatives: ``other_view``: the B - 1 other images in view l, Eq. 2 to the letter;
            ``both_views``: those and the B - 1 other images in the anchor's own view j.
        log_prior: (n,) log P(Z_t), normalized; uniform when None.

    Returns:
        [] in nats, >= 0; float32 or the inputs' dtype if that is wider, also under autocast.

    Raises:
        IclmsrError: Shapes that do not fit, fewer than 2 views or images, temperature <= 0,
            an unknown ``negatives``.

    Source: ICL-MSR, Eq. 2 and 3. Departure: none for V = 2; more views are the mean over
    ordered pairs, and a prior other than 1/n is ours.

    >>> eye = torch.eye(2, dtype=torch.float64).expand(2, 2, 2)
    >>> ones = torch.ones(1, 2, dtype=torch.float64)
    >>> round(interventional_loss(eye, eye, ones, temperature=0.5).item(), 9)  # log(1 + e^-2)
    0.126928011
    """
    check_temperature(temperature)
    _check_shapes(online, target, weights, log_prior)
    if negatives not in get_args(Negatives):
        raise IclmsrError(f"negatives must be other_view or both_views, got {negatives!r}")
    with torch.autocast(online.device.type, enabled=False):
        anchors = F.normalize(at_least_float32(online), dim=2)  # (V, B, D)
        target, weights = at_least_float32(target), at_least_float32(weights)
        units = F.normalize(target, dim=2)  # (V, B, D)
        strata = weights.shape[-2]
        prior = -math.log(strata) if log_prior is None else at_least_float32(log_prior)
        losses = []
        for j, l in permutations(range(len(online)), 2):
            per_view = weights[l] if weights.ndim == 4 else weights
            s = _weighted_cosine(anchors[j], target[l], per_view) / temperature  # (B, n)
            others = [l] if negatives == "other_view" else [l, j]
            m = _log_sum_others(anchors[j], units[others], temperature)[:, None]  # (B, 1)
            log_p = torch.logsumexp(prior + s - torch.logaddexp(s, m), dim=1)  # (B,)
            losses.append(-log_p.mean())
        return torch.stack(losses).mean()


def _weighted_cosine(anchor: Tensor, positive: Tensor, weights: Tensor) -> Tensor:
    """sim(u_i, a_t * p_i): (B, n) of unit anchors (B, D), positives (B, D), (n, D) or (B, n, D).

    Never forms a_t * p_i: both its inner product with u and its length are matrix products.
    """
    if weights.ndim == 2:
        inner = (anchor * positive) @ weights.T
        squared = (positive * positive) @ (weights * weights).T
    else:
        inner = torch.einsum("bd,btd->bt", anchor * positive, weights)
        squared = torch.einsum("bd,btd->bt", positive * positive, weights * weights)
    return inner / squared.clamp_min(_TINY).sqrt()


def _log_sum_others(anchor: Tensor, candidates: Tensor, temperature: float) -> Tensor:
    """Log-sum-exp over views and all other images of sim / temperature: (B,) of (k, B, D)."""
    logits = anchor @ candidates.transpose(1, 2) / temperature  # (k, B, B)
    itself = torch.eye(len(anchor), dtype=torch.bool, device=anchor.device)
    return torch.logsumexp(logits.masked_fill(itself, float("-inf")), dim=(0, 2))


def _check_shapes(
    online: Tensor, target: Tensor, weights: Tensor, log_prior: Tensor | None
) -> None:
    """One-line errors for shapes that :func:`interventional_loss` does not take."""
    if online.ndim != 3 or online.shape != target.shape:
        raise IclmsrError(
            "online and target need one shape (V, B, D), "
            f"got {tuple(online.shape)} and {tuple(target.shape)}"
        )
    views, batch, dim = online.shape
    if views < 2 or batch < 2:
        raise IclmsrError(f"need at least 2 views of 2 images, got {views} views of {batch}")
    fits = [(dim,), (batch, dim), (views, batch, dim)]
    if weights.shape[:-2] + weights.shape[-1:] not in fits or weights.shape[-2] < 1:
        raise IclmsrError(
            f"weights must be (n, {dim}), ({batch}, n, {dim}) or ({views}, {batch}, n, {dim}), "
            f"got {tuple(weights.shape)}"
        )
    if log_prior is not None and log_prior.shape != weights.shape[-2:-1]:
        raise IclmsrError(
            f"log_prior needs one value per stratum, ({weights.shape[-2]},), "
            f"got {tuple(log_prior.shape)}"
        )


class MetaSemanticRegularizer(nn.Module):
    """f_msr: makes the strata weights A_s; its parameters are psi.

    ``msr(online, target)`` is L_do with A_s held fixed, to be added to any contrastive loss
    (stage 1); ``msr(..., fixed=False)`` lets gradient reach psi, for the virtual step of
    stage 2 (:func:`iclmsr.bilevel.meta_gradient`).

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
        prior: Strata = "uniform",
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
            ("prior", prior, Strata),
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
        *,
        fixed: bool = True,
    ) -> Tensor:
        """L_do of Eq. 3, [] in nats.

        Args:
            online: (V, B, D) anchors.
            target: (V, B, D) positives and negatives; ``online`` when None.
            features: (V, B, F), for sources that read them.
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
        )

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
