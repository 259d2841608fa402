# SPDX-License-Identifier: Apache-2.0
"""What the run folders of a grid hold, read from their files."""

import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iclmsr.config import PretrainConfig, decode, encode
from iclmsr.errors import IclmsrError
from iclmsr.evaluate import EvaluateConfig
from iclmsr.files import read_json
from iclmsr.paper import Accuracy
from iclmsr.recipes import RECIPES
from iclmsr.reproduce.cells import DATASETS, ROWS, Row, changes, options
from iclmsr.reproduce.runner import SOURCE
from iclmsr.runs import RunFolder, is_run

APART = frozenset(("ressl",))
"""Methods whose row of the table is of another protocol than the others."""
BESIDE = re.compile(
    r"baselines|batch-size|neighbours|features|feature-cache|out|data\.(limit|masks)"
    r"|(few-labels|fine-tune)\..*"
)
"""Options of a judgement that move neither of its two numbers in the table."""


@dataclass(frozen=True)
class Data:
    """The images of a run and of its judgement.

    Attributes:
        form: ``official`` files, images by class in a ``folder``, or ``unknown``.
        pretrain: Images that the encoder was pretrained on.
        available: Images that there were to pretrain on; None if it is not known.
        train: Images that probe and neighbours learnt from.
        test: Images that they were tested on.
        sha256: Of pixels and labels to pretrain on, to learn from and to test on.
    """

    form: str
    pretrain: int
    available: int | None
    train: int
    test: int
    sha256: tuple[str, str, str]


@dataclass(frozen=True)
class Protocol:
    """Everything that two runs must share to stand in one cell of a table.

    Attributes:
        recipe: The recipe, the same with MSR and without, where it is not of the protocol that the
            table's rows share; else empty.
        changed: Options that differ from the recipe's, as (option, shown value).
        judged: The protocol of the judgement, and its options that differ, shown.
        data: The images.
    """

    recipe: str
    changed: tuple[tuple[str, str], ...]
    judged: str
    data: Data


@dataclass(frozen=True)
class Finished:
    """One run that was judged after its last epoch.

    Attributes:
        row: Of the table.
        dataset: Of the table.
        seed: Of the run.
        epochs: Of the run.
        protocol: What it shares with the others of its cell.
        recipe: What its recipe says of the options in ``protocol.changed``, shown.
        accuracy: Percent.
        run: Its folder.
    """

    row: Row
    dataset: str
    seed: int
    epochs: int
    protocol: Protocol
    recipe: tuple[str, ...]
    accuracy: Accuracy
    run: Path


@dataclass(frozen=True)
class Collected:
    """The run folders in a folder.

    Attributes:
        finished: Those that belong in the table.
        unfinished: Names of those that will, with their epochs so far and in all.
        foreign: Names of those of other methods or data.
        damaged: Names of those that cannot be read, and why.
    """

    finished: tuple[Finished, ...]
    unfinished: tuple[tuple[str, int, int], ...]
    foreign: tuple[str, ...]
    damaged: tuple[tuple[str, str], ...] = ()


def collect(out: Path) -> Collected:
    """Reads every run folder in ``out``; a run counts once it is judged after its last epoch.

    Args:
        out: A folder of run folders, however they were made.

    Raises:
        IclmsrError: ``out`` is no folder.
    """
    if not out.is_dir():
        raise IclmsrError(f"{out} is not a folder: nothing has been run there yet")
    finished: list[Finished] = []
    unfinished, foreign, damaged = [], [], []
    taken: dict[object, Path] = {}
    for path in sorted(filter(is_run, out.glob("[!.]*"))):
        try:
            found = _read(path)
        except IclmsrError as error:
            damaged.append((path.name, str(error)))
            continue
        if found is None:
            foreign.append(path.name)
        elif isinstance(found, tuple):
            unfinished.append((path.name, *found))
        else:
            key = (found.row, found.dataset, found.seed, found.protocol)
            if key in taken:
                warnings.warn(
                    f"{path} is left out: {taken[key]} is the same cell with the same seed",
                    stacklevel=2,
                )
            else:
                taken[key] = path
                finished.append(found)
    return Collected(tuple(finished), tuple(unfinished), tuple(foreign), tuple(damaged))


def _read(run: Path) -> Finished | tuple[int, int] | None:
    """A run that counts, or its epochs so far and in all, or None if it is none of the table's."""
    folder = RunFolder.open(run)
    config = decode(PretrainConfig, folder.config())
    row = Row(config.method.name, config.msr.enabled)
    if row not in ROWS or config.data.source not in DATASETS:
        return None
    report = folder.evaluation()
    if report is not None and report.get("epoch") == config.epochs:
        return _finished(run, row, config, report)
    return folder.epochs_done(), config.epochs


def _finished(run: Path, row: Row, config: PretrainConfig, report: dict[str, Any]) -> Finished:
    """A run that has been judged, from its files."""
    usual = row.recipe(config.data.source)
    own = RECIPES.get(config.recipe, usual)
    changed = changes(config, own.config)
    before = options(encode(own.config))
    shared = own is usual and row.method not in APART
    try:
        protocol = Protocol(
            "" if shared else own.config.recipe.replace("-msr-", "-"),
            tuple((option, shown(value)) for option, value in changed.items()),
            _judged(run, report),
            _data(run, report),
        )
        results = report["results"]["encoder"]
        accuracy = Accuracy(results["linear"]["top1"], results["knn"]["top1"])
    except (KeyError, TypeError) as error:
        raise IclmsrError(
            f"{run / 'evaluation.json'} lacks {error}: judge it again with: iclmsr evaluate {run}"
        ) from error
    recipe = tuple(shown(before.get(option)) for option in changed)
    return Finished(
        row, config.data.source, config.seed, config.epochs, protocol, recipe, accuracy, run
    )


def _judged(run: Path, report: dict[str, Any]) -> str:
    """The protocol of a judgement with whatever differs from its defaults."""
    usual = options(encode(EvaluateConfig.of_run(run)))
    differs = [
        f"{option} {shown(value)}"
        for option, value in options(report["config"]).items()
        if not BESIDE.fullmatch(option) and usual.get(option, value) != value
    ]
    version = report.get("protocol_version", 1)
    numbered = [f"version {version}"] if version != 1 else []
    return ", ".join([report["protocol"], *numbered, *differs])


def _data(run: Path, report: dict[str, Any]) -> Data:
    """The images of a run and of its judgement."""
    session = read_json(run / "environment.json")
    source = read_json(run / SOURCE) if (run / SOURCE).is_file() else {}
    train, test = (report["data"][split] for split in ("train", "test"))
    return Data(
        source.get("form", "unknown"),
        session["images"],
        source.get("images", {}).get("pretrain"),
        train["images"],
        test["images"],
        (session["data"], train["sha256"], test["sha256"]),
    )


def shown(value: Any) -> str:
    """A value as a person writes it.

    >>> shown(10000), shown(None), shown([0.2, 1.0])
    ('10,000', 'none', '0.2 1')
    """
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return " ".join(map(shown, value))
    return str(value)
