# SPDX-License-Identifier: Apache-2.0
"""The strata weights a_t over training."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from iclmsr.report.axes import Scale, text_of, x_axis
from iclmsr.report.charts import WIDTH, Series, line_chart
from iclmsr.report.groups import Group
from iclmsr.report.markup import Html, code, element, join, missing, section
from iclmsr.report.pictures import coloured

COLUMNS = 240
"""Epochs that a heat map is thinned to."""


def weights_section(groups: Sequence[Group]) -> Html | None:
    """Heat maps of the weights of the first run of each group, or None without a regularizer."""
    with_msr = [g for g in groups if g.runs[0].config.get("msr", {}).get("enabled")]
    if not with_msr:
        return None
    parts: list[Html] = []
    for group in with_msr:
        records = group.runs[0].weights
        if not records:
            why = "no strata weights yet: a run writes them to weights.jsonl at the end of an epoch"
            parts.append(missing(f"{group.label}: {why}. Go on with ",
                code(f"iclmsr pretrain --resume {group.runs[0].path}")))  # fmt: skip
            continue
        bound = group.runs[0].config["msr"].get("bound", "sigmoid")
        parts.append(element("h3", f"{group.label}, seed {group.runs[0].config['seed']}"))
        parts.append(element("div", *_maps(records, bound), class_="charts"))
    about = (
        "One row is one embedding dimension of one stratum, one column one epoch. A stratum whose "
        "rows are all alike keeps every dimension; rows that change show what stage 2 is doing."
    )
    return section("weights", "Strata weights over training", element("p", about), *parts)


def _maps(records: Sequence[dict[str, Any]], bound: str) -> list[Html]:
    """Value, change since the first epoch, and how far the strata are apart."""
    last = len(records) - 1
    count = min(len(records), COLUMNS)
    chosen = [records[round(place * last / max(count - 1, 1))] for place in range(count)]
    values = np.array([record["weights"] for record in chosen])  # (epochs, n, kept)
    epochs = [record["epoch"] for record in chosen]
    rows = values.reshape(len(values), -1).T
    low, high = (0.0, 1.0) if bound == "sigmoid" else (float(rows.min()), float(rows.max()))
    change = rows - rows[:, :1]
    most = float(np.abs(change).max()) or 1e-3
    strata = values.shape[1]
    kept, dims = values.shape[2], records[0]["dims"]
    note = f"{kept} of {dims} dimensions" if kept < dims else f"all {dims} dimensions"
    apart = [(record["epoch"], record["distance"]) for record in records]
    return [
        _map(f"Weights, {note}", rows, epochs, strata, (low, high or 1.0), "cividis", "weight"),
        _map(
            f"Change since epoch {epochs[0]}", change, epochs, strata, (-most, most), "PuOr",
            "change of a weight",
        ),
        line_chart(
            "How far the strata are apart",
            [Series("distance", [apart], 0)],
            x_label="epoch",
            y_label="root mean square difference",
        ),
    ]  # fmt: skip


def _map(
    title: str,
    rows: np.ndarray,
    epochs: Sequence[int],
    strata: int,
    ends: tuple[float, float],
    colours: str,
    unit: str,
) -> Html:
    """One heat map with its axes and the bar of its colours."""
    left, right, top, bottom = 44, WIDTH - 10, 8, 248
    x = Scale(epochs[0] - 0.5, epochs[-1] + 0.5, left, right)
    parts = [
        element(
            "image", href=coloured(rows, *ends, colours), x=left, y=top, width=right - left,
            height=bottom - top, preserveAspectRatio="none", class_="pixels",
        ),
    ]  # fmt: skip
    for place in range(strata):
        begin = top + place * (bottom - top) / strata
        middle = round(begin + (bottom - top) / strata / 2 + 4, 1)
        if strata <= 16:
            parts.append(element("text", f"a{place + 1}", x=left - 6, y=middle, class_="tick end"))
        if place:
            y = round(begin, 1)
            parts.append(element("line", x1=left, x2=right, y1=y, y2=y, class_="seam"))
    bar = coloured(np.linspace(0, 1, 128)[None], 0, 1, colours)
    parts += [
        element("text", "stratum", transform=f"translate(12 {(top + bottom) / 2}) rotate(-90)",
                class_="axis middle"),
        element("image", href=bar, x=left, y=296, width=right - left, height=10,
                preserveAspectRatio="none"),
        element("text", text_of(round(ends[0], 4)), x=left, y=320, class_="tick"),
        element("text", unit, x=(left + right) / 2, y=320, class_="axis middle"),
        element("text", text_of(round(ends[1], 4)), x=right, y=320, class_="tick end"),
    ]  # fmt: skip
    whole = _whole_epochs(x, bottom)
    name = element("title", f"{title}: {strata} strata from top to bottom, epochs left to right")
    svg = element("svg", name, join(parts), whole, viewBox=f"0 0 {WIDTH} 328", role="img")
    return element("figure", element("figcaption", title), svg, class_="chart")


def _whole_epochs(x: Scale, bottom: float) -> Html:
    """The axis below, with ticks at whole epochs only."""
    if x.high - x.low >= 5:
        return x_axis(x, bottom, "epoch")
    ticks = [
        element("text", str(epoch), x=x.at(epoch), y=bottom + 16, class_="tick middle")
        for epoch in range(round(x.low + 0.5), round(x.high + 0.5))
    ]
    label = element("text", "epoch", x=(x.begin + x.end) / 2, y=bottom + 32, class_="axis middle")
    return join([*ticks, label])
