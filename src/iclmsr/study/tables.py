# SPDX-License-Identifier: Apache-2.0
"""A study's results as Markdown tables: mean ± sd over seeds, and differences to plain."""

from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Any

from iclmsr.study.figures import SETTINGS
from iclmsr.study.measures import interactions
from iclmsr.study.rows import (
    REFERENCE,
    Kind,
    Quantity,
    Row,
    against,
    arm_label,
    arms_of,
    base_label,
    bases_of,
    by_seed,
    further,
    held,
    judged_by,
    others_of,
    references_of,
)
from iclmsr.study.statistics import MOST_SIGNS, Paired, paired, summary
from iclmsr.study.sweep_figure import AXIS_LABELS, swept_values, value_label

CHANCE = ("measures", "background_chance")
SHOWN = ("original", "only_fg", "mixed_same", "mixed_rand", "bg_gap")
NOTE = (
    "Mean ± sd over the seeds in brackets. Differences are paired by seed: mean [95 % bootstrap "
    "interval over seeds], seeds above : below 0, p of the sign-flip test, exact up to "
    f"{MOST_SIGNS} seeds and of random signs above (5 seeds cannot have a p below 0.0625, and an "
    "interval of 5 seeds holds the true mean in about 84 % of cases)."
)
"""Explains the cells of all tables."""


def four_settings_table(study: Mapping[str, Any], *, kind: Kind = "linear") -> str:
    """Accuracy in the four settings, a row for each base method and arm, and what MSR changes.

    Args:
        study: What ``study.json`` of four settings holds.
        kind: Which classifier.

    Returns:
        A Markdown table.

    Source: none. Departure: none.
    """
    rows: Sequence[Row] = study["rows"]
    heads = [
        f"{number}: {train} → {test}, %" for number, (train, test) in enumerate(SETTINGS, start=1)
    ]
    contrasts: dict[tuple[str, str], dict[int, float]] = {}
    for one in interactions(rows):
        contrasts.setdefault((one["base"], one["arm"]), {})[one["seed"]] = one[kind]
    lines = []
    for base in bases_of(rows):
        arms = arms_of(rows, base)
        for arm in arms:
            cells = [
                value_cell(by_seed(rows, ("results", test, kind), base=base, arm=arm, train=train))
                for train, test in SETTINGS
            ]
            cells.append(value_cell(contrasts.get((base, arm), {})))
            lines.append([base_label(base), arm_label(arm), *cells])
        for arm in others_of(arms, REFERENCE) if REFERENCE in arms else ():
            cells = [
                difference_cell(
                    against(rows, ("results", test, kind), arm, REFERENCE, base=base, train=train)
                )
                for train, test in SETTINGS
            ]
            ours, theirs = (contrasts.get((base, name), {}) for name in (arm, REFERENCE))
            both = ours.keys() & theirs.keys()
            cells.append(difference_cell(paired(ours, theirs) if both else None))
            lines.append([base_label(base), f"{arm_label(arm)} less plain, points", *cells])
    filler = f"; background of foregrounds: {study['filler']}" if "filler" in study else ""
    caption = f"Top-1 accuracy, {judged_by(study, kind)}, trained on → tested on{filler}."
    heads.append("interaction (1 - 2) - (4 - 3), points")
    return f"{caption}\n\n{markdown(['base', 'arm', *heads], lines)}"


def comparison_table(
    study: Mapping[str, Any], *, kind: Kind | None = "linear", wanted: Sequence[str] = SHOWN
) -> str:
    """Tables for each base method: what the arms reach, and their differences to plain.

    Where ``plain-equal-time`` is among the arms, a third one has the differences to it.

    Args:
        study: What ``comparison.json`` holds.
        kind: Which classifier; None for what is measured of embeddings.
        wanted: Keys of :func:`iclmsr.study.rows.quantities`; those that no row holds are left
            out.

    Raises:
        IclmsrError: No row holds any of them.

    Source: none. Departure: none.
    """
    rows: Sequence[Row] = study["rows"]
    columns = held(rows, wanted, kind or "linear")
    heads = ["arm", *map(_head, columns)]
    parts = []
    for base in bases_of(rows):
        arms = arms_of(rows, base)
        reached = [
            [arm_label(arm)]
            + [value_cell(by_seed(rows, one.path, base=base, arm=arm), one) for one in columns]
            for arm in arms
        ]
        parts += [f"**{base_label(base)}**, {judged_by(study, kind)}.", markdown(heads, reached)]
        for reference in references_of(arms):
            differences = [
                [arm_label(arm)]
                + [
                    difference_cell(against(rows, one.path, arm, reference, base=base), one)
                    for one in columns
                ]
                for arm in others_of(arms, reference)
            ]
            if differences:
                said = f"{base_label(base)}: less {arm_label(reference)}."
                parts += [said, markdown(heads, differences)]
    return "\n\n".join(parts)


