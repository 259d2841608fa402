# SPDX-License-Identifier: Apache-2.0
"""What a report knows of runs, studies and the reproduced table."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from iclmsr.errors import IclmsrError
from iclmsr.files import read_json
from iclmsr.report.status import Status, find_runs, status, written
from iclmsr.runs import RunFolder

TABLE = "table.json"
"""What `iclmsr reproduce table` leaves in a folder of runs."""


@dataclass(frozen=True)
class Run:
    """One run folder, read.

    Attributes:
        name: What the report calls it; no two runs have the same.
        status: How it stands.
        config: config.json.
        environment: environment.json.
        records: metrics.jsonl.
        evaluations: evaluation.json and then evaluation-*.json, of other data, as far as there are.
        weights: weights.jsonl.
        gallery: gallery/gallery.json, or None.
        backgrounds: backgrounds.json, the background challenge of its encoder, or None.
    """

    name: str
    status: Status
    config: dict[str, Any]
    environment: dict[str, Any]
    records: list[dict[str, Any]]
    evaluations: tuple[dict[str, Any], ...]
    weights: list[dict[str, Any]]
    gallery: dict[str, Any] | None
    backgrounds: dict[str, Any] | None

    @property
    def path(self) -> Path:
        """The folder."""
        return self.status.path

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Records of one kind, as ``epoch``, oldest first."""
        return [record for record in self.records if record.get("event") == kind]


@dataclass(frozen=True)
class Study:
    """A folder with the results of a study.

    Attributes:
        path: The folder.
        results: What each of its files holds, by name: an object with ``rows`` and the name
            of the ``study``: ``four-settings``, ``comparison`` or ``sweep...``.
        pictures: PNG files that lie in it.
    """

    path: Path
    results: dict[str, dict[str, Any]]
    pictures: tuple[Path, ...]


@dataclass(frozen=True)
class PaperTable:
    """The paper's table with ours beside it, as `iclmsr reproduce table` left it.

    Attributes:
        folder: Of the runs in it.
        written: When, UTC.
        value: What table.json holds.
    """

    folder: Path
    written: str
    value: dict[str, Any]


@dataclass
class Found:
    """What lies in the folders that the user named.

    Attributes:
        runs: Run folders.
        studies: Studies.
        tables: Reproduced tables.
        unreadable: Whatever else should have been one of these, and why it is not.
    """

    runs: list[Run] = field(default_factory=list)
    studies: list[Study] = field(default_factory=list)
    tables: list[PaperTable] = field(default_factory=list)
    unreadable: dict[Path, str] = field(default_factory=dict)

    def places(self) -> set[Path]:
        """Folders of everything but runs."""
        studies = {study.path for study in self.studies}
        return (
            studies | {table.folder for table in self.tables} | {p.parent for p in self.unreadable}
        )


def collect(paths: Sequence[Path]) -> Found:
    """What the user named: run folders, studies, reproduced tables, or folders of runs.

    Raises:
        IclmsrError: A path with none of them, or nothing at all that can be read.
    """
    found = Found()
    runs: dict[Path, Path] = {}
    for path in paths:
        below = find_runs(path)
        for run in below:
            runs.setdefault(run.resolve(), run)
        if path not in below:
            _read_studies(path, found)
        for folder in dict.fromkeys([path, *(run.parent for run in below)]):
            if folder.is_relative_to(path):
                _read_table(folder, found)
        if not below and path not in found.places():
            raise IclmsrError(f"{path} holds neither a run nor a study: pass a run folder")
    for run, name in zip(runs.values(), _names([*runs.values()]), strict=True):
        try:
            found.runs.append(_read(run, name))
        except IclmsrError as error:
            found.unreadable[run] = str(error)
    if found.unreadable and not (found.runs or found.studies or found.tables):
        path, why = next(iter(found.unreadable.items()))
        raise IclmsrError(f"{path} cannot be read: {why}")
    return found


def _read_studies(path: Path, found: Found) -> None:
    """What the studies in a folder found, by file."""
    results = {}
    for file in sorted(path.glob("*.json")):
        try:
            value = read_json(file)
        except IclmsrError as error:
            found.unreadable[file] = str(error)
            continue
        if isinstance(value, dict) and "study" in value and isinstance(value.get("rows"), list):
            results[file.name] = value
    if results:
        found.studies.append(Study(path, results, tuple(sorted(path.glob("*.png")))))


def _read_table(folder: Path, found: Found) -> None:
    """The reproduced table in a folder, if there is one that is not known yet."""
    file = folder / TABLE
    known = [table.folder.resolve() for table in found.tables]
    if not file.is_file() or folder.resolve() in known:
        return
    try:
        value = read_json(file)
    except IclmsrError as error:
        found.unreadable[file] = str(error)
        return
    if isinstance(value, dict) and {"lines", "gains", "protocols"} <= value.keys():
        found.tables.append(PaperTable(folder, written(file), value))


def _names(paths: Sequence[Path]) -> list[str]:
    """The shortest ends of paths that tell them apart."""
    parts = [path.resolve().parts for path in paths]
    for length in range(1, max(map(len, parts), default=1) + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def _read(path: Path, name: str) -> Run:
    """One run."""
    known = status(path)
    if known.state == "damaged":
        raise IclmsrError(known.note)
    folder = RunFolder(path)
    others = [read_json(file) for file in sorted(path.glob("evaluation-*.json"))]
    judged = [_if_there(path / "evaluation.json"), *others]
    return Run(
        name=name,
        status=known,
        config=folder.config(),
        environment=read_json(path / "environment.json"),
        records=folder.metrics(),
        evaluations=tuple(one for one in judged if isinstance(one, dict) and "results" in one),
        weights=folder.weights.records(),
        gallery=_if_there(path / "gallery" / "gallery.json"),
        backgrounds=_if_there(path / "backgrounds.json"),
    )


def _if_there(path: Path) -> Any:
    """What a JSON file holds, None where there is none."""
    return read_json(path) if path.is_file() else None
