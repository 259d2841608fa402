# SPDX-License-Identifier: Apache-2.0
"""The figure that compares arms: what each reaches, and its paired difference to plain."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from iclmsr.errors import IclmsrError
from iclmsr.study.look import BLUE, GREY, INK, ORANGE, PALE, RED, seed_key, seeds, settle, spread
from iclmsr.study.rows import (
    REFERENCE,
    Kind,
    Quantity,
    Row,
    against,
    arm_label,
    arms_of,
    base_label,
    by_seed,
    held,
    judged_by,
    others_of,
)
from iclmsr.study.statistics import summary

SHOWN = ("original", "only_fg", "mixed_same", "mixed_rand", "bg_gap")
FURTHER = ("foreground_drop", "background_only", "swapped", "worst_group", "worst_group_dfr")
EMBEDDINGS = (
    "background_decodability",
    "swap_cosine",
    "swap_sensitivity",
    "variance_background",
    "neighbour_background",
)
UNITS = {"%": "accuracy (%)", "points": "gap (% points)", "% of composites": "share (%)"}


def forest(
    study: Mapping[str, Any],
    base: str,
    *,
    kind: Kind | None = "linear",
    wanted: Sequence[str] = SHOWN,
    reference: str = REFERENCE,
) -> Figure:
    """Arms of one base method: above, every seed and the mean; below, differences to a reference.

    Args:
        study: What ``comparison.json`` holds.
        base: The base method, as its rows name it.
        kind: Which classifier; None for what is measured of embeddings.
        wanted: Keys of :func:`iclmsr.study.rows.quantities`, one column each; those that no row
            holds are left out.
        reference: The arm that others are compared with; without it there is nothing below.

    Raises:
        IclmsrError: The study has no row of that base, or holds none of the quantities.

    Source: none. Departure: none.
    """
    rows: list[Row] = [row for row in study["rows"] if row["base"] == base]
    arms = arms_of(rows, base)
    if not arms:
        raise IclmsrError(f"the study has no row of base method {base!r}: nothing to draw")
    columns = held(rows, wanted, kind or "linear")
    others = others_of(arms, reference) if reference in arms else []
    heights = [0.34 * len(arms) + 0.3, *([0.46 * len(others) + 0.3] if others else [])]
    figure = Figure(figsize=(2.3 + 2.25 * len(columns), sum(heights) + 1.9), layout="constrained")
    panels = figure.subplots(
        len(heights), len(columns), squeeze=False, sharey="row", height_ratios=heights
    )
    to = arm_label(reference)
    for quantity, (upper, *lower) in zip(columns, panels.T, strict=True):
        _reached(upper, rows, quantity, arms, reference)
        better = f"\n({quantity.better} is better)" if quantity.better else ""
        upper.set_title(f"{quantity.label}{better}", size=10, color=INK)
        upper.set_xlabel(UNITS.get(quantity.unit, quantity.label), size=9)
        for axes in lower:
            _differences(axes, rows, quantity, others, reference)
            points = "\n(% points)" if quantity.unit else ""
            axes.set_xlabel(f"difference to {to}{points}", size=9)
    panels[0][0].set_yticks(range(len(arms)), [arm_label(arm) for arm in arms])
    panels[0][0].set_ylim(len(arms) - 0.4, -0.6)
    if others:
        panels[1][0].set_yticks(range(len(others)), [arm_label(arm) for arm in others])
        panels[1][0].set_ylim(len(others) - 0.4, -0.7)
    figure.suptitle(
        f"{base_label(base)}: how much its arms lean on background ({judged_by(study, kind)})",
        size=12,
        color=INK,
    )
    keys = [
        seed_key(),
        Line2D([], [], color=INK, linestyle="", marker="|", markersize=11, label="mean"),
    ]
    if others:
        keys += [
            Line2D([], [], color=PALE, linewidth=8, label=f"{to}: mean ± sd"),
            _key("paired difference: mean, 95 % interval; better", BLUE, BLUE),
            _key("the same; worse", RED, "white"),
            _key("the same; interval holds 0", GREY, GREY),
        ]
        if not all(quantity.better for quantity in columns):
            keys.append(_key("the same; neither way is better", ORANGE, ORANGE))
    figure.legend(handles=keys, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


def _reached(
    axes: Axes, rows: Sequence[Row], quantity: Quantity, arms: Sequence[str], reference: str
) -> None:
    """Every seed of every arm, and the mean."""
    for place, arm in enumerate(arms):
        values = list(by_seed(rows, quantity.path, arm=arm).values())
        if not values:
            continue
        found = summary(values)
        if arm == reference:
            sd = found.sd or 0
            axes.axvspan(found.mean - sd, found.mean + sd, color=PALE, alpha=0.7, linewidth=0)
            axes.axvline(found.mean, color=GREY, linewidth=0.8)
        axes.plot(found.mean, place, marker="|", markersize=13, markeredgewidth=1.8, color=INK)
        seeds(axes, values, spread(place, len(values), 0.36))
    settle(axes, grid="x")
    axes.locator_params(axis="x", nbins=4)
    axes.margins(x=0.12)


def _differences(
    axes: Axes, rows: Sequence[Row], quantity: Quantity, arms: Sequence[str], reference: str
) -> None:
    """Paired differences to the reference: every seed, mean and interval."""
    axes.axvline(0, color=GREY, linewidth=1)
    for place, arm in enumerate(arms):
        found = against(rows, quantity.path, arm, reference)
        if found is None:
            continue
        color, filled = _verdict(found.interval, quantity.better)
        if found.interval is not None:
            axes.plot(found.interval, [place] * 2, color=color, linewidth=1.8)
            axes.plot(found.interval, [place] * 2, "|", color=color, markersize=7)
        axes.plot(
            found.mean,
            place,
            marker="D",
            markersize=5.5,
            color=color,
            markerfacecolor=color if filled else "white",
            zorder=3,
        )
        values = list(found.differences.values())
        seeds(axes, values, spread(place + 0.24, len(values), 0.1), size=2.8)
        text = f"{found.mean:+z.1f}" if quantity.unit else f"{found.mean:+z.3f}"
        axes.annotate(
            text,
            (found.mean, place),
            xytext=(0, 5),
            textcoords="offset points",
            ha="center",
            size=7.5,
        )
    settle(axes, grid="x")
    axes.locator_params(axis="x", nbins=4)
    axes.margins(x=0.14)


def _key(label: str, color: str, fill: str) -> Line2D:
    """The legend's entry for a difference."""
    return Line2D([], [], color=color, marker="D", markersize=5, markerfacecolor=fill, label=label)


def _verdict(interval: tuple[float, float] | None, better: str) -> tuple[str, bool]:
    """The colour of a difference, and whether its marker is filled."""
    if interval is None or interval[0] <= 0 <= interval[1]:
        return GREY, True
    if not better:
        return ORANGE, True
    improved = (interval[0] > 0) == (better == "more")
    return (BLUE, True) if improved else (RED, False)
