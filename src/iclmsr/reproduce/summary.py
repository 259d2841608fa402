# SPDX-License-Identifier: Apache-2.0
"""Ours beside the paper's: means over seeds, one line for each protocol."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from iclmsr.paper import TABLE
from iclmsr.reproduce.cells import DATASETS, ROWS, Row
from iclmsr.reproduce.collect import Collected, Data, Finished, Protocol

OFFICIAL = {
    "cifar10": (50_000, 50_000, 10_000),
    "cifar100": (50_000, 50_000, 10_000),
    "stl10": (105_000, 5_000, 8_000),
    "tiny-imagenet": (100_000, 100_000, 10_000),
}
"""Images to pretrain on, to learn classes from and to test on, as their authors hand them out."""


@dataclass(frozen=True)
class Figure:
    """One metric of one line, in percent.

    Attributes:
        paper: What the paper reports.
        values: Ours, by seed.
    """

    paper: float
    values: tuple[float, ...] = ()

    @property
    def mean(self) -> float | None:
        """Mean over seeds; None where nothing was run."""
        return statistics.fmean(self.values) if self.values else None

    @property
    def sd(self) -> float | None:
        """Standard deviation over seeds with n - 1; None for fewer than two."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    @property
    def difference(self) -> float | None:
        """Ours minus the paper's, percentage points.

        >>> Figure(91.0, (50.0, 52.0)).difference
        -40.0
        """
        return None if self.mean is None else self.mean - self.paper


@dataclass(frozen=True)
class Line:
    """A row of the table under one protocol; without a protocol nothing was run.

    Attributes:
        row: Of the table.
        dataset: Of the table.
        protocol: The label of the protocol; empty where nothing was run.
        seeds: That were run.
        epochs: Of each run; None where nothing was run.
        linear: Top-1 of the linear probe.
        knn: Top-1 of the 5 nearest neighbours.
    """

    row: Row
    dataset: str
    protocol: str
    seeds: tuple[int, ...]
    epochs: int | None
    linear: Figure
    knn: Figure


@dataclass(frozen=True)
class Gain:
    """What MSR adds to a method, paired by seed under one protocol.

    Attributes:
        method: The method.
        dataset: Of the table.
        protocol: The label of the protocol.
        seeds: That were run with and without.
        linear: Differences of the linear probe's top-1 by seed, and the paper's.
        knn: Of the 5 nearest neighbours'.
    """

    method: str
    dataset: str
    protocol: str
    seeds: tuple[int, ...]
    linear: Figure
    knn: Figure


@dataclass(frozen=True)
class Table:
    """Everything that is shown.

    Attributes:
        lines: All cells of the paper's table, each once for every protocol that it was run in.
        gains: For every pair of cells with and without MSR.
        protocols: What each label stands for, in words.
        unfinished: Runs that are not in the table yet: name, epochs so far and in all.
        foreign: Runs that are none of the table's.
        damaged: Runs that cannot be read, and why.
    """

    lines: tuple[Line, ...]
    gains: tuple[Gain, ...]
    protocols: dict[str, str]
    unfinished: tuple[tuple[str, int, int], ...]
    foreign: tuple[str, ...]
    damaged: tuple[tuple[str, str], ...]


def summarize(
    collected: Collected,
    rows: Sequence[Row] = ROWS,
    datasets: Sequence[str] = DATASETS,
) -> Table:
    """The paper's table with ours beside it; runs of different protocols never share a line.

    Args:
        collected: The runs.
        rows: The rows to show.
        datasets: The data sets to show.
    """
    runs = [run for run in collected.finished if run.row in rows and run.dataset in datasets]
    known = sorted({(DATASETS.index(run.dataset), repr(run.protocol)) for run in runs})
    labels = {key: label(number) for number, key in enumerate(known)}

    def label_of(run: Finished) -> str:
        return labels[DATASETS.index(run.dataset), repr(run.protocol)]

    lines = []
    for dataset in (name for name in DATASETS if name in datasets):
        for row in (row for row in ROWS if row in rows):
            here = [run for run in runs if (run.row, run.dataset) == (row, dataset)]
            for protocol in sorted(set(map(label_of, here)), key=_by_label) or [""]:
                same = [run for run in here if label_of(run) == protocol]
                lines.append(_line(row, dataset, protocol, same))
    protocols = {
        name: describe([run for run in runs if label_of(run) == name]) for name in labels.values()
    }
    return Table(
        tuple(lines),
        tuple(_gains(lines)),
        protocols,
        collected.unfinished,
        collected.foreign,
        collected.damaged,
    )


