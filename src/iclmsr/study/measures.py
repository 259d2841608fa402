# SPDX-License-Identifier: Apache-2.0
"""Numbers that say how much predictions and embeddings depend on the background."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from iclmsr.errors import IclmsrError
from iclmsr.seeds import generator


class Interval(NamedTuple):
    """A number with a 95 % interval."""

    value: float
    low: float
    high: float


def accuracy(correct: Tensor) -> float:
    """Share of (N,) bool that are true, in percent.

    >>> accuracy(torch.tensor([True, False, True, True]))
    75.0
    """
    return 100 * int(correct.sum()) / len(correct)


def difference(a: Tensor, b: Tensor, *, seed: int = 0, draws: int = 2000) -> Interval:
    """accuracy(a) - accuracy(b) of the same N images, in points, and how sure it is.

    Args:
        a: (N,) bool, whether each image was right in the one variant.
        b: (N,) bool, in the other.
        seed: Of the bootstrap.
        draws: Resamples of the images.

    Returns:
        The difference and the 2.5 % and 97.5 % quantiles over resamples of the images, paired.

    Raises:
        IclmsrError: Not the same number of images.

    Source: Efron 1979, the percentile bootstrap. Departure: none.

    >>> difference(torch.tensor([True, True]), torch.tensor([False, False]))
    Interval(value=100.0, low=100.0, high=100.0)
    """
    if a.shape != b.shape:
        raise IclmsrError(f"a difference needs the same images, got {len(a)} and {len(b)}")
    gain = 100 * (a.double() - b.double())  # (N,)
    draw = generator(seed, "bootstrap")
    means = torch.stack(
        [gain[torch.randint(len(gain), gain.shape, generator=draw)].mean() for _ in range(draws)]
    )
    low, high = torch.quantile(means, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Interval(gain.mean().item(), low, high)


def worst_group(
    correct: Tensor, labels: Tensor, backgrounds: Tensor, *, least: int = 10
) -> dict[str, float] | None:
    """The smallest accuracy of a group, a group being a class on a kind of background.

    Args:
        correct: (N,) bool.
        labels: (N,) int64 classes.
        backgrounds: (N,) int64 kinds of background.
        least: Groups of fewer images are left out, >= 1.

    Returns:
        ``accuracy`` of the worst group and ``mean`` over groups, percent; its ``label``,
        ``background`` and ``images``; ``groups``, how many there are. None where no group has
        so many images.

    Source: Sagawa et al. 2020 (Waterbirds). Departure: ``least``.

    >>> right = torch.tensor([True, True, False, True])
    >>> found = worst_group(right, torch.tensor([0, 0, 1, 1]), torch.zeros(4).long(), least=2)
    >>> found["accuracy"], found["mean"], found["label"]
    (50.0, 75.0, 1)
    """
    pairs, group = torch.unique(torch.stack([labels, backgrounds], 1), dim=0, return_inverse=True)
    sizes = torch.bincount(group, minlength=len(pairs))
    right = torch.bincount(group, correct.double(), minlength=len(pairs))
    kept = (sizes >= least).nonzero()[:, 0]
    if not len(kept):
        return None
    shares = 100 * right[kept] / sizes[kept]
    worst = int(shares.argmin())
    label, background = pairs[kept[worst]].tolist()
    return {
        "accuracy": shares[worst].item(),
        "mean": shares.mean().item(),
        "label": label,
        "background": background,
        "images": int(sizes[kept[worst]]),
        "groups": len(kept),
    }


def swap_similarity(features: Tensor, swapped: Tensor, *, seed: int = 0) -> dict[str, float]:
    """Cosine of an image with itself on another background, beside that of two images.

    Args:
        features: (N, F) of images, N >= 2.
        swapped: (N, F) of the same foregrounds on other backgrounds.
        seed: Of the random pairs.

    Returns:
        ``swap_cosine``: mean over the images, 1 for an encoder that ignores backgrounds;
        ``random_cosine``: mean over random pairs of different images, what 1 is to be told from.
        Features are centred first, on the mean of both sets.

    Source: ours. Departure: none.

    >>> round(swap_similarity(torch.eye(4), torch.eye(4))["swap_cosine"], 9)
    1.0
    """
    middle = torch.cat([features, swapped]).mean(0)
    a, b = (F.normalize((x - middle).double(), dim=1) for x in (features, swapped))
    shift = torch.randint(1, len(a), (len(a),), generator=generator(seed, "pairs"))
    other = (torch.arange(len(a)) + shift) % len(a)
    return {
        "swap_cosine": (a * b).sum(1).mean().item(),
        "random_cosine": (a * a[other]).sum(1).mean().item(),
    }


def variance_shares(features: Tensor) -> dict[str, float]:
    """How much of the embeddings' variance goes with the foreground, and with the background.

    Args:
        features: (I, J, F), of foreground i on background j.

    Returns:
        Shares in [0, 1] that sum to 1: ``variance_foreground``, of the means over backgrounds;
        ``variance_background``, of the means over foregrounds; ``variance_interaction``, the rest.

    Raises:
        IclmsrError: Not three dimensions, or all embeddings are equal.

    Source: two-way analysis of variance with one observation a cell. Departure: none.

    >>> grid = torch.tensor([[[0.0], [1.0]], [[2.0], [3.0]]])  # 2 i + j
    >>> shares = variance_shares(grid)
    >>> shares["variance_foreground"], shares["variance_background"]
    (0.8, 0.2)
    """
    if features.ndim != 3 or min(features.shape[:2]) < 2:
        raise IclmsrError(
            f"variance shares need (I, J, F) with I, J >= 2, got {tuple(features.shape)}"
        )
    z = features.double()
    z = z - z.mean((0, 1))
    total = z.square().sum().item()
    if not total > 0:
        raise IclmsrError("all embeddings are equal: the encoder has collapsed")
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


def by_classifier(correct: Mapping[str, Mapping[str, Tensor]]) -> dict[str, dict[str, float]]:
    """The challenge's numbers of each classifier from what was right in which variant.

    Args:
        correct: By classifier and variant (N,) bool; ``original``, ``only_fg``, ``only_bg_t``,
            ``mixed_same`` and ``mixed_rand`` are needed.

    Returns:
        By measure and classifier, in points: ``bg_gap`` = mixed_same - mixed_rand, with
        ``bg_gap_low`` and ``bg_gap_high``; ``foreground_drop`` = original - only_fg;
        ``background_only`` = only_bg_t, in percent.

    Source: Xiao et al. 2020 (ImageNet-9). Departure: the interval.

    >>> yes, no = torch.tensor([True, True]), torch.tensor([True, False])
    >>> five = dict(original=yes, only_fg=no, only_bg_t=no, mixed_same=yes, mixed_rand=no)
    >>> found = by_classifier({"knn": five})
    >>> found["bg_gap"], found["foreground_drop"], found["background_only"]
    ({'knn': 50.0}, {'knn': 50.0}, {'knn': 50.0})
    """
    found: dict[str, dict[str, float]] = {}
    for name, right in correct.items():
        gap = difference(right["mixed_same"], right["mixed_rand"])
        numbers = {
            "bg_gap": gap.value,
            "bg_gap_low": gap.low,
            "bg_gap_high": gap.high,
            "foreground_drop": accuracy(right["original"]) - accuracy(right["only_fg"]),
            "background_only": accuracy(right["only_bg_t"]),
        }
        for measure, value in numbers.items():
            found.setdefault(measure, {})[name] = value
    return found
