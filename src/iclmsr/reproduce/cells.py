# SPDX-License-Identifier: Apache-2.0
"""The grid of the paper's table: rows, data sets, and the run that each cell is."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from iclmsr.config import PretrainConfig, encode
from iclmsr.errors import IclmsrError, nearest
from iclmsr.neutral import telling
from iclmsr.paper import TABLE
from iclmsr.recipes import Recipe, recipe

TITLES = {
    "simclr": "SimCLR",
    "byol": "BYOL",
    "w-mse": "W-MSE",
    "ressl": "ReSSL",
    "lmcl": "LMCL",
    "ssl-hsic": "SSL-HSIC",
    "relic": "RELIC",
}
DATASETS = tuple(dict.fromkeys(dataset for _, _, dataset in TABLE))
"""In the order of the paper's table."""


class Row(NamedTuple):
    """A row of the paper's table.

    Attributes:
        method: As in ``METHODS``.
        msr: Whether with the regularizer.
    """

    method: str
    msr: bool

    @property
    def name(self) -> str:
        """As on the command line."""
        return self.method + "+msr" * self.msr

    @property
    def title(self) -> str:
        """As in the paper.

        >>> Row("byol", True).title
        'BYOL + MSR'
        """
        return TITLES[self.method] + " + MSR" * self.msr

    def recipe(self, dataset: str) -> Recipe:
        """The recipe of this row's cell; the paper quotes ReSSL in its authors' own protocol."""
        label = "ressl-native" if self.method == "ressl" else self.method
        return recipe(f"{label}-{'msr-' * self.msr}{dataset}")


ROWS = tuple(dict.fromkeys(Row(method, msr) for method, msr, _ in TABLE))
"""The 11 rows, in the paper's order."""


def row_named(name: str) -> Row:
    """The row called ``name`` on the command line; case does not count.

    Raises:
        IclmsrError: There is none.

    >>> row_named("SimCLR+MSR"), row_named("simclr-msr")
    (Row(method='simclr', msr=True), Row(method='simclr', msr=True))
    """
    known = {row.name: row for row in ROWS}
    plain = name.lower().replace("-msr", "+msr")
    if plain not in known:
        raise IclmsrError(f"unknown method {name!r}: {nearest(plain, known)}")
    return known[plain]


@dataclass(frozen=True)
class Cell:
    """One run of the grid.

    Attributes:
        row: Of the table.
        dataset: Of the table.
        config: The whole run, its seed included.
    """

    row: Row
    dataset: str
    config: PretrainConfig

    @property
    def folder(self) -> str:
        """The name of its run folder; runs with other settings have other names.

        >>> cells([Row("simclr", True)], ["cifar10"], [2], {"cifar10": Path("/data")})[0].folder
        'simclr-msr-cifar10-seed2'
        """
        changed = changes(self.config, self.row.recipe(self.dataset).config)
        digest = hashlib.sha256(json.dumps(changed, sort_keys=True).encode()).hexdigest()
        label = f"-{digest[:8]}" if changed else ""
        name = self.row.name.replace("+", "-")
        return f"{name}-{self.dataset}{label}-seed{self.config.seed}"


def cells(
    rows: Sequence[Row],
    datasets: Sequence[str],
    seeds: Sequence[int],
    roots: Mapping[str, Path],
    change: Callable[[PretrainConfig], PretrainConfig] = lambda config: config,
) -> list[Cell]:
    """The runs of a part of the grid, seed by seed, so that a grid cut short is even.

    Args:
        rows: Rows of the table.
        datasets: Its data sets.
        seeds: Seeds of the runs.
        roots: Where each data set lies.
        change: What is changed about every recipe, as fewer epochs.

    Raises:
        IclmsrError: A data set without a root, or none of the table's.
    """
    for dataset in datasets:
        if dataset not in DATASETS:
            raise IclmsrError(f"unknown data set {dataset!r}: {nearest(dataset, DATASETS)}")
        if dataset not in roots:
            raise IclmsrError(f"where does {dataset} lie? pass --root {dataset}=PATH")
    found = []
    for seed in dict.fromkeys(seeds):
        for dataset in dict.fromkeys(datasets):
            for row in dict.fromkeys(rows):
                config = change(row.recipe(dataset).config)
                data = replace(config.data, root=roots[dataset])
                found.append(Cell(row, dataset, replace(config, seed=seed, data=data)))
    return found


def options(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of an encoded config that tell runs apart, as options of the command line.

    >>> options({"epochs": 2, "device": "cpu", "data": {"image_size": 32}})
    {'epochs': 2, 'data.image-size': 32}
    """
    return {name.replace("_", "-"): value for name, value in telling(config).items()}


def changes(config: PretrainConfig, base: PretrainConfig) -> dict[str, Any]:
    """The options of a run that are not its recipe's, but those that change no number.

    >>> base = Row("simclr", False).recipe("cifar10").config
    >>> changes(replace(base, epochs=10, seed=1), base)
    {'epochs': 10}
    """
    before, after = options(encode(base)), options(encode(config))
    return {
        option: value
        for option, value in after.items()
        if option != "seed" and before.get(option) != value
    }