def further_tables(study: Mapping[str, Any], *, wanted: Sequence[str] = SHOWN) -> str:
    """What rows hold beside the wanted quantities, as :func:`comparison_table`.

    Args:
        study: What ``comparison.json`` holds.
        wanted: What is shown elsewhere.

    Returns:
        Markdown tables for each classifier, and for what is measured of embeddings; empty if
        there is nothing else.

    Source: none. Departure: none.
    """
    rows: Sequence[Row] = study["rows"]
    kinds: tuple[Kind | None, ...] = ("linear", "knn", None)
    keys = {kind: further(rows, kind, wanted) for kind in kinds}
    tables = [comparison_table(study, kind=k, wanted=known) for k, known in keys.items() if known]
    chance = [value for row in rows for value in by_seed([row], CHANCE).values()]
    if chance:
        tables.append(f"By chance, {max(chance):.1f} % of the backgrounds would be told right.")
    return "\n\n".join(tables)


def cost_table(study: Mapping[str, Any]) -> str:
    """Steps and seconds of training for each arm: what is equal, steps or time.

    Args:
        study: What ``comparison.json`` holds.

    Returns:
        A Markdown table, a row for each base method and arm.

    Source: none. Departure: none.
    """
    rows: Sequence[Row] = study["rows"]
    lines = []
    for base in bases_of(rows):
        milliseconds = {}
        for arm in arms_of(rows, base):
            steps, seconds = (
                by_seed(rows, (name,), base=base, arm=arm) for name in ("steps", "seconds")
            )
            each = {seed: 1000 * seconds[seed] / steps[seed] for seed in steps if seed in seconds}
            milliseconds[arm] = each
            ratios = {
                seed: value / milliseconds[REFERENCE][seed]
                for seed, value in each.items()
                if seed in milliseconds.get(REFERENCE, {})
            }
            cells = [value_cell(values) for values in (seconds, each)]
            mean = f"{fmean(steps.values()):.0f}" if steps else "-"
            ratio = f"{median(ratios.values()):.2f}" if ratios else "-"
            lines.append([base_label(base), arm_label(arm), mean, *cells, ratio])
    heads = ["base", "arm", "steps", "training, s", "a step, ms", "a step / plain's, median"]
    caption = (
        "What training took; seconds depend on what else the machine did. The last column, that "
        "of MSR, is what `--time-ratio` asks for."
    )
    return f"{caption}\n\n{markdown(heads, lines)}"


def sweep_table(
    study: Mapping[str, Any], *, kind: Kind = "linear", wanted: Sequence[str] = SHOWN
) -> str:
    """A row for each base method and value, and plain's; each with its difference to plain.

    Where plain has been trained with each value, too, it is compared with at the same value.

    Args:
        study: What ``sweep-AXIS.json`` holds.
        kind: Which classifier.
        wanted: As for :func:`comparison_table`.

    Raises:
        IclmsrError: No row holds any of them.

    Source: none. Departure: none.
    """
    rows: Sequence[Row] = study["rows"]
    columns = held(rows, wanted, kind)
    values = swept_values(rows)
    lines = []
    for base in bases_of(rows):
        mine = [row for row in rows if row["base"] == base]
        level = [row for row in mine if "value" not in row]
        if level:
            cells = [value_cell(by_seed(level, one.path), one) for one in columns]
            lines.append([base_label(base), "plain", *cells])
        for value in values:
            here = [row for row in mine if "value" in row and row["value"] == value]
            for arm in arms_of(here, base):
                cells = [_swept_cell(here, level, arm, one) for one in columns]
                whose = "" if level else f", {arm_label(arm)}"
                lines.append([base_label(base), f"{value_label(value)}{whose}", *cells])
    axis = AXIS_LABELS.get(study["axis"], study["axis"])
    caption = f"Sweep of {axis} (`{study['axis']}`), {judged_by(study, kind)}: value / less plain."
    return f"{caption}\n\n{markdown(['base', 'value', *map(_head, columns)], lines)}"


def _swept_cell(here: Sequence[Row], level: Sequence[Row], arm: str, one: Quantity) -> str:
    """What an arm reaches with one value, and its difference to plain."""
    ours = by_seed(here, one.path, arm=arm)
    reached = value_cell(ours, one)
    if arm == REFERENCE:
        return reached
    theirs = by_seed(here, one.path, arm=REFERENCE) or by_seed(level, one.path)
    found = paired(ours, theirs) if ours.keys() & theirs.keys() else None
    return f"{reached} / {difference_cell(found, one)}"


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
    text = f"{found.mean:+z.{digits}f}"
    if found.interval is not None:
        low, high = found.interval  # a bound of -0.0 lies below 0
        text += f" [{low:+.{digits}f}, {high:+.{digits}f}]"
    p = f"p {found.p:.3f}" if found.p >= 0.001 else "p < 0.001"
    return f"{text}, {found.more} : {found.less}, {p}"


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
