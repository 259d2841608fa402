# SPDX-License-Identifier: Apache-2.0
"""How good the encoders of runs are, and the paper's numbers beside them."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from statistics import fmean

from iclmsr import paper
from iclmsr.report.charts import Series, dot_chart, line_chart
from iclmsr.report.groups import Group, flat, method_of, spread
from iclmsr.report.judgements import Judged, Judgement, judged, told_apart
from iclmsr.report.markup import Html, code, element, missing, section, table
from iclmsr.report.status import accuracies, online_accuracies

KINDS = {"linear": "linear probe", "knn": "5-nn"}
BASELINES = {"untrained": "untrained encoder", "pixels": "raw pixels"}


def accuracy(groups: Sequence[Group]) -> Html:
    """Linear probe and k-nn with their spread over seeds, and the online course of both."""
    found = judged(groups)
    gaps = [
        missing(f"{run.name} is not evaluated: ", code(f"iclmsr evaluate {run.path}"))
        for group in groups
        for run in group.runs
        if not run.evaluations
    ]
    parts: list[Html | None] = []
    if found:
        figures = [_dots(groups, found, kind) for kind in KINDS]
        parts = [
            element("div", *filter(None, figures), class_="charts"),
            _accuracy_table(found),
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


def _dots(groups: Sequence[Group], found: Sequence[Judged], kind: str) -> Html | None:
    """One classifier's accuracies."""
    names = [group.label for group in groups]
    rows = {one.label: {one.place: one.scores(kind)} for one in found if one.scores(kind)}
    for label, _, values in _baselines(found):
        if values[kind]:
            rows[label] = {len(names): values[kind]}
            names.append(label)
    votes = {one.judgement.k for one in found}
    title = KINDS[kind] if kind != "knn" or votes == {5} else "k-nn"
    return dot_chart(title.capitalize(), rows, names, "top-1 accuracy (%)") if rows else None


def _baselines(found: Sequence[Judged]) -> list[tuple[str, Judgement, dict[str, list[float]]]]:
    """Label, judgement and top-1 by classifier of what was judged beside the encoders.

    Settings that start from the same encoder count once.
    """
    known: dict[tuple[str, Judgement], dict[object, dict[str, float]]] = {}
    for one in found:
        before = replace(one.judgement, epoch=0)
        for (seed, result), name in product(one.results, BASELINES):
            if values := accuracies(result, name):
                known.setdefault((name, before), {})[seed, *values.items()] = values
    lines = []
    for name, title in BASELINES.items():
        judgements = [judgement for other, judgement in known if other == name]
        for judgement, apart in zip(judgements, told_apart(judgements), strict=True):
            each = known[name, judgement].values()
            scores = {kind: [v[kind] for v in each if kind in v] for kind in KINDS}
            lines.append((", ".join(filter(None, (title, apart))), judgement, scores))
    return lines


def _accuracy_table(found: Sequence[Judged]) -> Html:
    """The same as numbers: a row for each setting and way of judging."""
    lines = [
        *((one.label, one.judgement, {kind: one.scores(kind) for kind in KINDS}) for one in found),
        *_baselines(found),
    ]
    rows = [
        [
            label, spread(values["linear"]), spread(values["knn"]), judgement.k,
            len(values["linear"]), judgement.epoch, judgement.data, judgement.protocol,
        ]
        for label, judgement, values in lines
    ]  # fmt: skip
    head = ["", "linear, %", "k-nn, %", "k", "seeds", "epoch", "judged on", "protocol"]
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
    """Ours beside the paper's, with what was different, where encoders were judged on own data."""
    rows = []
    for one in judged(groups):
        config = one.group.runs[0].config
        source = config["data"]["source"]
        msr = bool(config.get("msr", {}).get("enabled"))
        known = paper.TABLE.get((config["method"]["name"], msr, source))
        if known is None or one.judgement.data != source or not one.scores("linear"):
            continue
        cells: list[object] = []
        for kind, theirs in (("linear", known.linear), ("knn", known.knn)):
            ours = one.scores(kind) if kind == "linear" or one.judgement.k == 5 else []
            gap = f"{fmean(ours) - theirs:+z.2f}" if ours else None
            cells += [spread(ours), f"{theirs:.2f}", gap]
        settings = flat(config)
        encoder = f"{settings.get('encoder.name', '')}, width {settings.get('encoder.width', '')}"
        rows.append([
            f"{method_of(config)}, {source}", *cells, len(one.scores("linear")),
            one.judgement.epoch, encoder,
            settings.get("data.limit", "null").replace("null", "all"), one.judgement.protocol,
        ])  # fmt: skip
    if not rows:
        why = (
            "The paper reports CIFAR-10, CIFAR-100, STL-10 and Tiny ImageNet: no run here is of a "
            "method and data set that stand in its table, and judged on the data that it saw."
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
