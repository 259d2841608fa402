# SPDX-License-Identifier: Apache-2.0
"""Numbers that say how much predictions depend on the background."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from iclmsr.errors import IclmsrError
from iclmsr.seeds import generator

TRAINED = ("full", "foreground")
"""What encoders of the four settings are trained and tested on."""


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
    low, high = _bootstrap(lambda index: gain[index].mean(), len(gain), seed, draws)
    return Interval(gain.mean().item(), low, high)


def ratio(a: Tensor, b: Tensor, *, seed: int = 0, draws: int = 2000) -> Interval | None:
    """accuracy(a) / accuracy(b) of the same N images, and how sure it is.

    Args:
        a: (N,) bool, whether each image was right in the one variant.
        b: (N,) bool, in the other.
        seed: Of the bootstrap.
        draws: Resamples of the images.

    Returns:
        The ratio and its quantiles as in :func:`difference`, over the resamples in which an image
        of ``b`` is right; None where none is.

    Raises:
        IclmsrError: Not the same number of images.

    Source: Efron 1979, the percentile bootstrap. Departure: none.

    >>> ratio(torch.tensor([True, False]), torch.tensor([True, True])).value
    0.5
    """
    if a.shape != b.shape:
        raise IclmsrError(f"a ratio needs the same images, got {len(a)} and {len(b)}")
    if not b.any():
        return None
    above, below = a.double(), b.double()
    low, high = _bootstrap(
        lambda index: above[index].sum() / below[index].sum(), len(above), seed, draws
    )
    return Interval((above.sum() / below.sum()).item(), low, high)


def interaction(
    full_full: float, full_foreground: float, foreground_full: float, foreground_foreground: float
) -> float:
    """The interaction term of the 2 x 2 table of accuracies, trained on -> tested on.

        I = (full -> full - full -> foreground) - (foreground -> full - foreground -> foreground)

    Args:
        full_full: Trained and tested on full images, percent.
        full_foreground: Trained on full images, tested on foregrounds, percent.
        foreground_full: Trained on foregrounds, tested on full images, percent.
        foreground_foreground: Trained and tested on foregrounds, percent.

    Returns:
        Points: 0 where the drop from full images to foregrounds does not depend on what was
        trained on; large where each is good only at what it was trained on.

    Source: ICL-MSR, section 1, for the table; the contrast of a 2 x 2 factorial design.
    Departure: none.

    >>> interaction(90.0, 60.0, 50.0, 80.0)
    60.0
    """
    return (full_full - full_foreground) - (foreground_full - foreground_foreground)


def interactions(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The interaction term of every 2 x 2 table that is whole.

    Args:
        rows: Of the four settings.

    Returns:
        For each base method, arm and seed with a run on either kind of images: these three, and by
        classifier :func:`interaction` in points.

    Source: ICL-MSR, section 1, for the table. Departure: the term is ours.

    >>> kinds = {"full": (90.0, 60.0), "foreground": (50.0, 80.0)}
    >>> rows = [
    ...     {"base": "byol", "arm": "msr", "seed": 0, "train": train,
    ...      "results": {"full": {"knn": a}, "foreground": {"knn": b}}}
    ...     for train, (a, b) in kinds.items()
    ... ]
    >>> interactions(rows)
    [{'base': 'byol', 'arm': 'msr', 'seed': 0, 'knn': 60.0}]
    """
    tables: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        key = (row["base"], row["arm"], row["seed"])
        tables.setdefault(key, {})[row["train"]] = row["results"]
    return [
        {
            **dict(zip(("base", "arm", "seed"), key, strict=True)),
            **{
                kind: interaction(*(table[a][b][kind] for a in TRAINED for b in TRAINED))
                for kind in table["full"]["full"]
            },
        }
        for key, table in tables.items()
        if table.keys() == set(TRAINED)
    ]


def by_classifier(
    correct: Mapping[str, Mapping[str, Tensor]],
) -> dict[str, dict[str, float | None]]:
    """The challenge's numbers of each classifier from what was right in which variant.

    Args:
        correct: By classifier and variant (N,) bool; ``original``, ``only_fg``, ``only_bg_t``,
            ``mixed_same`` and ``mixed_rand`` are needed.

    Returns:
        By measure and classifier, in points: ``bg_gap`` = mixed_same - mixed_rand, with
        ``bg_gap_low`` and ``bg_gap_high``; ``foreground_drop`` = original - only_fg;
        ``background_only`` = only_bg_t, in percent; ``background_robustness`` =
        mixed_rand / mixed_same, 1 where a background of the wrong class costs nothing, with
        ``background_robustness_low`` and ``_high``, None where none of mixed_same is right.

    Source: Xiao et al. 2020 (ImageNet-9); background robustness: Nauen et al. 2025 (ForAug,
    arXiv 2503.09399). Departure: the intervals.

    >>> yes, no = torch.tensor([True, True]), torch.tensor([True, False])
    >>> five = dict(original=yes, only_fg=no, only_bg_t=no, mixed_same=yes, mixed_rand=no)
    >>> found = by_classifier({"knn": five})
    >>> found["bg_gap"], found["foreground_drop"], found["background_only"]
    ({'knn': 50.0}, {'knn': 50.0}, {'knn': 50.0})
    """
    found: dict[str, dict[str, float | None]] = {}
    for name, right in correct.items():
        gap = difference(right["mixed_same"], right["mixed_rand"])
        robustness = ratio(right["mixed_rand"], right["mixed_same"]) or (None, None, None)
        numbers: dict[str, float | None] = {
            "bg_gap": gap.value,
            "bg_gap_low": gap.low,
            "bg_gap_high": gap.high,
            "foreground_drop": accuracy(right["original"]) - accuracy(right["only_fg"]),
            "background_only": accuracy(right["only_bg_t"]),
            "background_robustness": robustness[0],
            "background_robustness_low": robustness[1],
            "background_robustness_high": robustness[2],
        }
        for measure, value in numbers.items():
            found.setdefault(measure, {})[name] = value
    return found


def _bootstrap(
    statistic: Callable[[Tensor], Tensor], count: int, seed: int, draws: int
) -> tuple[float, float]:
    """The 2.5 % and 97.5 % quantiles of a statistic of resampled images, where it is finite."""
    draw = generator(seed, "bootstrap")
    found = torch.stack(
        [statistic(torch.randint(count, (count,), generator=draw)) for _ in range(draws)]
    )
    ends = torch.tensor([0.025, 0.975], dtype=torch.float64)
    low, high = torch.quantile(found[found.isfinite()], ends).tolist()
    return low, high
