# SPDX-License-Identifier: Apache-2.0
"""What a report knows of runs and studies."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iclmsr.errors import IclmsrError
from iclmsr.files import read_json
from iclmsr.report.status import Status, find_runs, status
from iclmsr.runs import RunFolder


@dataclass(frozen=True)
class Run:
    """One run folder, read.

    Attributes:
        name: What the report calls it; no two runs have the same.
        status: How it stands.
        config: config.json.
        environment: environment.json.
        records: metrics.jsonl.
        evaluation: evaluation.json, or None.
        weights: weights.jsonl.
        gallery: gallery/gallery.json, or None.
        backgrounds: backgrounds.json, the background challenge of its encoder, or None.
    """

    name: str
    status: Status
    config: dict[str, Any]
    environment: dict[str, Any]
    records: list[dict[str, Any]]
    evaluation: dict[str, Any] | None
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


def collect(paths: Sequence[Path]) -> tuple[list[Run], list[Study]]:
    """Runs and studies in what the user named: run folders, studies, or folders of them.

    Raises:
        IclmsrError: A path with neither, or a run that cannot be read.
    """
    folders: dict[Path, Path] = {}
    studies = []
    for path in paths:
        found = find_runs(path)
        results = _results(path)
        if results:
            studies.append(Study(path, results, tuple(sorted(path.glob("*.png")))))
        elif not found:
            raise IclmsrError(f"{path} holds neither a run nor a study: pass a run folder")
        for run in found:
            folders.setdefault(run.resolve(), run)
    names = _names(list(folders.values()))
    return [_read(run, name) for run, name in zip(folders.values(), names, strict=True)], studies


def _results(path: Path) -> dict[str, dict[str, Any]]:
    """What the studies in a folder found, by file."""
    if (path / "config.json").is_file():
        return {}
    values = {file.name: read_json(file) for file in sorted(path.glob("*.json"))}
    return {
        name: value
        for name, value in values.items()
        if isinstance(value, dict) and "study" in value and isinstance(value.get("rows"), list)
    }


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
        raise IclmsrError(f"{path} cannot be read: {known.note}")
    folder = RunFolder(path)
    return Run(
        name=name,
        status=known,
        config=folder.config(),
        environment=read_json(path / "environment.json"),
        records=folder.metrics(),
        evaluation=_if_there(path / "evaluation.json"),
        weights=folder.weights.records(),
        gallery=_if_there(path / "gallery" / "gallery.json"),
        backgrounds=_if_there(path / "backgrounds.json"),
    )


def _if_there(path: Path) -> Any:
    """What a JSON file holds, None where there is none."""
    return read_json(path) if path.is_file() else None
