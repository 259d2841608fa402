# SPDX-License-Identifier: Apache-2.0
"""How encoders were judged: what two numbers must share to be averaged."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from iclmsr.report.groups import Group, flat
from iclmsr.report.reading import Run
from iclmsr.report.status import accuracies

BESIDE = re.compile(
    r"protocol|k|baselines|batch_size|device|neighbours|features|feature_cache|out"
    r"|data\.(source|variant|root|masks|workers|cache|shard_cache|resident)"
    r"|(few_labels|fine_tune)\..*"
)
"""Settings of an evaluation that stand in another field, or move neither of its two numbers."""

OTHER_PROBE = {"w-mse-2021": "linear_lbfgs.", "linear-lbfgs": "linear_probe."}
"""Settings that a protocol does not use."""


@dataclass(frozen=True)
class Judgement:
    """Everything that two accuracies must share to stand in one mean.

    Attributes:
        data: Source of the images, with the variant that was shown of them.
        epoch: After which the encoder was judged; None if it is not known.
        protocol: Its name, and its version beyond the first.
        k: Neighbours that voted.
        settings: Every other setting as (name, value) by name.
        images: The SHA-256 of what was learnt from and tested on, shortened.
    """

    data: str
    epoch: int | None
    protocol: str
    k: int
    settings: tuple[tuple[str, str], ...] = ()
    images: str = ""

    @property
    def shown(self) -> tuple[str, ...]:
        """What a reader is told first."""
        return self.data, f"epoch {self.epoch}", self.protocol, f"k = {self.k}"

    def has_other(self, name: str, value: str, shown: tuple[str, ...]) -> bool:
        """Whether a setting is not ``value``; none at all is another if nothing else differs."""
        known = dict(self.settings).get(name)
        return known != value and (known is not None or self.shown == shown)


@dataclass(frozen=True)
class Judged:
    """The runs of a group that were judged alike.

    Attributes:
        group: The group.
        place: Its place among all groups.
        judgement: How they were judged.
        label: The group, and where it was judged in several ways, this one.
        results: What each run's evaluation.json holds, by seed.
    """

    group: Group
    place: int
    judgement: Judgement
    label: str
    results: tuple[tuple[int, dict[str, Any]], ...]

    def scores(self, kind: str) -> list[float]:
        """Top-1 in percent of ``linear`` or ``knn``, by seed."""
        found = [accuracies(result) for _, result in self.results]
        return [values[kind] for values in found if kind in values]


def judged(groups: Sequence[Group]) -> list[Judged]:
    """The groups' evaluations, one entry for each way in which a group was judged."""
    found = []
    for place, group in enumerate(groups):
        alike: dict[Judgement, dict[str, tuple[int, dict[str, Any]]]] = {}
        for run in group.runs:
            for result in run.evaluations:  # a run counts once
                here = alike.setdefault(judgement_of(run, result), {})
                here.setdefault(run.name, (run.config["seed"], result))
        for (judgement, results), name in zip(alike.items(), told_apart([*alike]), strict=True):
            label = ", ".join(filter(None, (group.label, name)))
            found.append(Judged(group, place, judgement, label, tuple(results.values())))
    return found


def judgement_of(run: Run, evaluation: Mapping[str, Any]) -> Judgement:
    """How a run was judged, from its evaluation.json; a report that says little is of its data."""
    config = evaluation.get("config", {})
    data = config.get("data", run.config["data"])
    variant = data.get("variant", "original")
    version = evaluation.get("protocol_version", 1)
    unused = OTHER_PROBE.get(config.get("protocol", ""), "?")
    settings = {
        name: value
        for name, value in flat(config).items()
        if not BESIDE.fullmatch(name) and not name.startswith(unused)
    }
    digests = [str(known.get("sha256"))[:12] for known in evaluation.get("data", {}).values()]
    return Judgement(
        data["source"] + ("" if variant == "original" else f", {variant}"),
        evaluation.get("epoch"),
        str(evaluation.get("protocol", "unknown"))
        + ("" if version == 1 else f", version {version}"),
        evaluation["results"].get("encoder", {}).get("knn", {}).get("k", 5),
        tuple(sorted(settings.items())),
        ", ".join(digests),
    )


def told_apart(judgements: Sequence[Judgement]) -> list[str]:
    """What is different about each of several judgements; nothing if there is one.

    >>> told_apart([Judgement("cifar10", 4, "w-mse-2021", 5), Judgement("stl10", 4, "w-mse-2021", 5)])
    ['cifar10', 'stl10']
    """  # noqa: E501
    columns = list(zip(*(one.shown for one in judgements), strict=True))
    differ = [place for place, column in enumerate(columns) if len(set(column)) > 1]
    names = []
    for one in judgements:
        others = [other for other in judgements if other.data == one.data]
        own = [
            f"{name} {value}"
            for name, value in one.settings
            if any(other.has_other(name, value, one.shown) for other in others)
        ]
        if any(o != one and replace(o, images=one.images) == one for o in others):
            own.append(f"images {one.images}")
        names.append(", ".join([*(one.shown[place] for place in differ), *own]))
    return names
