# SPDX-License-Identifier: Apache-2.0
"""What two or more methods' losses share."""

import torch
from torch import Tensor
from torch.nn import functional as F

from iclmsr.errors import IclmsrError
from iclmsr.tiles import over_rows


def at_least_float32(tensor: Tensor) -> Tensor:
    """The tensor itself, or in float32 when it has fewer bits: losses need the precision."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def check_temperature(temperature: float) -> None:
    """Raises :class:`IclmsrError` unless 0 < temperature < infinity."""
    if not 0 < temperature < float("inf"):
        raise IclmsrError(f"temperature must be > 0 and finite, got {temperature}")


def check_pair(a: Tensor, b: Tensor) -> None:
    """Raises :class:`IclmsrError` unless two views' embeddings have one shape (B, D)."""
    if a.shape != b.shape or a.ndim != 2:
        raise IclmsrError(
            f"both views need one shape (B, D), got {tuple(a.shape)} and {tuple(b.shape)}"
        )


def nt_xent(a: Tensor, b: Tensor, *, temperature: float) -> Tensor:
    """SimCLR's loss: each view has to find its partner among the 2B - 1 other embeddings.

    With z the 2B normalized rows, p(i) the partner of i and s_ij = z_i . z_j / temperature,

        L = -(1 / 2B) sum_i [ s_{i,p(i)} - log sum_{j != i} exp(s_ij) ].

    Large batches are compared in tiles of rows (:func:`iclmsr.tiles.over_rows`).

    Args:
        a: (B, D) embeddings of the first views, any floating dtype, not normalized.
        b: (B, D) of the second views.
        temperature: > 0.

    Returns:
        [] in nats, >= 0; float32 or the inputs' dtype if that is wider.

    Raises:
        IclmsrError: Shapes that differ, or temperature <= 0.

    Source: Chen et al. 2020 (arXiv 2002.05709), Eq. 1. Departure: none.

    >>> eye = torch.eye(2, dtype=torch.float64)
    >>> round(nt_xent(eye, eye, temperature=0.5).item(), 10)  # log(1 + 2 exp(-2))
    0.2395447662
    """
    check_temperature(temperature)
    check_pair(a, b)

    def find_partner(z_i: Tensor, i: Tensor, partner: Tensor, z: Tensor) -> Tensor:
        s = (z_i @ z.T / temperature).scatter_(1, i[:, None], float("-inf"))  # (R, 2B)
        return F.cross_entropy(s, partner, reduction="none")

    with torch.autocast(a.device.type, enabled=False):
        z = F.normalize(at_least_float32(torch.cat([a, b])), dim=1)  # (2B, D)
        rows = torch.arange(len(z), device=z.device)
        partner = (rows + len(a)) % len(z)
        return over_rows(find_partner, [z, rows, partner], [z]).mean()


def regression_loss(a: Tensor, b: Tensor) -> Tensor:
    """Squared distance of unit embeddings: 2 - 2 mean_i cos(a_i, b_i).

    Args:
        a: (B, D) embeddings, any floating dtype, not normalized.
        b: (B, D), what they shall meet; detach it to keep it in its place.

    Returns:
        [] in [0, 4]; float32 or the inputs' dtype if that is wider.

    Raises:
        IclmsrError: Shapes that differ.

    Source: Grill et al. 2020 (arXiv 2006.07733), Eq. 2, one direction. Departure: none.

    >>> regression_loss(torch.eye(2), torch.eye(2).flip(0)).item()  # orthogonal
    2.0
    """
    check_pair(a, b)
    with torch.autocast(a.device.type, enabled=False):
        a, b = (F.normalize(at_least_float32(x), dim=1) for x in (a, b))
        return 2 - 2 * (a * b).sum(1).mean()
