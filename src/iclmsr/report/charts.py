# SPDX-License-Identifier: Apache-2.0
"""Charts as SVG: lines over a run, dots with their spread."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from iclmsr.report.axes import Scale, around, frame, text_of, x_axis
from iclmsr.report.markup import Html, element, join

COLOURS = 7
"""Colours of Okabe and Ito that are told apart on light and dark paper; then lines are dashed."""
WIDTH, HEIGHT = 360, 230
POINTS = 240
"""Points that a line is thinned to."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """One line of a chart, or what several make together.

    Attributes:
        label: Its name in the legend.
        lines: (x, y) of each member; two and more are drawn thin under their mean.
        place: Which colour.
    """

    label: str
    lines: Sequence[Sequence[Point]]
    place: int


def average(lines: Sequence[Sequence[Point]]) -> list[Point]:
    """The mean over lines at every x that all of them have; one line is its own.

    >>> average([[(1, 2.0), (2, 3.0)], [(1, 4.0)]])
    [(1, 3.0)]
    """
    known = [dict(line) for line in lines]
    return [(x, mean(each[x] for each in known)) for x in known[0] if all(x in k for k in known)]


def line_chart(
    title: str, series: Sequence[Series], *, x_label: str, y_label: str, logarithmic: bool = False
) -> Html:
    """A figure of lines; what is under the pointer is read out below it.

    Args:
        title: Its caption.
        series: At least one, with at least one point.
        x_label: Of the horizontal axis, with its unit.
        y_label: Of the vertical axis, with its unit.
        logarithmic: Whether the horizontal axis is.
    """
    every = [point for one in series for line in one.lines for point in line]
    x = Scale(*around([point[0] for point in every], whole=True), 56, WIDTH - 10, logarithmic)
    y = Scale(*around([point[1] for point in every]), HEIGHT - 42, 10)
    drawn, read = [], []
    for one in series:
        kind = f"c{one.place % COLOURS} d{one.place // COLOURS % 4}"
        if len(one.lines) > 1:
            drawn += [_line(x, y, line, f"{kind} thin") for line in one.lines if line]
        middle = average(one.lines)
        if middle:
            drawn.append(_line(x, y, middle, kind))
            read.append({"name": one.label, "points": [_short(p) for p in _thinned(middle)]})
    svg = element(
        "svg",
        element("title", f"{title}: {y_label} over {x_label}"),
        frame(x, y, x_label, y_label),
        *drawn,
        element("line", y1=y.end, y2=y.begin, class_="rule"),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        tabindex="0",
        data_x=json.dumps([x.low, x.high, x.begin, x.end, logarithmic]),
        data_lines=json.dumps(read, separators=(",", ":")),
        data_label=x_label,
    )
    return element(
        "figure",
        element("figcaption", title),
        svg,
        element("output", aria_live="polite"),
        class_="chart",
    )


def dot_chart(
    title: str, rows: Mapping[str, Mapping[int, Sequence[float]]], names: Sequence[str], unit: str
) -> Html:
    """A figure of values: a row each, a dot for every seed, the mean and one standard deviation.

    Args:
        title: Its caption.
        rows: By the row's name, values by the place of their series in ``names``.
        names: Of the series, for the readers of dots.
        unit: Label of the axis, with the unit.
    """
    every = [v for row in rows.values() for values in row.values() for v in values]
    low, high = around(every)
    x = Scale(low, high, 14, WIDTH - 14)
    top, parts = 8.0, []
    for label, row in rows.items():
        parts.append(element("text", label, x=14, y=top + 11, class_="tick"))
        top += 18
        for place, values in row.items():
            parts += _dots(x, top + 8, values, place, f"{label}, {names[place]}")
            top += 20
        top += 4
    grid = [
        element("line", x1=x.at(t), x2=x.at(t), y1=4, y2=top, class_="grid") for t in x.ticks(5)
    ]
    svg = element(
        "svg",
        element("title", f"{title}: {unit}"),
        *grid,
        *parts,
        x_axis(x, top, unit),
        viewBox=f"0 0 {WIDTH} {round(top) + 42}",
        role="img",
    )
    return element("figure", element("figcaption", title), svg, class_="chart")


def legend(names: Sequence[str], *, dots: bool = False) -> Html:
    """What each colour stands for."""
    items = []
    for place, name in enumerate(names):
        kind = f"c{place % COLOURS} d{place // COLOURS % 4}"
        mark = (
            element("circle", cx=14, cy=6, r=4, class_=f"dot {kind}")
            if dots
            else element("path", d="M0 6H28", class_=f"line {kind}")
        )
        swatch = element("svg", mark, viewBox="0 0 28 12", width=28, height=12, aria_hidden="true")
        items.append(element("li", swatch, " ", name))
    return element("ul", *items, class_="legend")


def _dots(x: Scale, y: float, values: Sequence[float], place: int, name: str) -> list[Html]:
    """One series of one row."""
    kind = f"c{place % COLOURS}"
    middle = mean(values)
    said = f"{name}: {text_of(round(middle, 2))}"
    parts = []
    if len(values) > 1:
        deviation = stdev(values)
        said += f" ± {text_of(round(deviation, 2))}, {len(values)} seeds"
        ends = (x.at(middle - deviation), x.at(middle + deviation))
        parts.append(element("path", d=f"M{ends[0]} {y}H{ends[1]}", class_=f"line {kind}"))
        parts += [element("circle", cx=x.at(v), cy=y, r=2.5, class_=f"seed {kind}") for v in values]
    parts.append(element("circle", cx=x.at(middle), cy=y, r=4.5, class_=f"dot {kind}"))
    inside = join([element("title", said), *parts])
    return [element("g", inside)]


def _line(x: Scale, y: Scale, points: Sequence[Point], kind: str) -> Html:
    """A line, or a dot where there is one point only."""
    places = [f"{x.at(a)} {y.at(b)}" for a, b in _thinned(points)]
    if len(places) == 1:
        return element("path", d=f"M{places[0]}h0", class_=f"line lone {kind}")
    return element("path", d="M" + "L".join(places), class_=f"line {kind}")


def _thinned(points: Sequence[Point]) -> list[Point]:
    """At most so many points, evenly spaced, the last one among them."""
    if len(points) <= POINTS:
        return list(points)
    last = len(points) - 1
    return [points[round(place * last / (POINTS - 1))] for place in range(POINTS)]


def _short(point: Point) -> list[float]:
    """A point to be read."""
    return [point[0], float(f"{point[1]:.5g}")]
