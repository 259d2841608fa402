# SPDX-License-Identifier: Apache-2.0
"""The figure of a sweep: what an encoder reaches as one setting of MSR changes."""

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import NullLocator

from iclmsr.errors import IclmsrError
from iclmsr.study.look import BLUE, GREY, INK, PALE, seed_key, seeds, settle
from iclmsr.study.rows import (
    REFERENCE,
    Kind,
    Quantity,
    Row,
    arm_label,
    base_label,
    bases_of,
    by_seed,
    held,
    judged_by,
)
from iclmsr.study.statistics import summary

SHOWN = ("original", "only_fg", "mixed_rand", "bg_gap")
AXIS_LABELS = {
    "msr.loss-weight": "λ, weight of the interventional loss",
    "msr.strata": "n, number of strata",
    "msr.temperature": "τ, temperature of the interventional loss",
    "msr.fraction": "share of the batches that stage 2 sees",
    "msr.every-steps": "steps of stage 1 to one of stage 2",
    "msr.lr": "learning rate of the regularizer",
    "msr.outer-batch": "batch that stage 2 judges on",
    "msr.inner-lr": "alpha, rate of the virtual step",
    "optimizer.lr": "learning rate",
}


def sweep_figure(
    study: Mapping[str, Any], *, kind: Kind = "linear", wanted: Sequence[str] = SHOWN
) -> Figure:
    """One row a base method, one column a quantity: every seed, means, plain beside them.

    Plain is a level band, or a line of its own where it has been trained with each value, too.

    Args:
        study: What ``sweep-AXIS.json`` holds. Rows without ``value`` are plain's.
        kind: Which classifier.
        wanted: Keys of :func:`iclmsr.study.rows.quantities`; those that no row holds are left
            out.

    Raises:
        IclmsrError: No row with a value, or none of the quantities.

    Source: none. Departure: none.
    """
    rows: list[Row] = list(study["rows"])
    swept = [row for row in rows if "value" in row]
    if not swept:
        raise IclmsrError("the sweep has no row with a value: nothing to draw")
    columns, bases = held(swept, wanted, kind), bases_of(swept)
    values = swept_values(swept)
    arm = arm_label(next((r["arm"] for r in swept if r["arm"] != REFERENCE), REFERENCE))
    figure = Figure(
        figsize=(1.2 + 3.1 * len(columns), 1.5 + 2.6 * len(bases)), layout="constrained"
    )
    panels = figure.subplots(len(bases), len(columns), squeeze=False, sharex=True)
    for base, line in zip(bases, panels, strict=True):
        for quantity, axes in zip(columns, line, strict=True):
            _draw(axes, [row for row in rows if row["base"] == base], quantity, values)
        line[0].set_ylabel(f"{base_label(base)}, {arm}\n{line[0].get_ylabel()}", size=10)
    for quantity, axes in zip(columns, panels[0], strict=True):
        better = f" ({quantity.better} is better)" if quantity.better else ""
        axes.set_title(f"{quantity.label}{better}", size=10, color=INK)
    name = AXIS_LABELS.get(study["axis"], study["axis"])
    for axes in panels[-1]:
        axes.set_xlabel(name, size=9)
    title = f"Sweep of {study['axis']} ({judged_by(study, kind)})"
    figure.suptitle(title, size=12, color=INK)
    keys: list[Line2D | Patch] = []
    if arm != REFERENCE:
        mean = Line2D([], [], color=BLUE, marker="D", markersize=5, label=f"{arm}: mean")
        keys += [seed_key(), mean]
    keys += [
        Line2D([], [], color=GREY, linestyle="--", label="plain, without MSR: mean"),
        Patch(facecolor=PALE, label="plain: mean ± sd"),
    ]
    figure.legend(handles=keys, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return figure


def swept_values(rows: Sequence[Row]) -> list[Any]:
    """The values that rows of a sweep have: numbers ascending, others as they come.

    >>> swept_values([{"value": 3}, {"value": 0.5}, {"arm": "plain"}, {"value": 3}])
    [0.5, 3]
    >>> swept_values([{"value": "same"}, {"value": "fresh"}, {"value": None}])
    ['same', 'fresh', None]
    """
    found: list[Any] = []
    for row in rows:
        if "value" in row and row["value"] not in found:
            found.append(row["value"])
    return sorted(found) if are_numbers(found) else found


def are_numbers(values: Sequence[Any]) -> bool:
    """Whether all have a place on an axis; others are categories, side by side."""
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)


