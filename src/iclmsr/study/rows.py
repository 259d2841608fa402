# SPDX-License-Identifier: Apache-2.0
"""Rows of a study's JSON file: which bases, arms and quantities they hold."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from iclmsr.errors import IclmsrError
from iclmsr.study.arms import EQUAL_TIME
from iclmsr.study.statistics import Paired, paired

Row = Mapping[str, Any]
Kind = Literal["linear", "knn"]

BASES = {
    "simclr": "SimCLR",
    "byol": "BYOL",
    "w-mse": "W-MSE",
    "ressl": "ReSSL",
    "lmcl": "LMCL",
    "ssl-hsic": "SSL-HSIC",
    "relic": "RELIC",
    "barlow-twins": "Barlow Twins",
    "vicreg": "VICReg",
    "simsiam": "SimSiam",
    "moco-v3": "MoCo v3",
    "dino": "DINO",
}
ARM_LABELS = {
    "plain": "plain",
    "msr": "MSR",
    "msr-frozen": "MSR, weights frozen",
    "msr-joint": "MSR, weights by stage 1",
    "msr-one-stratum": "MSR, n = 1",
    "msr-fresh": "MSR, fresh outer batch",
    "msr-same": "MSR, same outer batch",
    "msr-no-loss": "MSR, no interventional loss",
    "bg-random": "BG_Random (masks)",
    "bg-remove": "BG_RM (masks)",
    "bg-swaps": "BG_Swaps (masks)",
}
"""In the order in which tables and figures show them. The last three need masks to train."""
REFERENCE = "plain"
"""The arm that all others are compared with, at equal steps."""
CLASSIFIERS = {"linear": "linear probe", "knn": "5-nn"}


class Quantity(NamedTuple):
    """A number that every row may hold.

    Attributes:
        label: What people read.
        path: Keys that lead to it.
        unit: Begins with ``%`` for a share, ``points`` for a difference of shares, or empty.
        better: Which way is better, ``more`` or ``less``; empty if neither.
    """

    label: str
    path: tuple[str, ...]
    unit: str
    better: str


_VARIANTS = {
    "original": "original",
    "only_fg": "foreground only",
    "mixed_same": "mixed, same class",
    "mixed_rand": "mixed, random",
    "mixed_next": "mixed, next class",
    "swapped": "swapped",
}
_BY_CLASSIFIER = {
    "bg_gap": ("BG-gap", ("bg_gap",), "points", "less"),
    "background_robustness": ("mixed random / same", ("background_robustness",), "", "more"),
    "foreground_drop": ("foreground drop", ("foreground_drop",), "points", "less"),
    "probe_interaction": ("interaction", ("probe_interaction",), "points", "less"),
    "background_only": ("background only", ("background_only",), "%", "less"),
    "worst_group": ("worst group", ("worst_group", "accuracy"), "%", "more"),
    "group_mean": ("mean over groups", ("worst_group", "mean"), "%", "more"),
    "worst_group_dfr": ("worst group, DFR", ("worst_group_dfr",), "%", "more"),
    "group_mean_dfr": ("mean over groups, DFR", ("group_mean_dfr",), "%", "more"),
    "foreground_probe_original": (
        "foreground probe: original",
        ("foreground_probe_original",),
        "%",
        "more",
    ),
    "foreground_probe_only_fg": (
        "foreground probe: foreground",
        ("foreground_probe_only_fg",),
        "%",
        "more",
    ),
}
_OF_EMBEDDINGS = {
    "background_decodability": ("background decodable", "%", "less"),
    "swap_cosine": ("cosine of twins", "", ""),
    "random_cosine": ("cosine of random pairs", "", ""),
    "swap_cosine_uncentred": ("cosine of twins, uncentred", "", ""),
    "random_cosine_uncentred": ("cosine of random pairs, uncentred", "", ""),
    "swap_sensitivity": ("swap sensitivity", "", "less"),
    "swap_sensitivity_cosine": ("swap sensitivity, cosine", "", "less"),
    "variance_foreground": ("variance by foreground", "", ""),
    "variance_background": ("variance by background", "", ""),
    "variance_interaction": ("variance by both", "", ""),
    "neighbour_foreground": ("neighbour: same foreground", "% of composites", ""),
    "neighbour_background": ("neighbour: same background", "% of composites", ""),
}
_SHOWN_OTHERWISE = ("background_chance", "only_bg_t")
"""A constant, and what ``background_only`` is."""
_OF_ONE_RUN = ("_low", "_high")
"""How the names of intervals over the images of one run end."""


def quantities(kind: Kind, rows: Sequence[Row] = ()) -> dict[str, Quantity]:
    """What a row of a comparison or sweep may hold, by its key.

    Args:
        kind: Which classifier.
        rows: What else these hold comes last, under its own name.

    >>> quantities("knn")["bg_gap"].path
    ('measures', 'bg_gap', 'knn')
    >>> rows = [{"measures": {"focus": 0.5, "ratio": {"linear": 0.8, "knn": 0.9}}}]
    >>> [one.path for one in quantities("knn", rows).values()][-2:]
    [('measures', 'focus'), ('measures', 'ratio', 'knn')]
    """
    found = {
        key: Quantity(label, ("results", key, kind), "%", "more")
        for key, label in _VARIANTS.items()
    }
    for key, (label, (measure, *part), unit, better) in _BY_CLASSIFIER.items():
        found[key] = Quantity(label, ("measures", measure, kind, *part), unit, better)
    for key, (label, unit, better) in _OF_EMBEDDINGS.items():
        found[key] = Quantity(label, ("measures", key), unit, better)
    for group, unit in (("results", "%"), ("measures", "")):
        for key, value in (item for row in rows for item in row.get(group, {}).items()):
            path = (group, key, kind) if isinstance(value, Mapping) else (group, key)
            if key not in (*found, *_SHOWN_OTHERWISE) and not key.endswith(_OF_ONE_RUN):
                found[key] = Quantity(key.replace("_", " "), path, unit, "")
    return found


def further(rows: Sequence[Row], kind: Kind | None, shown: Sequence[str]) -> list[str]:
    """Keys of what rows hold beside what is shown: of a classifier, or of no classifier.

    >>> rows = [{"seed": 0, "measures": {"swap_cosine": 0.5, "foreground_drop": {"knn": 9.0}}}]
    >>> further(rows, "knn", ["bg_gap"]), further(rows, None, ["bg_gap"])
    (['foreground_drop'], ['swap_cosine'])
    """
    known = quantities(kind or "linear", rows)
    return [
        key
        for key, one in known.items()
        if key not in shown
        and (kind in one.path if kind else len(one.path) == 2)
        and _holds(rows, one.path)
    ]


def by_seed(rows: Sequence[Row], path: Sequence[str], **where: Any) -> dict[int, float]:
    """One number of the rows that match, by seed; rows that lack it are left out.

    Args:
        rows: Of a study.
        path: Keys that lead to the number.
        where: What a row must say, e.g. ``base="simclr", arm="msr"``.

    Raises:
        IclmsrError: Two rows with the same seed match.

    >>> rows = [{"arm": "msr", "seed": 3, "results": {"full": {"knn": 61.5}}}, {"arm": "plain"}]
    >>> by_seed(rows, ("results", "full", "knn"), arm="msr")
    {3: 61.5}
    """
    found: dict[int, float] = {}
    for row in rows:
        if any(row.get(name) != value for name, value in where.items()):
            continue
        value: Any = row
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if row["seed"] in found:
            said = ", ".join(f"{name} {value!r}" for name, value in where.items())
            raise IclmsrError(f"two rows with {said} have seed {row['seed']}: keep one of them")
        found[row["seed"]] = float(value)
    return found


def bases_of(rows: Sequence[Row]) -> list[str]:
    """Base methods in the order in which they first appear."""
    return list(dict.fromkeys(row["base"] for row in rows))


def arms_of(rows: Sequence[Row], base: str) -> list[str]:
    """Arms that a base has, in the order of ``ARM_LABELS``; unknown ones come last.

    >>> rows = [{"base": "byol", "arm": arm} for arm in ("msr", "plain-equal-time", "plain")]
    >>> arms_of(rows, "byol")
    ['plain', 'plain-equal-time', 'msr']
    """
    there = dict.fromkeys(row["arm"] for row in rows if row["base"] == base)
    known = [name for arm in ARM_LABELS for name in (arm, arm + EQUAL_TIME)]
    return [arm for arm in known if arm in there] + [arm for arm in there if arm not in known]


def references_of(arms: Sequence[str]) -> list[str]:
    """Of the arms those that the others are compared with.

    >>> references_of(["plain", "plain-equal-time", "msr"])
    ['plain', 'plain-equal-time']
    """
    return [arm for arm in (REFERENCE, REFERENCE + EQUAL_TIME) if arm in arms]


def others_of(arms: Sequence[str], reference: str) -> list[str]:
    """Of the arms those that are compared with the reference; plain is the reference at first.

    >>> others_of(["plain", "plain-equal-time", "msr"], "plain-equal-time")
    ['msr']
    """
    return [arm for arm in arms if arm not in (REFERENCE, reference)]


def held(rows: Sequence[Row], wanted: Sequence[str], kind: Kind) -> list[Quantity]:
    """Of the wanted quantities those that at least one row holds.

    Raises:
        IclmsrError: There is none, or it is not a quantity.
    """
    known = quantities(kind, rows)
    unknown = [key for key in wanted if key not in known]
    if unknown:
        raise IclmsrError(f"no quantity {unknown[0]!r}: choose from {', '.join(known)}")
    found = [known[key] for key in wanted if _holds(rows, known[key].path)]
    if not found:
        raise IclmsrError(f"no row holds any of {', '.join(wanted)}: has the study been run?")
    return found


def _holds(rows: Sequence[Row], path: Sequence[str]) -> bool:
    """Whether any row holds the number at ``path``."""
    return any(by_seed([row], path) for row in rows)


def against(
    rows: Sequence[Row], path: Sequence[str], arm: str, reference: str, **where: Any
) -> Paired | None:
    """An arm less the reference over their common seeds, or None if they have none."""
    ours = by_seed(rows, path, arm=arm, **where)
    theirs = by_seed(rows, path, arm=reference, **where)
    return paired(ours, theirs) if ours.keys() & theirs.keys() else None


def base_label(base: str) -> str:
    """How a base method is written."""
    return BASES.get(base, base)


def arm_label(arm: str) -> str:
    """How an arm is written.

    >>> arm_label("plain-equal-time"), arm_label("mine")
    ('plain, equal time', 'mine')
    """
    usual = arm.removesuffix(EQUAL_TIME)
    label = ARM_LABELS.get(usual, usual)
    return label if usual == arm else f"{label}, equal time"


def file_of(study: str, split: str, *, usual: str = "test") -> str:
    """Name of a study's file: judged on another split than the usual one, it has its own.

    >>> file_of("comparison", "test"), file_of("comparison", "val")
    ('comparison.json', 'comparison-val.json')
    """
    return f"{study}.json" if split == usual else f"{study}-{split}.json"


def judged_by(study: Mapping[str, Any], kind: Kind | None) -> str:
    """By what and on which split a study was judged, for captions.

    >>> judged_by({"settings": {"split": "val"}}, "knn")
    '5-nn, split val'
    """
    split = study.get("settings", {}).get("split")
    parts = [CLASSIFIERS[kind] if kind else "embeddings", f"split {split}" if split else ""]
    return ", ".join(filter(None, parts))
