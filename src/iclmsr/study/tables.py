# SPDX-License-Identifier: Apache-2.0
"""A study's results as Markdown tables: mean ± sd over seeds, and differences to plain."""

from collections.abc import Mapping, Sequence
from typing import Any

from iclmsr.study.figures import SETTINGS
from iclmsr.study.rows import (
    CLASSIFIERS,
    Kind,
    Quantity,
    Row,
    against,
    arm_label,
    arms_of,
    base_label,
    bases_of,
    by_seed,
    held,
)
from iclmsr.study.statistics import Paired, paired, summary
from iclmsr.study.sweep_figure import AXIS_LABELS, swept_values

REFERENCE = "plain"
SHOWN = ("original", "only_fg", "mixed_same", "mixed_rand", "bg_gap")
NOTE = (
    "Mean ± sd over the seeds in brackets. Differences are paired by seed: mean [95 % bootstrap "
    "interval over seeds], seeds above : below 0, p of the exact sign-flip test (5 seeds cannot "
    "have a p below 0.0625, and an interval of 5 seeds holds the true mean in about 84 % of cases)."
)


def four_settings_table(study: Mapping[str, Any], *, kind: Kind = "linear") -> str:
    """Accuracy in the four settings, a row for each base method and arm, and what MSR changes.

    Args:
        study: What ``study.json`` of four settings holds.
        kind: Which classifier.

    Returns:
        A Markdown table and the note that explains it.

    Source: none. Departure: none.
    """
    rows: Sequence[Row] = study["rows"]
    heads = [
        f"{number}: {train} → {test}, %" for number, (train, test) in enumerate(SETTINGS, start=1)
    ]
    lines = []
    for base in bases_of(rows):
        arms = arms_of(rows, base)
        for arm in arms:
            cells = [
                value_cell(by_seed(rows, ("results", test, kind), base=base, arm=arm, train=train))
                for train, test in SETTINGS
            ]
            lines.append([base_label(base), arm_label(arm), *cells])
        for arm in arms:
            if arm == REFERENCE:
                continue
            cells = [
                difference_cell(
                    against(rows, ("results", test, kind), arm, REFERENCE, base=base, train=train)
                )
                for train, test in SETTINGS
            ]
            lines.append([base_label(base), f"{arm_label(arm)} less plain, points", *cells])
    filler = f"; background of foregrounds: {study['filler']}" if "filler" in study else ""
    caption = f"Top-1 accuracy of the {CLASSIFIERS[kind]}, trained on → tested on{filler}."
    return "\n\n".join([caption, markdown(["base", "arm", *heads], lines), NOTE])


def comparison_table(
    study: Mapping[str, Any], *, kind: Kind = "linear", wanted: Sequence[str] = SHOWN
) -> str:
    """Two tables for each base method: what the arms reach, and their differences to plain.

    Args:
        study: What ``comparison.json`` holds.
        kind: Which classifier.
        wanted: Keys of :func:`iclmsr.study.rows.quantities`; those that no row holds are left
            out.

    Raises:
        IclmsrError: No row holds any of them.

    Source: none. Departure: none.
    """
    rows: Sequence[Row] = study["rows"]
    columns = held(rows, wanted, kind)
    heads = ["arm", *map(_head, columns)]
    parts = []
    for base in bases_of(rows):
        arms = arms_of(rows, base)
        reached = [
            [arm_label(arm)]
            + [value_cell(by_seed(rows, one.path, base=base, arm=arm), one) for one in columns]
            for arm in arms
        ]
        differences = [
            [arm_label(arm)]
            + [
                difference_cell(against(rows, one.path, arm, REFERENCE, base=base), one)
                for one in columns
            ]
            for arm in arms
            if arm != REFERENCE
        ]
        parts += [f"**{base_label(base)}**, {CLASSIFIERS[kind]}.", markdown(heads, reached)]
        if REFERENCE in arms and differences:
            parts += [f"{base_label(base)}: less plain.", markdown(heads, differences)]
    return "\n\n".join([*parts, NOTE])


def sweep_table(
    study: Mapping[str, Any], *, kind: Kind = "linear", wanted: Sequence[str] = SHOWN
) -> str:
    """A row for each base method and value, and plain's; each with its difference to plain.

    Args:
        study: What ``sweep.json`` holds.
        kind: Which classifier.
        wanted: As for :func:`comparison_table`.

    Raises:
        IclmsrError: No row holds any of them, or a value is not a number.

    Source: none. Departure: none.
    """
    rows: Sequence[Row] = study["rows"]
    columns = held(rows, wanted, kind)
    swept = [row for row in rows if row["arm"] != REFERENCE]
    lines = []
    for base in bases_of(rows):
        plain = [by_seed(rows, one.path, base=base, arm=REFERENCE) for one in columns]
        cells = [value_cell(known, one) for known, one in zip(plain, columns, strict=True)]
        lines += [[base_label(base), "plain", *cells]] if any(plain) else []
        for value in swept_values(swept):
            cells = []
            for one in columns:
                ours = by_seed(swept, one.path, base=base, value=value)
                theirs = by_seed(rows, one.path, base=base, arm=REFERENCE)
                found = paired(ours, theirs) if ours.keys() & theirs.keys() else None
                cells.append(f"{value_cell(ours, one)} / {difference_cell(found, one)}")
            lines.append([base_label(base), f"{value:g}", *cells])
    axis = AXIS_LABELS.get(study["axis"], study["axis"])
    caption = f"Sweep of {axis} (`{study['axis']}`), {CLASSIFIERS[kind]}: value / less plain."
    return "\n\n".join([caption, markdown(["base", "value", *map(_head, columns)], lines), NOTE])


def value_cell(values: Mapping[int, float], quantity: Quantity | None = None) -> str:
    """Mean ± sd (seeds), or a dash where nothing was run.

    >>> value_cell({0: 61.0, 1: 63.0}), value_cell({4: 61.0}), value_cell({})
    ('62.0 ± 1.4 (2)', '61.0 (1)', '-')
    """
    if not values:
        return "-"
    found = summary(list(values.values()))
    digits = _digits(quantity)
    spread = "" if found.sd is None else f" ± {found.sd:.{digits}f}"
    return f"{found.mean:.{digits}f}{spread} ({found.seeds})"


def difference_cell(found: Paired | None, quantity: Quantity | None = None) -> str:
    """Mean [interval], seeds above : below 0, p; or a dash where there is no common seed."""
    if found is None:
        return "-"
    digits = _digits(quantity)
    text = f"{found.mean:+.{digits}f}"
    if found.interval is not None:
        low, high = found.interval
        text += f" [{low:+.{digits}f}, {high:+.{digits}f}]"
    return f"{text}, {found.more} : {found.less}, p {found.p:.3f}"


def markdown(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    r"""A Markdown table.

    >>> print(markdown(["a", "b"], [["1", "x | y"]]))
    | a | b |
    |---|---|
    | 1 | x \| y |
    """
    rule = "|" + "---|" * len(heads)
    body = [
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |"
        for line in (heads, *lines)
    ]
    return "\n".join([body[0], rule, *body[1:]])


def _head(quantity: Quantity) -> str:
    """A column's head: label, and unit if it has one."""
    return ", ".join(part for part in (quantity.label, quantity.unit) if part)


def _digits(quantity: Quantity | None) -> int:
    """Digits after the point: one for percent and points, three for what is in [-1, 1]."""
    return 3 if quantity is not None and not quantity.unit else 1
