# SPDX-License-Identifier: Apache-2.0
"""The interventional loss (Eq. 2, 3): contrast after adjusting for the strata of a confounder."""

import math
from collections.abc import Sequence
from itertools import permutations
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from iclmsr.errors import IclmsrError
from iclmsr.losses import at_least_float32, check_temperature
from iclmsr.tiles import over_rows

Negatives = Literal["other_view", "both_views"]

_TINY = 1e-24  # squared length under which a row counts as zero; (1e-12)^2 as in F.normalize


def interventional_loss(
    online: Tensor,
    target: Tensor,
    weights: Tensor,
    *,
    temperature: float,
    negatives: Negatives = "other_view",
    log_prior: Tensor | None = None,
    pairs: Sequence[tuple[int, int]] | None = None,
) -> Tensor:
    """Minus the log of P(anchor | do(positive)), mean over images and ordered pairs of views.

    For anchor u = online[j, i], positive p = target[l, i] with l != j, strata a_t and cosine
    similarity sim, with s_t = sim(u, a_t * p) / temperature and m the log-sum-exp of
    sim(u, negative) / temperature over the negatives,

        log P = logsumexp_t [ log P(Z_t) + s_t - logaddexp(s_t, m) ].

    Large batches make m in tiles of anchors (:func:`iclmsr.tiles.over_rows`).

    Args:
        online: (V, B, D) anchors, V >= 2, B >= 2, any floating dtype, not normalized.
        target: (V, B, D) positives and negatives; may be ``online`` itself.
        weights: A_s, (n, D) shared by the batch, (B, n, D) per image, or (V, B, n, D) per
            image and view, where ``weights[l, i]`` multiplies ``target[l, i]``.
        temperature: > 0.
        negatives: ``other_view``: the B - 1 other images in view l, Eq. 2 to the letter;
            ``both_views``: those and the B - 1 other images in the anchor's own view j.
        log_prior: (n,) log P(Z_t), normalized; uniform when None.
        pairs: The (anchor view j, positive view l) to use; all with j != l when None.

    Returns:
        [] in nats, >= 0; float32 or the inputs' dtype if that is wider, also under autocast.

    Raises:
        IclmsrError: Shapes that do not fit, fewer than 2 views or images, temperature <= 0,
            an unknown ``negatives``, no ``pairs`` or one that is not of two different views.

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
    every = list(permutations(range(len(online)), 2))
    if pairs is not None and (not pairs or not set(pairs) <= set(every)):
        raise IclmsrError(f"pairs must be of two different views of {len(online)}, got {pairs}")
    with torch.autocast(online.device.type, enabled=False):
        anchors = F.normalize(at_least_float32(online), dim=2)  # (V, B, D)
        target, weights = at_least_float32(target), at_least_float32(weights)
        units = F.normalize(target, dim=2)  # (V, B, D)
        strata = weights.shape[-2]
        prior = -math.log(strata) if log_prior is None else at_least_float32(log_prior)
        losses = []
        for j, l in every if pairs is None else pairs:
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
    images = torch.arange(len(anchor), device=anchor.device)

    def others(anchor: Tensor, i: Tensor, candidates: Tensor) -> Tensor:
        logits = anchor @ candidates.transpose(1, 2) / temperature  # (k, R, B)
        itself = i[:, None] == images  # (R, B)
        return torch.logsumexp(logits.masked_fill(itself, float("-inf")), dim=(0, 2))

    return over_rows(others, [anchor, images], [candidates])


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
