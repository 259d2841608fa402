# SPDX-License-Identifier: Apache-2.0
"""Settings and curves of runs."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from iclmsr.neutral import NEUTRAL
from iclmsr.report.accuracy import KINDS
from iclmsr.report.charts import Point, Series, legend, line_chart
from iclmsr.report.groups import SILENT, Group, differences, method_of, spread
from iclmsr.report.markup import Html, element, fold, join, missing, section, table
from iclmsr.report.reading import Run

Chart = tuple[str, str, str, float]
"""Key of a record, caption, label of the axis, and what the value is multiplied by."""

LOSSES: list[Chart] = [
    ("loss", "Loss of stage 1", "loss (nats)", 1),
    ("contrastive", "Contrastive loss", "loss (nats)", 1),
    ("interventional", "Interventional loss", "loss (nats)", 1),
    ("outer", "Stage 2: contrastive loss after the virtual step", "loss (nats)", 1),
]
HEALTH: list[Chart] = [
    ("embedding_std", "Spread of the embeddings", "1 even, 0 collapsed", 1),
    ("effective_rank", "Effective rank of the features", "dimensions", 1),
    ("saturated", "Strata weights at an end of their range", "share (%)", 100),
]
SPEED: list[Chart] = [
    ("images_per_second", "Throughput", "images per second", 1),
    ("data_wait", "Encoder waits for data", "share of time (%)", 100),
    ("seconds", "Time of an epoch", "seconds", 1),
]


def configuration(
    groups: Sequence[Group], runs: Sequence[Run], recipes: Mapping[str, Mapping[str, Any]]
) -> Html:
    """What differs, first; then what the runs have in common, and where they ran."""
    parts: list[Html] = []
    if len(groups) > 1:
        found = differences([group.runs[0].config for group in groups])
        rows = [[name, *values] for name, values in found.items() if name not in SILENT]
        seeds = [", ".join(str(run.config["seed"]) for run in group.runs) for group in groups]
        rows.append(["seeds", *seeds])
        head = ["setting", *(group.label for group in groups)]
        parts.append(table("Settings that differ", head, rows, numbers=False))
    else:
        config = groups[0].runs[0].config
        name = config.get("recipe", "")
        base = recipes.get(name)
        if base is not None:
            found = differences([base, config])
            rows = [[key, *values] for key, values in found.items() if key not in NEUTRAL]
            if rows:
                caption = f"Settings that differ from the recipe {name}"
                parts.append(table(caption, ["setting", "recipe", "run"], rows, numbers=False))
            else:
                parts.append(element("p", f"Every setting is the recipe's, {name}."))
        elif len(runs) == 1:
            parts.append(element("p", "One run: there is nothing to compare its settings with."))
        else:
            parts.append(element("p", "The runs differ in their seed only."))
    parts += [
        fold(f"All settings of {group.label}",
             element("pre", json.dumps(group.runs[0].config, indent=1)))
        for group in groups
    ]  # fmt: skip
    parts.append(fold("Where the runs were made", _places(runs)))
    return section("configuration", "What differs", *parts)


def _places(runs: Sequence[Run]) -> Html:
    """Folder, state, versions and machine of every run."""
    rows = []
    for run in runs:
        known = run.environment
        versions = known.get("versions", {})
        machine = known.get("machine", {})
        done = f"{run.status.epochs_done} of {run.status.epochs}"
        rows.append([
            run.name, str(run.path), run.status.state, done, known.get("time", ""),
            (known.get("commit") or "")[:10], versions.get("torch", ""),
            machine.get("processor", ""), known.get("device", ""),
        ])  # fmt: skip
    head = ["run", "folder", "state", "epochs", "begun", "commit", "torch", "processor", "device"]
    return table("Runs, as their environment.json says", head, rows, numbers=False)


def curves(name: str, title: str, groups: Sequence[Group], charts: Sequence[Chart]) -> Html:
    """One chart a number, over the epochs."""
    figures, last = [], []
    for key, caption, label, factor in charts:
        series = [
            Series(group.label, lines, place)
            for place, group in enumerate(groups)
            if (lines := _lines(group, key, factor))
        ]
        if series:
            figures.append(line_chart(caption, series, x_label="epoch", y_label=label))
            ends = {one.label: [line[-1][1] for line in one.lines] for one in series}
            last.append(
                [f"{caption}, {label}", *(spread(ends.get(g.label, []), 3) for g in groups)]
            )
    if not figures:
        return section(
            name, title, missing("No epoch is done yet: the run writes its numbers then.")
        )
    seeds = any(len(group.runs) > 1 for group in groups)
    about = element("p", "Thin lines are seeds, thick ones their mean.", class_="small")
    return section(
        name,
        title,
        legend([group.label for group in groups]) if len(groups) > 1 else None,
        about if seeds else None,
        element("div", *figures, class_="charts"),
        fold("Numbers of the last epoch", table(
            "At the last epoch, mean ± standard deviation over seeds",
            ["", *(group.label for group in groups)], last,
        )),
    )  # fmt: skip


def _lines(group: Group, key: str, factor: float) -> list[list[Point]]:
    """One number over the epochs, for each run that has it."""
    lines = [
        [(r["epoch"], factor * r[key]) for r in run.events("epoch") if _finite(r.get(key))]
        for run in group.runs
    ]
    return [line for line in lines if line]


def _finite(value: object) -> bool:
    """Whether a value can be drawn."""
    return isinstance(value, int | float) and abs(value) < float("inf")


def facts(groups: Sequence[Group], runs: Sequence[Run]) -> Html:
    """The head of the page: how much was compared, or one run at a glance."""
    if len(runs) == 1:
        run = runs[0]
        known = [
            ("method", method_of(run.config)),
            ("data", run.status.data),
            ("epochs", f"{run.status.epochs_done} of {run.status.epochs}"),
            ("state", run.status.state),
            *((f"{title}, %", f"{run.status.last[kind]:.1f}")
              for kind, title in KINDS.items() if kind in run.status.last),
        ]  # fmt: skip
    else:
        states = [run.status.state for run in runs]
        known = [
            ("runs", str(len(runs))),
            ("settings", str(len(groups))),
            ("data", ", ".join(sorted({run.status.data for run in runs}))),
            *((state, str(states.count(state))) for state in dict.fromkeys(states)),
        ]
    return element(
        "dl",
        *(element("div", element("dt", name), element("dd", value)) for name, value in known),
        class_="facts",
    )


def pictures_of(runs: Sequence[Run], draw: Any) -> Html | None:
    """PNG files that lie in the run folders."""
    found = [(run, path) for run in runs for path in sorted(run.path.glob("*.png"))]
    if not found:
        return None
    drawn = [draw(path, f"{path.name} of {run.name}") for run, path in found[:12]]
    return section("pictures", "Pictures of the runs", join(drawn))
