# SPDX-License-Identifier: Apache-2.0
"""How far embeddings go with the background, and how far with the foreground: no labels needed."""

import torch
from torch import Tensor
from torch.nn import functional as F

from iclmsr.errors import IclmsrError
from iclmsr.seeds import generator
from iclmsr.study.measures import accuracy

ROUNDING = 1e-6
"""Embeddings are equal if they differ by no more, as a share of their length: a few bits of
float32."""


def swap_similarity(features: Tensor, swapped: Tensor, *, seed: int = 0) -> dict[str, float]:
    """Cosine of an image with itself on another background, beside that of two images.

    Args:
        features: (N, F) of images, N >= 2.
        swapped: (N, F) of the same foregrounds on other backgrounds.
        seed: Of the random pairs.

    Returns:
        ``swap_cosine``: mean over the images of cos(z_i - m, z'_i - m), m the mean of both sets,
        1 for an encoder that ignores backgrounds; ``random_cosine``: mean of
        cos(z_i - m, z_j - m) over random pairs of different images, what 1 is to be told from.
        ``swap_cosine_uncentred`` and ``random_cosine_uncentred``: the same with m = 0, where the
        features of all images may have much in common.

    Source: ours. Departure: none.

    >>> round(swap_similarity(torch.eye(4), torch.eye(4))["swap_cosine"], 9)
    1.0
    """
    shift = torch.randint(1, len(features), (len(features),), generator=generator(seed, "pairs"))
    other = (torch.arange(len(features)) + shift) % len(features)
    middle = torch.cat([features, swapped]).mean(0)
    found = {}
    for name, centre in (("", middle), ("_uncentred", torch.zeros_like(middle))):
        a, b = (F.normalize((z - centre).double(), dim=1) for z in (features, swapped))
        found[f"swap_cosine{name}"] = (a * b).sum(1).mean().item()
        found[f"random_cosine{name}"] = (a * a[other]).sum(1).mean().item()
    return found


def swap_sensitivity(features: Tensor) -> dict[str, float | None]:
    """How far another background moves an embedding, beside how far another foreground does.

        S = E ||z(fg_i, bg_j) - z(fg_i, bg_k)||^2 / E ||z(fg_i, bg_j) - z(fg_l, bg_j)||^2

    over j != k above and i != l below. The cosine form takes unit vectors z / ||z||, whose squared
    distance is 2 (1 - cos).

    Args:
        features: (I, J, F), z of foreground i on background j.

    Returns:
        ``swap_sensitivity`` and ``swap_sensitivity_cosine``, >= 0: 0 for an encoder that ignores
        backgrounds, 1 where a background counts as much as a foreground. None where foregrounds
        make no difference.

    Raises:
        IclmsrError: Not three dimensions, or fewer than two foregrounds or backgrounds.

    Source: ours; two-way analysis of variance on composites. Departure: none.

    >>> grid = torch.tensor([[[3.0, 0.0], [0.0, 3.0]], [[9.0, 0.0], [0.0, 9.0]]])
    >>> round(swap_sensitivity(grid)["swap_sensitivity"], 9)  # (18 + 162) / (36 + 36)
    2.5
    """
    z = _grid(features)
    return {
        "swap_sensitivity": _sensitivity(z),
        "swap_sensitivity_cosine": _sensitivity(F.normalize(z, dim=2)),
    }


def variance_shares(features: Tensor) -> dict[str, float | None]:
    """How much of the embeddings' variance goes with the foreground, and with the background.

    Args:
        features: (I, J, F), of foreground i on background j.

    Returns:
        Shares in [0, 1] that sum to 1: ``variance_foreground``, of the means over backgrounds;
        ``variance_background``, of the means over foregrounds; ``variance_interaction``, the rest.
        None for each where all embeddings are equal: the encoder has collapsed.

    Raises:
        IclmsrError: Not three dimensions, or fewer than two foregrounds or backgrounds.

    Source: two-way analysis of variance with one observation a cell. Departure: none.

    >>> grid = torch.tensor([[[0.0], [1.0]], [[2.0], [3.0]]])  # 2 i + j
    >>> shares = variance_shares(grid)
    >>> shares["variance_foreground"], shares["variance_background"]
    (0.8, 0.2)
    """
    whole = _grid(features)
    z = whole - whole.mean((0, 1))
    total = z.square().sum().item()
    if not total > ROUNDING**2 * whole.square().sum().item():
        return dict.fromkeys(("variance_foreground", "variance_background", "variance_interaction"))
    rows, columns = z.mean(1), z.mean(0)
    foreground = z.shape[1] * rows.square().sum().item() / total
    background = z.shape[0] * columns.square().sum().item() / total
    return {
        "variance_foreground": foreground,
        "variance_background": background,
        "variance_interaction": max(0.0, 1 - foreground - background),
    }


def retrieval(features: Tensor) -> dict[str, float]:
    """What a composite's nearest neighbour shares with it, in percent.

    Args:
        features: (I, J, F), of foreground i on background j; cosine similarity.

    Returns:
        ``neighbour_foreground`` and ``neighbour_background``: share of composites whose nearest
        other one has the same foreground, or the same background.

    Source: ours. Departure: none.

    >>> grid = torch.tensor([[[0.0, 1.0], [0.1, 1.0]], [[1.0, 0.0], [1.0, 0.1]]])
    >>> retrieval(grid)
    {'neighbour_foreground': 100.0, 'neighbour_background': 0.0}
    """
    rows, columns = features.shape[:2]
    z = F.normalize(features.flatten(0, 1).double(), dim=1)
    similarity = z @ z.T
    similarity.fill_diagonal_(-torch.inf)
    nearest = similarity.argmax(1)
    index = torch.arange(rows * columns)
    same_row = nearest // columns == index // columns
    same_column = nearest % columns == index % columns
    return {
        "neighbour_foreground": accuracy(same_row),
        "neighbour_background": accuracy(same_column),
    }


def _grid(features: Tensor) -> Tensor:
    """Embeddings of two foregrounds on two backgrounds at least, as float64."""
    if features.ndim != 3 or min(features.shape[:2]) < 2:
        raise IclmsrError(
            f"a grid of composites needs (I, J, F) with I, J >= 2, got {tuple(features.shape)}"
        )
    return features.double()


def _sensitivity(z: Tensor) -> float | None:
    """Mean squared distance in a row over that in a column; each is twice the variance there."""
    background, foreground = (z.var(side).sum(1).mean().item() for side in (1, 0))
    least = ROUNDING**2 * z.square().sum(2).mean().item()
    return background / foreground if foreground > least else None
