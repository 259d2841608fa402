# SPDX-License-Identifier: Apache-2.0
"""Charts that the background studies share."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from iclmsr.report.charts import dot_chart
from iclmsr.report.markup import Html, element, fold

Row = Mapping[str, Any]
KINDS = {"linear": "linear probe", "knn": "5-nn"}
MEASURES = {
    "bg_gap": ("BG-gap", "mixed_same - mixed_rand (points)"),
    "foreground_drop": ("Foreground drop", "original - only_fg (points)"),
    "worst_group": ("Worst group", "accuracy (%)"),
}
"""Title and unit of the measures that come first; others follow under their own names."""


def arms_of(rows: Sequence[Row]) -> list[str]:
    """The arms in their order."""
    return list(dict.fromkeys(str(row["arm"]) for row in rows))


def accuracy_charts(
    rows: Sequence[Row], cells: Mapping[str, Callable[[Row, str], float | None]]
) -> list[Html]:
    """A chart for each base and classifier; a row for each cell, a series for each arm."""
    arms, figures = arms_of(rows), []
    for base in dict.fromkeys(str(row["base"]) for row in rows):
        for kind, title in KINDS.items():
            drawn: dict[str, dict[int, list[float]]] = {}
            for label, read in cells.items():
                for place, arm in enumerate(arms):
                    mine = [r for r in rows if r["base"] == base and r["arm"] == arm]
                    values = [value for row in mine if (value := read(row, kind)) is not None]
                    if values:
                        drawn.setdefault(label, {})[place] = values
            if drawn:
                unit = "top-1 accuracy (%)"
                figures.append(dot_chart(f"{base}, {title}", drawn, arms, unit))
    return figures


def result_of(row: Row, test: str, kind: str) -> float | None:
    """One accuracy, if it is there."""
    value = row.get("results", {}).get(test, {}).get(kind)
    return None if value is None else float(value)


def measures_of(row: Row) -> dict[str, float]:
    """A row's measures by name; one that each classifier has is two."""
    found: dict[str, float] = {}
    for name, value in row.get("measures", {}).items():
        parts = value if isinstance(value, dict) else {"": value}
        for kind, number in parts.items():
            if isinstance(number, int | float) and not isinstance(number, bool):
                found[f"{name}.{kind}".rstrip(".")] = float(number)
    return found


def measure_names(rows: Sequence[Row]) -> dict[str, tuple[str, str]]:
    """Measures that rows have, with their title and unit, the best known first."""
    found = {}
    for name in dict.fromkeys(name for row in rows for name in measures_of(row)):
        measure, _, kind = name.partition(".")
        title, unit = MEASURES.get(measure, (measure.replace("_", " "), measure.replace("_", " ")))
        found[name] = (", ".join(filter(None, [title, KINDS.get(kind, kind)])), unit)
    return dict(sorted(found.items(), key=lambda item: item[0].partition(".")[0] not in MEASURES))


def measure_charts(rows: Sequence[Row]) -> list[Html]:
    """A chart for each measure; a row for each base, a series for each arm."""
    arms = arms_of(rows)
    known: list[Html] = []
    others: list[Html] = []
    for name, (title, unit) in measure_names(rows).items():
        drawn: dict[str, dict[int, list[float]]] = {}
        for row in rows:
            if (value := measures_of(row).get(name)) is not None:
                base = drawn.setdefault(str(row["base"]), {})
                base.setdefault(arms.index(row["arm"]), []).append(value)
        into = known if name.partition(".")[0] in MEASURES else others
        into.append(dot_chart(title, drawn, arms, unit))
    parts = [element("div", *known, class_="charts")] if known else []
    if others:
        parts.append(fold("More measures", element("div", *others, class_="charts")))
    return parts
