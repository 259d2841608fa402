# SPDX-License-Identifier: Apache-2.0
"""Rows of a study's JSON file: which bases, arms and quantities they hold."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from iclmsr.errors import IclmsrError
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
    "plain-equal-time": "plain, equal time",
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
CLASSIFIERS = {"linear": "linear probe", "knn": "5-nn"}


class Quantity(NamedTuple):
    """A number that every row may hold.

    Attributes:
        label: What people read.
        path: Keys that lead to it.
        unit: ``%`` for a share, ``points`` for a difference of shares, or empty.
        better: Which way is better, ``more`` or ``less``; empty if neither.
    """

    label: str
    path: tuple[str, ...]
    unit: str
    better: str


def quantities(kind: Kind) -> dict[str, Quantity]:
    """What a row of a comparison or sweep may hold, by its key.

    >>> quantities("knn")["bg_gap"].path
    ('measures', 'bg_gap', 'knn')
    """
    variants = {
        "original": "original",
        "only_fg": "foreground only",
        "mixed_same": "mixed, same class",
        "mixed_rand": "mixed, random",
        "mixed_next": "mixed, next class",
    }
    found = {
        key: Quantity(label, ("results", key, kind), "%", "more") for key, label in variants.items()
    }
    found["bg_gap"] = Quantity("BG-gap", ("measures", "bg_gap", kind), "points", "less")
    for key, label, unit, better in (
        ("foreground_drop", "foreground drop", "points", "less"),
        ("background_only", "background only", "%", "less"),
    ):
        found[key] = Quantity(label, ("measures", key, kind), unit, better)
    found["worst_group"] = Quantity(
        "worst group", ("measures", "worst_group", kind, "accuracy"), "%", "more"
    )
    found["background_decodability"] = Quantity(
        "background decodable", ("measures", "background_decodability"), "%", "less"
    )
    for key, label in (
        ("swap_cosine", "cosine of twins"),
        ("random_cosine", "cosine of random pairs"),
        ("variance_foreground", "variance by foreground"),
        ("variance_background", "variance by background"),
    ):
        found[key] = Quantity(label, ("measures", key), "", "")
    return found


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
        if value is None:
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

    >>> arms_of([{"base": "byol", "arm": "msr"}, {"base": "byol", "arm": "plain"}], "byol")
    ['plain', 'msr']
    """
    there = dict.fromkeys(row["arm"] for row in rows if row["base"] == base)
    return [arm for arm in ARM_LABELS if arm in there] + [
        arm for arm in there if arm not in ARM_LABELS
    ]


def held(rows: Sequence[Row], wanted: Sequence[str], kind: Kind) -> list[Quantity]:
    """Of the wanted quantities those that at least one row holds.

    Raises:
        IclmsrError: There is none, or it is not a quantity.
    """
    known = quantities(kind)
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
    """How an arm is written."""
    return ARM_LABELS.get(arm, arm)