def label(number: int) -> str:
    """A, B, ..., Z, AA, AB, ...

    >>> label(0), label(25), label(26)
    ('A', 'Z', 'AA')
    """
    before, last = divmod(number, 26)
    return (label(before - 1) if before else "") + chr(ord("A") + last)


def _by_label(name: str) -> tuple[int, str]:
    """The order in which labels are given."""
    return len(name), name


def _line(row: Row, dataset: str, protocol: str, runs: Iterable[Finished]) -> Line:
    """One line from the runs of its cell and protocol."""
    runs = sorted(runs, key=lambda run: run.seed)
    paper = TABLE[row.method, row.msr, dataset]
    return Line(
        row,
        dataset,
        protocol,
        tuple(run.seed for run in runs),
        runs[0].epochs if runs else None,
        Figure(paper.linear, tuple(run.accuracy.linear for run in runs)),
        Figure(paper.knn, tuple(run.accuracy.knn for run in runs)),
    )


def _gains(lines: Sequence[Line]) -> Iterable[Gain]:
    """Every pair of lines with and without MSR under one protocol."""
    plain = {(line.row.method, line.protocol): line for line in lines if not line.row.msr}
    for line in lines:
        base = plain.get((line.row.method, line.protocol))
        if not line.row.msr or not line.protocol or base is None:
            continue
        seeds = tuple(seed for seed in line.seeds if seed in base.seeds)

        def paired(figure: Callable[[Line], Figure], msr: Line, base: Line) -> Figure:
            ours = [dict(zip(one.seeds, figure(one).values, strict=True)) for one in (msr, base)]
            paper = round(figure(msr).paper - figure(base).paper, 2)
            both = sorted(ours[0].keys() & ours[1].keys())
            return Figure(paper, tuple(ours[0][seed] - ours[1][seed] for seed in both))

        if seeds:
            linear = paired(lambda one: one.linear, line, base)
            knn = paired(lambda one: one.knn, line, base)
            yield Gain(line.row.method, line.dataset, line.protocol, seeds, linear, knn)


def describe(runs: Sequence[Finished]) -> str:
    """What a protocol is, in words: how it differs from the recipes, its judgement, its data."""
    protocol: Protocol = runs[0].protocol
    parts = [f"recipe {protocol.recipe}"] if protocol.recipe else []
    for place, (option, value) in enumerate(protocol.changed):
        usual = " or ".join(sorted({run.recipe[place] for run in runs}))
        parts.append(f"{option} {value} instead of {usual}")
    how = ", ".join(parts) or "the whole recipe"
    return f"{how}; judged by {protocol.judged}; {fidelity(runs[0].dataset, protocol.data)}"


def fidelity(dataset: str, data: Data) -> str:
    """How the images compare with what the data set's authors hand out.

    >>> images = Data("folder", 10_000, 50_000, 50_000, 10_000, ("0a", "0b", "0c"))
    >>> fidelity("cifar10", images)
    'cifar10 as images by class, 10,000 of 50,000 images to pretrain on, 50,000 to learn classes from, 10,000 to test on: as many as the official set; sha256 0a, 0b, 0c'
    """  # noqa: E501
    form = {"official": "official files", "folder": "images by class"}.get(
        data.form, "images of unknown origin"
    )
    official = OFFICIAL[dataset]
    found = (data.available, data.train, data.test)
    names = ("to pretrain on", "to learn classes from", "to test on")
    pretrain = f"{data.pretrain:,}"
    if data.available is not None and data.available != data.pretrain:
        pretrain += f" of {data.available:,}"
    whole = "as many as the official set"
    if found != official:
        less = [
            f"{count:,} {name}"
            for count, own, name in zip(official, found, names, strict=True)
            if count != own
        ]
        whole = f"not the official set, which has {', '.join(less)}"
    digests = ", ".join(digest[:12] for digest in data.sha256)
    return (
        f"{dataset} as {form}, {pretrain} images {names[0]}, {data.train:,} {names[1]}, "
        f"{data.test:,} {names[2]}: {whole}; sha256 {digests}"
    )
