# SPDX-License-Identifier: Apache-2.0
"""Whether a run is well, without labels: spread, rank and saturation."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from iclmsr.losses import at_least_float32
from iclmsr.methods.base import Embeddings
from iclmsr.regularizer import MetaSemanticRegularizer


def effective_rank(features: Tensor) -> float:
    """Exp of the entropy of the normalized singular values, in [1, min(B, F)].

    Args:
        features: (B, F), not centred.

    Source: Roy and Vetterli 2007; RankMe, Garrido et al. 2023, Eq. 3. Departure: none.

    >>> round(effective_rank(torch.eye(4)), 4), round(effective_rank(torch.ones(4, 4)), 4)
    (4.0, 1.0)
    """
    singular = torch.linalg.svdvals(at_least_float32(features))
    share = singular / singular.sum().clamp_min(1e-12)
    return float(torch.special.entr(share).sum().exp())


@torch.no_grad()
def measure(embeddings: Embeddings, msr: MetaSemanticRegularizer | None) -> dict[str, float]:
    """One batch's health.

    Args:
        embeddings: Of V views of B images, with features.
        msr: The regularizer, if there is one.

    Returns:
        ``embedding_std``: mean over the dimensions of the standard deviation of the unit
        online embeddings times sqrt(D): 1 when they spread evenly over the sphere, 0 when
        they have collapsed. ``effective_rank`` of the first view's features. With ``msr``,
        ``saturated``: see :meth:`MetaSemanticRegularizer.saturation`.
    """
    unit = F.normalize(at_least_float32(embeddings.online), dim=2).flatten(0, 1)  # (V B, D)
    health = {"embedding_std": float(unit.std(dim=0).mean() * unit.shape[1] ** 0.5)}
    if embeddings.features is not None:
        health["effective_rank"] = effective_rank(embeddings.features[0])
    if msr is not None:
        health["saturated"] = msr.saturation(embeddings.features)
    return health


def summary(weights: Tensor, values: int = 512) -> dict[str, Any]:
    """Strata weights small enough to be kept for every epoch.

    Args:
        weights: (n, D), A_s.
        values: At most so many of them are kept, or one of each stratum.

    Returns:
        ``strata`` n and ``dims`` D; ``kept``, the dimensions that are kept, evenly spaced;
        ``weights``, n lists of theirs with 3 decimals; ``mean`` and ``std`` over all of D, and
        ``distance``: root mean square difference of two strata, 0 when all are the same.

    >>> summary(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))["distance"]
    1.0
    """
    strata, dims = weights.shape
    count = min(dims, max(1, values // strata))
    kept = [place * dims // count for place in range(count)]
    apart = torch.pdist(weights.detach().double().cpu()).square().mean() / dims
    return {
        "strata": strata,
        "dims": dims,
        "kept": kept,
        "weights": [[round(value, 3) for value in row] for row in weights[:, kept].tolist()],
        "mean": round(weights.mean().item(), 6),
        "std": round(weights.std(correction=0).item(), 6),
        "distance": round(apart.sqrt().item(), 6) if strata > 1 else 0.0,
    }


def collapse(health: dict[str, float]) -> str | None:
    """A warning if the numbers say that the encoder maps everything to one place, else None.

    >>> collapse({"embedding_std": 0.9, "effective_rank": 40.0}) is None
    True
    """
    std, rank = health["embedding_std"], health.get("effective_rank", float("inf"))
    if std >= 0.1 and rank >= 1.5:
        return None
    return (
        f"the embeddings collapse: spread {std:.3f} of 1, effective rank {rank:.1f}; "
        "lower the learning rate, enlarge the batch or lengthen the warm-up"
    )
