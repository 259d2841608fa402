# SPDX-License-Identifier: Apache-2.0
"""How good the encoders of runs are, and the paper's numbers beside them."""

from collections.abc import Sequence

from iclmsr import paper
from iclmsr.report.charts import Series, dot_chart, line_chart
from iclmsr.report.groups import Group, flat, method_of, spread
from iclmsr.report.markup import Html, code, element, missing, section, table
from iclmsr.report.status import accuracies, online_accuracies

KINDS = {"linear": "linear probe", "knn": "5-nn"}
BASELINES = {"untrained": "untrained encoder", "pixels": "raw pixels"}


def accuracy(groups: Sequence[Group]) -> Html:
    """Linear probe and 5-nn with their spread over seeds, and the online course of both."""
    judged = [group for group in groups if any(run.evaluation for run in group.runs)]
    gaps = [
        missing(f"{run.name} is not evaluated: ", code(f"iclmsr evaluate {run.path}"))
        for group in groups
        for run in group.runs
        if run.evaluation is None
    ]
    parts: list[Html | None] = []
    if judged:
        figures = [_dots(judged, kind, title) for kind, title in KINDS.items()]
        parts = [
            element("div", *filter(None, figures), class_="charts"),
            _accuracy_table(judged),
        ]  # fmt: skip
    online = _online(groups)
    if online:
        parts += [
            element("h3", "Online, during pretraining"),
            element("p", "On a part of the images: to be compared among themselves only.",
                    class_="small"),
            element("div", *online, class_="charts"),
        ]  # fmt: skip
    return section("accuracy", "Accuracy", *parts, *gaps)


def _dots(groups: Sequence[Group], kind: str, title: str) -> Html | None:
    """One classifier's accuracies."""
    rows: dict[str, dict[int, list[float]]] = {}
    for place, group in enumerate(groups):
        if values := scores(group, kind):
            rows[group.label] = {place: values}
    names = [group.label for group in groups]
    for name, label in BASELINES.items():
        values = _baseline(groups, kind, name)
        if values:
            rows[label] = {len(names): values}
            names.append(label)
    return dot_chart(title.capitalize(), rows, names, "top-1 accuracy (%)") if rows else None


def scores(group: Group, kind: str, name: str = "encoder") -> list[float]:
    """Top-1 in percent of the runs of a group that were judged."""
    found = [accuracies(run.evaluation, name) for run in group.runs if run.evaluation is not None]
    return [values[kind] for values in found if kind in values]


def _baseline(groups: Sequence[Group], kind: str, name: str) -> list[float]:
    """A baseline's accuracies; settings that start from the same encoder count once."""
    found = {
        (run.config["seed"], values[kind]): values[kind]
        for group in groups
        for run in group.runs
        if run.evaluation is not None and kind in (values := accuracies(run.evaluation, name))
    }
    return list(found.values())


def _accuracy_table(groups: Sequence[Group]) -> Html:
    """The same as numbers."""
    rows = []
    for group in groups:
        protocols = {
            str(run.evaluation.get("protocol", "")) for run in group.runs if run.evaluation
        }
        epochs = {str(run.evaluation.get("epoch", "")) for run in group.runs if run.evaluation}
        rows.append([
            group.label, *(spread(scores(group, kind)) for kind in KINDS),
            len(scores(group, "linear")), ", ".join(sorted(epochs)), ", ".join(sorted(protocols)),
        ])  # fmt: skip
    for name, label in BASELINES.items():
        known = [_baseline(groups, kind, name) for kind in KINDS]
        if known[0]:
            rows.append([label, *map(spread, known), len(known[0]), "0", "as above"])
    head = ["", "linear, %", "5-nn, %", "seeds", "epochs", "protocol"]
    return table("Top-1 accuracy, mean ± standard deviation over seeds", head, rows)


def _online(groups: Sequence[Group]) -> list[Html]:
    """Courses of the online evaluations."""
    figures = []
    for kind, title in KINDS.items():
        series = []
        for place, group in enumerate(groups):
            lines = []
            for run in group.runs:
                values = online_accuracies(run.records)
                line = [
                    (record["epoch"], value[kind])
                    for record, value in zip(run.events("online"), values, strict=False)
                    if kind in value
                ]
                lines += [line] if line else []
            if lines:
                series.append(Series(group.label, lines, place))
        if series:
            label = "top-1 accuracy (%)"
            figures.append(line_chart(title.capitalize(), series, x_label="epoch", y_label=label))
    return figures


def against_paper(groups: Sequence[Group]) -> Html:
    """Ours beside the paper's, with what was different."""
    rows = []
    for group in groups:
        config = group.runs[0].config
        msr = bool(config.get("msr", {}).get("enabled"))
        known = paper.TABLE.get((config["method"]["name"], msr, config["data"]["source"]))
        values = {kind: scores(group, kind) for kind in KINDS}
        if known is None or not values["linear"]:
            continue
        theirs = {"linear": known.linear, "knn": known.knn}
        cells: list[object] = []
        for kind in KINDS:
            ours = values[kind]
            gap = f"{sum(ours) / len(ours) - theirs[kind]:+.2f}" if ours else None
            cells += [spread(ours), f"{theirs[kind]:.2f}", gap]
        protocols = sorted(
            {str(r.evaluation.get("protocol", "")) for r in group.runs if r.evaluation}
        )
        settings = flat(config)
        encoder = f"{settings.get('encoder.name', '')}, width {settings.get('encoder.width', '')}"
        rows.append([
            f"{method_of(config)}, {config['data']['source']}", *cells, len(values["linear"]),
            config["epochs"], encoder, settings.get("data.limit", "null").replace("null", "all"),
            ", ".join(protocols),
        ])  # fmt: skip
    if not rows:
        why = (
            "The paper reports CIFAR-10, CIFAR-100, STL-10 and Tiny ImageNet: no evaluated run "
            "here is of a method and data set that stand in its table."
        )
        return section("paper", "Beside the paper", missing(why))
    head = [
        "", "linear, %", "paper", "difference", "5-nn, %", "paper", "difference", "seeds",
        "epochs", "encoder", "images", "protocol",
    ]  # fmt: skip
    about = (
        "The paper trains a full ResNet-18 on all images, 1000 epochs on CIFAR and Tiny ImageNet "
        "and 2000 on STL-10. A run with less is not a reproduction of its number."
    )
    return section(
        "paper", "Beside the paper", element("p", about),
        table("Top-1 accuracy, percent, and ICL-MSR (Qiang et al. 2022)", head, rows),
    )  # fmt: skip