def value_label(value: Any) -> str:
    """How a value is written.

    >>> value_label(1e-3), value_label("fresh"), value_label(None), value_label([0.2, 1.0])
    ('0.001', 'fresh', 'null', '[0.2, 1.0]')
    """
    if isinstance(value, str):
        return value
    return f"{value:g}" if are_numbers([value]) else json.dumps(value)


def is_geometric(values: Sequence[float]) -> bool:
    """Whether values, ascending and 0 aside, are spaced by ratios rather than differences.

    >>> is_geometric([0, 0.1, 0.3, 1, 3]), is_geometric([1, 2, 4, 8]), is_geometric([0.1, 0.2, 0.3])
    (True, True, False)
    """
    known = [value for value in values if value != 0]
    if len(known) < 3 or known[0] < 0:
        return False
    steps = list(itertools.pairwise(known))
    ratios = [high / low for low, high in steps]
    gaps = [high - low for low, high in steps]
    return max(ratios) / min(ratios) < max(gaps) / min(gaps)


def _draw(axes: Axes, rows: Sequence[Row], quantity: Quantity, values: Sequence[Any]) -> None:
    """One quantity of one base method over the values."""
    numbers = are_numbers(values)
    places = values if numbers else range(len(values))
    level = [row for row in rows if "value" not in row]
    if reached := list(by_seed(level, quantity.path).values()):
        found = summary(reached)
        sd = found.sd or 0
        axes.axhspan(found.mean - sd, found.mean + sd, color=PALE, alpha=0.8, linewidth=0)
        axes.axhline(found.mean, color=GREY, linestyle="--", linewidth=1.2)
    for plain in (True, False):
        swept = [r for r in rows if "value" in r and (r["arm"] == REFERENCE) == plain]
        known = [
            (place, list(by_seed(swept, quantity.path, value=value).values()))
            for place, value in zip(places, values, strict=True)
        ]
        if known := [(place, seen) for place, seen in known if seen]:
            _line(axes, known, plain, numbers)
    if numbers and is_geometric(values):
        if values[0] == 0:  # one step left of the smallest, which a logarithm has no place for
            axes.set_xscale("symlog", linthresh=values[1], linscale=0.5)
        else:
            axes.set_xscale("log")
    axes.set_xticks(list(places), [value_label(value) for value in values])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylabel(
        {"%": "accuracy (%)", "points": "gap (% points)"}.get(quantity.unit, quantity.label), size=9
    )
    settle(axes, grid="y")
    axes.margins(x=0.08 if numbers else 0.3, y=0.12)


def _line(
    axes: Axes, known: Sequence[tuple[float, list[float]]], plain: bool, joined: bool
) -> None:
    """Means at each place, joined where places are numbers; plain's spread, or every seed."""
    places = [place for place, _ in known]
    found = [summary(values) for _, values in known]
    means = [one.mean for one in found]
    if plain:
        sd = [one.sd or 0 for one in found]
        low, high = ([m + sign * s for m, s in zip(means, sd, strict=True)] for sign in (-1, 1))
        if joined:
            axes.fill_between(places, low, high, color=PALE, alpha=0.8, linewidth=0)
        else:
            axes.vlines(places, low, high, color=PALE, linewidth=26)
        line, mark = ("--", "") if joined else ("", "_")
        axes.plot(
            places, means, color=GREY, linestyle=line, marker=mark, markersize=24, linewidth=1.2
        )
        return
    line = "-" if joined else ""
    axes.plot(places, means, color=BLUE, linestyle=line, marker="D", markersize=5, linewidth=1.6)
    for place, values in known:
        seeds(axes, [place] * len(values), values)
