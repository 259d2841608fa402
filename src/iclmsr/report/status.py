# SPDX-License-Identifier: Apache-2.0
"""How a run stands: how far it is, whether it goes on, how good it is."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from iclmsr.errors import IclmsrError
from iclmsr.runs import RunFolder, is_run

State = Literal["running", "finished", "resumable", "died", "damaged"]
DEPTH = 5
"""Folders below the one that is asked for in which runs are looked for."""


@dataclass(frozen=True)
class Status:
    """One run folder at a glance.

    Attributes:
        path: The folder.
        recipe: The recipe's name, or the method's.
        data: The source of its images.
        seed: The run's seed; None if it cannot be read.
        epochs_done: Epochs that the encoder has seen.
        epochs: Epochs that it is to see.
        state: running: a process holds the folder; finished; resumable: stopped with a
            checkpoint; died: stopped before the first one; damaged: see ``note``.
        active: When a record, checkpoint or encoder was last written, UTC.
        last: Top-1 in percent by classifier, ``linear`` and ``knn``, of the last evaluation, or
            of the last online one where there was none after pretraining.
        best: The best of all of these.
        online: Whether ``last`` is of an online evaluation, on a part of the images.
        best_online: Whether one of ``best`` is.
        note: What is the matter.
    """

    path: Path
    recipe: str
    data: str
    seed: int | None
    epochs_done: int
    epochs: int
    state: State
    active: str
    last: dict[str, float]
    best: dict[str, float]
    online: bool
    best_online: bool
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        return {**self.__dict__, "path": str(self.path)}


def find_runs(folder: Path) -> list[Path]:
    """Run folders in ``folder``, or ``folder`` itself, by name.

    Raises:
        IclmsrError: There is no such folder.
    """
    if not folder.is_dir():
        raise IclmsrError(f"{folder} is not a folder: pass one that holds runs")
    return sorted(_below(folder, DEPTH))


def _below(folder: Path, depth: int) -> Iterator[Path]:
    """Run folders down to a depth; none lies in another."""
    if is_run(folder):
        yield folder
    elif depth:
        with os.scandir(folder) as entries:
            names = [
                entry.name
                for entry in entries
                if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")
            ]
        for name in names:
            try:
                yield from _below(folder / name, depth - 1)
            except PermissionError:
                continue


def status(path: Path) -> Status:
    """How the run in ``path`` stands; what cannot be read makes it ``damaged``."""
    folder = RunFolder(path)
    empty: dict[str, Any] = {
        "recipe": "", "data": "", "seed": None, "epochs_done": 0, "epochs": 0,
        "active": _active(path), "last": {}, "best": {}, "online": False,
        "best_online": False,
    }  # fmt: skip
    try:
        config = folder.config()
        known = {
            **empty,
            "recipe": config.get("recipe") or config["method"]["name"],
            "data": config["data"]["source"],
            "seed": config["seed"],
            "epochs": config["epochs"],
        }
        known["epochs_done"] = folder.epochs_done()
        evaluation = folder.evaluation()
        final = {} if evaluation is None else accuracies(evaluation)
        online = online_accuracies(folder.metrics())
    except IclmsrError as error:
        return Status(path=path, state="damaged", note=str(error), **empty)
    except (KeyError, TypeError, AttributeError) as error:
        note = f"config.json or evaluation.json is not of a run: {error!r}"
        return Status(path=path, state="damaged", note=note, **empty)
    every = [*online, final] if final else online
    known["last"] = every[-1] if every else {}
    known["online"] = bool(online) and not final
    for one in every:
        for name, value in one.items():
            known["best"][name] = max(value, known["best"].get(name, value))
    known["best_online"] = any(
        value > final.get(name, -1.0) for name, value in known["best"].items()
    )
    return Status(path=path, state=_state(folder, known), **known)


def accuracies(evaluation: dict[str, Any], name: str = "encoder") -> dict[str, float]:
    """Top-1 in percent of ``linear`` and ``knn`` that an evaluation.json holds.

    Args:
        evaluation: What the file holds.
        name: What was judged: ``encoder``, ``untrained`` or ``pixels``.
    """
    result = evaluation["results"].get(name, {})
    return {
        kind: float(result[kind]["top1"])
        for kind in ("linear", "knn")
        if isinstance(result.get(kind), dict) and "top1" in result[kind]
    }


def online_accuracies(records: list[dict[str, Any]]) -> list[dict[str, float]]:
    """The same of the online evaluations among the records of metrics.jsonl, oldest first."""
    found = []
    for record in records:
        if record.get("event") == "online":
            values = {
                kind: float(value)
                for kind in ("linear", "knn")
                for name, value in record.items()
                if name in (kind, f"{kind}_top1") and isinstance(value, int | float)
            }
            found.append(values)
    return [values for values in found if values]


def _state(folder: RunFolder, known: dict[str, Any]) -> State:
    """Whether the run goes on, is over, or can go on."""
    if folder.busy():
        return "running"
    if known["epochs_done"] >= known["epochs"]:
        return "finished"
    return "resumable" if any(folder.checkpoints.glob("checkpoint-*.pt")) else "died"


def _active(path: Path) -> str:
    """When something of the run was last written."""
    names = ("metrics.jsonl", "checkpoints", "encoder.safetensors", "config.json")
    return written(*(path / name for name in names if (path / name).exists()))


def written(*files: Path) -> str:
    """When the last of some files was written, UTC."""
    moment = datetime.fromtimestamp(max((file.stat().st_mtime for file in files), default=0), UTC)
    return moment.isoformat(sep=" ", timespec="minutes").removesuffix("+00:00")
