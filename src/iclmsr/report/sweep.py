# SPDX-License-Identifier: Apache-2.0
"""A study of one setting over several values."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from iclmsr.report.charts import Series, legend, line_chart
from iclmsr.report.markup import Html, element
from iclmsr.report.study_charts import (
    Row,
    accuracy_charts,
    arms_of,
    measure_names,
    measures_of,
    result_of,
)

Reader = Callable[[Row], float | None]


def sweep(value: Mapping[str, Any]) -> list[Html]:
    """Each measure and accuracy over the values of an axis; rows without one are level lines.

    Args:
        value: What the study's file holds.
    """
    rows: list[Row] = [row for row in value["rows"] if "value" in row]
    axis = str(value.get("axis", "value"))
    if not rows:
        return []
    if not all(_is_number(row["value"]) for row in rows):
        cells = {str(one): _where(one) for one in dict.fromkeys(row["value"] for row in rows)}
        drawn = element("div", *accuracy_charts(rows, cells), class_="charts pairs")
        return [legend(arms_of(rows), dots=True), drawn]
    lines = list(dict.fromkeys(map(_line, value["rows"])))
    figures = [
        figure
        for title, unit, read in _readers(rows)
        if (figure := _chart(title, unit, read, axis, lines, value["rows"])) is not None
    ]
    return [
        element("p", f"Over {axis}. Thin lines are seeds, thick ones their mean."),
        legend(lines),
        element("div", *figures, class_="charts"),
    ]


def _line(row: Row) -> str:
    """Which line a row belongs to."""
    return f"{row['base']}, {row['arm']}"


def _readers(rows: Sequence[Row]) -> list[tuple[str, str, Reader]]:
    """Title, unit and reader of everything that is drawn."""

    def accuracy(test: str) -> Reader:
        return lambda row: result_of(row, test, "linear")

    def measure(name: str) -> Reader:
        return lambda row: measures_of(row).get(name)

    tests = dict.fromkeys(test for row in rows for test in row.get("results", {}))
    return [
        *((f"{test}, linear probe", "top-1 accuracy (%)", accuracy(test)) for test in tests),
        *((title, unit, measure(n)) for n, (title, unit) in measure_names(rows).items()),
    ]


def _chart(
    title: str, unit: str, read: Reader, axis: str, lines: Sequence[str], rows: Sequence[Row]
) -> Html | None:
    """One number over the axis, or None where no row has it."""
    values = [float(row["value"]) for row in rows if "value" in row]
    series = []
    for place, label in enumerate(lines):
        seeds: dict[Any, list[tuple[float, float]]] = {}
        for row in rows:
            known = read(row)
            if _line(row) != label or known is None:
                continue
            where = [row["value"]] if "value" in row else [min(values), max(values)]
            seeds.setdefault(row["seed"], []).extend((float(x), known) for x in where)
        if seeds:
            series.append(Series(label, [sorted(points) for points in seeds.values()], place))
    if not series:
        return None
    ratio = max(values) / min(values) if min(values) > 0 else 0
    return line_chart(title, series, x_label=axis, y_label=unit, logarithmic=ratio >= 20)


def _is_number(value: object) -> bool:
    """Whether a value has a place on an axis."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _where(value: object) -> Callable[[Row, str], float | None]:
    """Accuracy on the images as they are, of the rows with one value of the axis."""
    return lambda row, kind: result_of(row, "original", kind) if row["value"] == value else None
