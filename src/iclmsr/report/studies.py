# SPDX-License-Identifier: Apache-2.0
"""The background studies: four settings, comparison, sweep."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from iclmsr.report.charts import Series, dot_chart, legend, line_chart
from iclmsr.report.groups import spread
from iclmsr.report.markup import Html, element, fold, join, missing, section, table
from iclmsr.report.pictures import figure
from iclmsr.report.reading import Study

Row = Mapping[str, Any]
KINDS = {"linear": "linear probe", "knn": "5-nn"}
MEASURES = {
    "bg_gap": ("BG-gap", "mixed_same - mixed_rand (points)"),
    "foreground_drop": ("Foreground drop", "original - only_fg (points)"),
    "worst_group": ("Worst group", "accuracy (%)"),
}


def study_sections(studies: Sequence[Study]) -> list[Html]:
    """A section for every file of every study."""
    makers: dict[str, Callable[[Mapping[str, Any]], list[Html]]] = {
        "study.json": _four_settings,
        "comparison.json": _comparison,
        "sweep.json": _sweep,
    }
    titles = {
        "study.json": "Four settings", "comparison.json": "Background challenge",
        "sweep.json": "Sweep",
    }  # fmt: skip
    found = []
    for place, study in enumerate(studies):
        for name, value in study.results.items():
            rows = value.get("rows", [])
            parts = makers[name](value) if rows else [missing(f"{study.path / name} has no rows.")]
            title = titles[name] if len(studies) == 1 else f"{titles[name]}: {study.path.name}"
            found.append(section(f"{name.partition('.')[0]}-{place}", title, *parts))
        if study.pictures:
            drawn = [figure(path, f"{path.name} of {study.path.name}") for path in study.pictures]
            title = f"Figures of {study.path.name}"
            found.append(section(f"figures-{place}", title, join(drawn)))
    return found


def _arms(rows: Sequence[Row]) -> list[str]:
    """The arms in their order."""
    return list(dict.fromkeys(str(row["arm"]) for row in rows))


def _charts(
    rows: Sequence[Row], cells: Mapping[str, Callable[[Row, str], float | None]]
) -> list[Html]:
    """A chart for each base and classifier; a row for each cell, a series for each arm."""
    arms, figures = _arms(rows), []
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


def _table(
    rows: Sequence[Row], cells: Mapping[str, Callable[[Row, str], float | None]], caption: str
) -> Html:
    """The linear probe as numbers: a row for each base and arm."""
    lines = []
    for base, arm in dict.fromkeys((str(row["base"]), str(row["arm"])) for row in rows):
        mine = [row for row in rows if (row["base"], row["arm"]) == (base, arm)]
        values = [
            [value for row in mine if (value := read(row, "linear")) is not None]
            for read in cells.values()
        ]
        seeds = len({row["seed"] for row in mine})
        lines.append([f"{base}, {arm}", *(spread(each, 1) for each in values), seeds])
    return table(caption, ["", *cells, "seeds"], lines)


def _result(row: Row, test: str, kind: str) -> float | None:
    """One accuracy, if it is there."""
    value = row.get("results", {}).get(test, {}).get(kind)
    return None if value is None else float(value)


def _four_settings(value: Mapping[str, Any]) -> list[Html]:
    """Trained on full images or foregrounds, tested on full images or foregrounds."""
    rows: list[Row] = value["rows"]

    def cell(train: str, test: str) -> Callable[[Row, str], float | None]:
        return lambda row, kind: _result(row, test, kind) if row["train"] == train else None

    sides = ("full", "foreground")
    cells = {f"{train} → {test}": cell(train, test) for train in sides for test in sides}
    filler = value.get("filler", "gray")
    about = (
        f"Left of the arrow what the encoder was trained on, right of it what it is tested on; "
        f"a foreground lies on {filler}. Dots are means over seeds, bars one standard deviation."
    )
    return [
        element("p", about),
        legend(_arms(rows), dots=True),
        element("div", *_charts(rows, cells), class_="charts pairs"),
        _table(rows, cells, "Linear probe, top-1 in percent, mean ± standard deviation over seeds"),
    ]


def _comparison(value: Mapping[str, Any]) -> list[Html]:
    """Accuracy on every variant of the images, and the measures made of them."""
    rows: list[Row] = value["rows"]

    def cell(test: str) -> Callable[[Row, str], float | None]:
        return lambda row, kind: _result(row, test, kind)

    tests = dict.fromkeys(test for row in rows for test in row.get("results", {}))
    cells = {test: cell(test) for test in tests}
    about = "Dots are means over seeds, bars one standard deviation."
    return [
        element("p", about),
        legend(_arms(rows), dots=True),
        element("div", *_measures(rows), class_="charts"),
        fold(
            "Accuracy on every variant",
            element("div", *_charts(rows, cells), class_="charts pairs"),
        ),
        _table(rows, cells, "Linear probe, top-1 in percent, mean ± standard deviation over seeds"),
    ]


def _names(rows: Sequence[Row]) -> dict[str, tuple[str, str]]:
    """Measures that rows have, with their title and unit."""
    names = dict.fromkeys(
        name for row in rows for name, value in row.get("measures", {}).items()
        if isinstance(value, int | float)
    )  # fmt: skip
    return {name: MEASURES.get(name, (name.replace("_", " "), name)) for name in names}


def _measures(rows: Sequence[Row]) -> list[Html]:
    """A chart for each measure; a row for each base, a series for each arm."""
    arms, figures = _arms(rows), []
    for name, (title, unit) in _names(rows).items():
        drawn: dict[str, dict[int, list[float]]] = {}
        for row in rows:
            value = row.get("measures", {}).get(name)
            if isinstance(value, int | float):
                base = drawn.setdefault(str(row["base"]), {})
                base.setdefault(arms.index(row["arm"]), []).append(float(value))
        figures.append(dot_chart(title, drawn, arms, unit))
    return figures


def _where(value: object) -> Callable[[Row, str], float | None]:
    """Accuracy on the images as they are, of the rows with one value of the axis."""
    return lambda row, kind: _result(row, "original", kind) if row["value"] == value else None


def _sweep(value: Mapping[str, Any]) -> list[Html]:
    """Each measure and accuracy over the values of an axis."""
    rows, axis = value["rows"], str(value.get("axis", "value"))
    lines = list(dict.fromkeys(f"{row['base']}, {row['arm']}" for row in rows))
    numeric = [row for row in rows if isinstance(row.get("value"), int | float)]
    if len(numeric) < len(rows):
        cells = {
            str(value): _where(value)
            for value in dict.fromkeys(row["value"] for row in rows)
        }  # fmt: skip
        return [
            legend(_arms(rows), dots=True),
            element("div", *_charts(rows, cells), class_="charts pairs"),
        ]
    values = [float(row["value"]) for row in rows]
    logarithmic = min(values) > 0 and max(values) / min(values) >= 20
    charts = [
        (f"{test}, linear probe", "top-1 accuracy (%)",
         lambda row, test=test: _result(row, test, "linear"))
        for test in dict.fromkeys(t for row in rows for t in row.get("results", {}))
    ] + [
        (title, unit, lambda row, name=name: row.get("measures", {}).get(name))
        for name, (title, unit) in _names(rows).items()
    ]  # fmt: skip
    figures = []
    for title, unit, read in charts:
        series = []
        for place, label in enumerate(lines):
            seeds: dict[Any, list[tuple[float, float]]] = {}
            for row in sorted(rows, key=lambda row: row["value"]):
                known = read(row)
                if f"{row['base']}, {row['arm']}" == label and isinstance(known, int | float):
                    seeds.setdefault(row["seed"], []).append((float(row["value"]), float(known)))
            if seeds:
                series.append(Series(label, list(seeds.values()), place))
        if series:
            figures.append(
                line_chart(title, series, x_label=axis, y_label=unit, logarithmic=logarithmic)
            )
    return [
        element("p", f"Over {axis}. Thin lines are seeds, thick ones their mean."),
        legend(lines),
        element("div", *figures, class_="charts"),
    ]
