# SPDX-License-Identifier: Apache-2.0
"""The figure of a sweep: what an encoder reaches as one setting of MSR changes."""

import itertools
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
    CLASSIFIERS,
    Kind,
    Quantity,
    Row,
    base_label,
    bases_of,
    by_seed,
    held,
)
from iclmsr.study.statistics import summary

SHOWN = ("original", "only_fg", "mixed_rand", "bg_gap")
REFERENCE = "plain"
AXIS_LABELS = {
    "msr.loss-weight": "λ, weight of the interventional loss",
    "msr.strata": "n, number of strata",
    "msr.temperature": "τ, temperature of the interventional loss",
    "msr.fraction": "share of the batches that stage 2 sees",
    "msr.every-steps": "steps of stage 1 to one of stage 2",
    "msr.lr": "learning rate of the regularizer",
    "msr.inner-lr": "alpha, rate of the virtual step",
    "optimizer.lr": "learning rate",
}


def sweep_figure(
    study: Mapping[str, Any], *, kind: Kind = "linear", wanted: Sequence[str] = SHOWN
) -> Figure:
    """One row a base method, one column a quantity: every seed, means, plain as a band.

    Args:
        study: What ``sweep.json`` holds. Rows of arm ``plain`` are the reference, whatever value
            they have.
        kind: Which classifier.
        wanted: Keys of :func:`iclmsr.study.rows.quantities`; those that no row holds are left
            out.

    Raises:
        IclmsrError: No row but plain's, a value that is not a number, or none of the quantities.

    Source: none. Departure: none.
    """
    rows: list[Row] = list(study["rows"])
    swept = [row for row in rows if row["arm"] != REFERENCE]
    if not swept:
        raise IclmsrError("the sweep has no row but plain's: nothing to draw")
    columns, bases = held(swept, wanted, kind), bases_of(swept)
    values = swept_values(swept)
    figure = Figure(
        figsize=(1.2 + 3.1 * len(columns), 1.5 + 2.6 * len(bases)), layout="constrained"
    )
    panels = figure.subplots(len(bases), len(columns), squeeze=False, sharex=True)
    for base, line in zip(bases, panels, strict=True):
        for quantity, axes in zip(columns, line, strict=True):
            _draw(axes, [row for row in rows if row["base"] == base], quantity, values)
        line[0].set_ylabel(f"{base_label(base)} + MSR\n{line[0].get_ylabel()}", size=10)
    for quantity, axes in zip(columns, panels[0], strict=True):
        better = f" ({quantity.better} is better)" if quantity.better else ""
        axes.set_title(f"{quantity.label}{better}", size=10, color=INK)
    name = AXIS_LABELS.get(study["axis"], study["axis"])
    for axes in panels[-1]:
        axes.set_xlabel(name, size=9)
    title = f"Sweep of {study['axis']}, judged by the {CLASSIFIERS[kind]}"
    figure.suptitle(title, size=12, color=INK)
    keys = [
        seed_key(),
        Line2D([], [], color=BLUE, marker="D", markersize=5, label="mean over seeds"),
        Line2D([], [], color=GREY, linestyle="--", label="plain, without MSR: mean"),
        Patch(facecolor=PALE, label="plain: mean ± sd"),
    ]
    figure.legend(handles=keys, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return figure


def swept_values(rows: Sequence[Row]) -> list[float]:
    """The values that rows of a sweep have, ascending.

    Raises:
        IclmsrError: One is not a number.

    >>> swept_values([{"value": 3}, {"value": 0.5}, {"value": 3}])
    [0.5, 3]
    """
    for row in rows:
        if isinstance(row.get("value"), bool) or not isinstance(row.get("value"), int | float):
            raise IclmsrError(f"a sweep needs a number as value, got {row.get('value')!r}")
    return sorted({row["value"] for row in rows})


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


def _draw(axes: Axes, rows: Sequence[Row], quantity: Quantity, values: Sequence[float]) -> None:
    """One quantity of one base method over the values."""
    plain = list(by_seed(rows, quantity.path, arm=REFERENCE).values())
    if plain:
        found = summary(plain)
        sd = found.sd or 0
        axes.axhspan(found.mean - sd, found.mean + sd, color=PALE, alpha=0.8, linewidth=0)
        axes.axhline(found.mean, color=GREY, linestyle="--", linewidth=1.2)
    swept = [row for row in rows if row["arm"] != REFERENCE]
    known = {value: list(by_seed(swept, quantity.path, value=value).values()) for value in values}
    means = {value: summary(found).mean for value, found in known.items() if found}
    axes.plot([*means], [*means.values()], color=BLUE, marker="D", markersize=5, linewidth=1.6)
    for value, found_here in known.items():
        seeds(axes, [value] * len(found_here), found_here)
    if is_geometric(values):
        if values[0] == 0:  # one step left of the smallest, which a logarithm has no place for
            axes.set_xscale("symlog", linthresh=values[1], linscale=0.5)
        else:
            axes.set_xscale("log")
    axes.set_xticks(values, [f"{value:g}" for value in values])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylabel(
        {"%": "accuracy (%)", "points": "gap (% points)"}.get(quantity.unit, quantity.label), size=9
    )
    settle(axes, grid="y")
    axes.margins(x=0.08, y=0.12)
