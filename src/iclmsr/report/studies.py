# SPDX-License-Identifier: Apache-2.0
"""The background studies: four settings, comparison, sweep."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from iclmsr.report.charts import legend
from iclmsr.report.groups import Group, spread
from iclmsr.report.markup import Html, element, fold, join, missing, section, table
from iclmsr.report.pictures import figure
from iclmsr.report.reading import Study
from iclmsr.report.study_charts import Row, accuracy_charts, arms_of, measure_charts, result_of
from iclmsr.report.sweep import sweep

TITLES = {
    "four-settings": "Four settings",
    "comparison": "Background challenge",
    "sweep": "Sweep",
}


def study_sections(studies: Sequence[Study]) -> list[Html]:
    """A section for every file of every study."""
    makers: dict[str, Callable[[Mapping[str, Any]], list[Html]]] = {
        "four-settings": _four_settings,
        "comparison": _comparison,
        "sweep": sweep,
    }
    found = []
    for place, study in enumerate(studies):
        for name, value in study.results.items():
            kind = "sweep" if value["study"].startswith("sweep") else value["study"]
            if kind not in makers:
                continue
            parts = makers[kind](value) if value["rows"] else []
            if not parts:
                parts = [missing(f"{study.path / name} has no finished run yet.")]
            if value.get("missing"):
                parts.append(
                    missing(f"{len(value['missing'])} runs of the study are not done yet.")
                )
            if value.get("failed"):
                parts.append(missing(f"Failed, and left out: {', '.join(value['failed'])}."))
            title = TITLES[kind] if len(studies) == 1 else f"{TITLES[kind]}: {study.path.name}"
            if kind == "sweep":
                title += f" of {value.get('axis', 'a setting')}"
            if split := value.get("settings", {}).get("split"):
                title += f", split {split}"
            named = name.removesuffix(".json").replace(".", "-")
            found.append(section(f"{named}-{place}", title, *parts))
        if study.pictures:
            drawn = [figure(path, f"{path.name} of {study.path.name}") for path in study.pictures]
            title = f"Figures of {study.path.name}"
            found.append(section(f"figures-{place}", title, join(drawn)))
    return found


def challenge(groups: Sequence[Group]) -> Html | None:
    """The background challenge of runs that were judged by it, or None."""
    rows = [
        {"base": group.label, "arm": "encoder", "seed": run.config["seed"], **run.backgrounds}
        for group in groups
        for run in group.runs
        if run.backgrounds is not None
    ]
    if not rows:
        return None
    return section("challenge", "Background challenge of the runs", *_comparison({"rows": rows}))


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


def _four_settings(value: Mapping[str, Any]) -> list[Html]:
    """Trained on full images or foregrounds, tested on full images or foregrounds."""
    rows: list[Row] = value["rows"]

    def cell(train: str, test: str) -> Callable[[Row, str], float | None]:
        return lambda row, kind: result_of(row, test, kind) if row["train"] == train else None

    sides = ("full", "foreground")
    cells = {f"{train} → {test}": cell(train, test) for train in sides for test in sides}
    filler = value.get("filler", "gray")
    about = (
        f"Left of the arrow what the encoder was trained on, right of it what it is tested on; "
        f"a foreground lies on {filler}. Dots are means over seeds, bars one standard deviation."
    )
    return [
        element("p", about),
        legend(arms_of(rows), dots=True),
        element("div", *accuracy_charts(rows, cells), class_="charts pairs"),
        _table(rows, cells, "Linear probe, top-1 in percent, mean ± standard deviation over seeds"),
    ]


def _comparison(value: Mapping[str, Any]) -> list[Html]:
    """Accuracy on every variant of the images, and the measures made of them."""
    rows: list[Row] = value["rows"]

    def cell(test: str) -> Callable[[Row, str], float | None]:
        return lambda row, kind: result_of(row, test, kind)

    tests = dict.fromkeys(test for row in rows for test in row.get("results", {}))
    cells = {test: cell(test) for test in tests}
    about = "Dots are means over seeds, bars one standard deviation."
    return [
        element("p", about),
        legend(arms_of(rows), dots=True),
        *measure_charts(rows),
        fold(
            "Accuracy on every variant",
            element("div", *accuracy_charts(rows, cells), class_="charts pairs"),
        ),
        _table(rows, cells, "Linear probe, top-1 in percent, mean ± standard deviation over seeds"),
    ]
