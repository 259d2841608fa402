# SPDX-License-Identifier: Apache-2.0
"""What a few seeds say: means, and differences of two arms over the seeds that both have."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch

from iclmsr.errors import IclmsrError
from iclmsr.seeds import generator

RESAMPLES = 10_000
MOST_SIGNS = 20
"""Differences of which all signs are tried."""
RANDOM_SIGNS = 100_000


class Summary(NamedTuple):
    """Values of several seeds.

    Attributes:
        seeds: How many, >= 1.
        mean: In the values' unit.
        sd: Standard deviation with seeds - 1 below, in the same unit; None of a single seed.
    """

    seeds: int
    mean: float
    sd: float | None


class Paired(NamedTuple):
    """One arm less another, seed by seed.

    Attributes:
        differences: By seed, in the values' unit.
        mean: Of the differences.
        interval: Lower and upper end for the mean, see :func:`bootstrap_interval`; None of a
            single seed.
        more: Seeds with a difference > 0.
        less: Seeds with a difference < 0.
        p: Two-sided, see :func:`sign_flip_p`.
    """

    differences: dict[int, float]
    mean: float
    interval: tuple[float, float] | None
    more: int
    less: int
    p: float


def summary(values: Sequence[float]) -> Summary:
    """Mean and standard deviation over seeds.

    Raises:
        IclmsrError: No value.

    Source: none. Departure: none.

    >>> summary([1.0, 3.0])
    Summary(seeds=2, mean=2.0, sd=1.4142135623730951)
    """
    _check(values)
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Summary(len(values), float(np.mean(values)), sd)


def paired(
    ours: Mapping[int, float], theirs: Mapping[int, float], *, level: float = 0.95
) -> Paired:
    """``ours`` less ``theirs`` over the seeds that both have.

    Args:
        ours: Values by seed.
        theirs: Values by seed, in the same unit.
        level: Of the interval, in (0, 1).

    Raises:
        IclmsrError: They have no seed in common.

    Source: none. Departure: none.

    >>> found = paired({0: 3.0, 1: 5.0, 2: 9.0}, {1: 4.0, 0: 1.0})
    >>> found.differences, found.mean, found.more, found.less, found.p
    ({0: 2.0, 1: 1.0}, 1.5, 2, 0, 0.5)
    """
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        raise IclmsrError(
            f"a paired difference needs a common seed, got {sorted(ours)} and {sorted(theirs)}"
        )
    differences = {seed: ours[seed] - theirs[seed] for seed in seeds}
    values = list(differences.values())
    return Paired(
        differences,
        summary(values).mean,
        bootstrap_interval(values, level=level) if len(values) > 1 else None,
        sum(value > 0 for value in values),
        sum(value < 0 for value in values),
        sign_flip_p(values),
    )


def bootstrap_interval(
    values: Sequence[float], *, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean.

    With few values it is too narrow: of normal values it holds the true mean in about 84 % of
    cases with 5 of them and 90 % with 10, not in 95 %; BCa does no better there.

    Args:
        values: At least one.
        level: Share of resampled means between the ends, in (0, 1).
        resamples: Draws with replacement, >= 1.
        seed: Of the draws.

    Raises:
        IclmsrError: No value, or an argument outside its range.

    Source: Efron and Tibshirani 1993, chapter 13. Departure: none.

    >>> bootstrap_interval([2.0, 2.0, 2.0])
    (2.0, 2.0)
    """
    _check(values)
    if not 0 < level < 1:
        raise IclmsrError(f"level must be in (0, 1), got {level}")
    if resamples < 1:
        raise IclmsrError(f"resamples must be >= 1, got {resamples}")
    count = len(values)
    draw = generator(seed, "bootstrap", count)
    drawn = torch.randint(count, (resamples, count), generator=draw).numpy()
    means = np.asarray(values, np.float64)[drawn].mean(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def sign_flip_p(differences: Sequence[float]) -> float:
    """How often a mean this far from 0 arises when every difference's sign is a fair coin.

    All 2^n signs are tried up to n = 20, and 100,000 random ones, from a seed of their own, above.
    The smallest p that n differences can have is 2^(1 - n): 0.0625 with 5 seeds, so that 5 seeds
    alone never fall below 0.05; of random signs it is 1e-5.

    Args:
        differences: At least one.

    Returns:
        The two-sided p-value in (0, 1].

    Raises:
        IclmsrError: None, or one that is not finite.

    Source: Fisher 1935, section 21; above 20, Phipson and Smyth 2010. Departure: none.

    >>> sign_flip_p([1.0, 2.0, 3.0])
    0.25
    """
    _check(differences)
    values = np.asarray(differences, np.float64)
    # Sums that are equal on paper differ by rounding.
    least = abs(values.sum()) - 1e-12 * np.abs(values).sum()
    if len(values) > MOST_SIGNS:
        draw = generator(0, "signs", len(values))
        signs = torch.randint(2, (RANDOM_SIGNS, len(values)), generator=draw).numpy() * 2 - 1
        return float((1 + np.sum(np.abs(signs @ values) >= least)) / (1 + RANDOM_SIGNS))
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    return float(np.mean(np.abs(sums) >= least))


def _check(values: Sequence[float]) -> None:
    """Raises unless there are values and all are finite."""
    if not len(values):
        raise IclmsrError("statistics need at least one value, got none")
    if not np.isfinite(values).all():
        raise IclmsrError(f"statistics need finite values, got {list(values)}")
