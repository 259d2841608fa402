# SPDX-License-Identifier: Apache-2.0
"""Which runs are the same but for their seed, and what tells the others apart."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from iclmsr import neutral
from iclmsr.report.reading import Run

SILENT = neutral.NEUTRAL | {"seed"}
"""Settings that do not tell groups apart: the seed, and what moves no number."""


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but the seed.

    Attributes:
        label: What tells it from the others.
        runs: At least one, by seed.
    """

    label: str
    runs: tuple[Run, ...]


def flat(config: Mapping[str, Any]) -> dict[str, str]:
    """Settings by their dotted names, as text.

    >>> flat({"epochs": 3, "msr": {"enabled": True}})
    {'epochs': '3', 'msr.enabled': 'true'}
    """
    return {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in neutral.flat(config).items()
    }


def differences(configs: Sequence[Mapping[str, Any]]) -> dict[str, list[str | None]]:
    """Settings that are not the same in all configs, with the value of each; None: it has none.

    >>> differences([{"epochs": 3, "seed": 0}, {"epochs": 4, "seed": 0}])
    {'epochs': ['3', '4']}
    """
    settings = [flat(config) for config in configs]
    names = dict.fromkeys(name for each in settings for name in each)
    columns = {name: [each.get(name) for each in settings] for name in names}
    return {name: values for name, values in columns.items() if len(set(values)) > 1}


def group(runs: Sequence[Run]) -> list[Group]:
    """Runs by their images and every setting that moves a number, as they came."""
    members: dict[str, list[Run]] = {}
    for run in runs:
        settings = {name: value for name, value in flat(run.config).items() if name not in SILENT}
        settings["images"] = run.environment.get("data", "")  # data.root does not say which
        members.setdefault(json.dumps(settings, sort_keys=True), []).append(run)
    found = [tuple(sorted(each, key=lambda run: run.config["seed"])) for each in members.values()]
    return [Group(name, each) for name, each in zip(_labels(found), found, strict=True)]


def _labels(groups: Sequence[tuple[Run, ...]]) -> list[str]:
    """Method and data set, and where that is not enough the settings that differ."""
    configs = [runs[0].config for runs in groups]
    names = [method_of(config) for config in configs]
    if len({config["data"]["source"] for config in configs}) > 1:
        names = [f"{n}, {c['data']['source']}" for n, c in zip(names, configs, strict=True)]
    labels = []
    for place, name in enumerate(names):
        alike = [other for other, theirs in enumerate(names) if theirs == name]
        between = differences([configs[other] for other in alike])
        mine = alike.index(place)
        more = [
            f"{setting.rpartition('.')[2]} {values[mine]}"
            for setting, values in between.items()
            if setting not in SILENT
        ]
        labels.append(", ".join([name, *more[:4]]))
    doubled = {label for label in labels if labels.count(label) > 1}
    return [
        f"{label}, {groups[place][0].name}" if label in doubled else label
        for place, label in enumerate(labels)
    ]


def method_of(config: Mapping[str, Any]) -> str:
    """A run's method, and whether it is regularized."""
    msr = " + MSR" if config.get("msr", {}).get("enabled") else ""
    return f"{config['method']['name']}{msr}"


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Mean and sample standard deviation as text; one value stands alone, none is a dash.

    >>> spread([1.0, 3.0]), spread([2.0]), spread([])
    ('2.00 ± 1.41', '2.00', '-')
    """
    if not values:
        return "-"
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{mean(values):.{digits}f} ± {stdev(values):.{digits}f}"
