# SPDX-License-Identifier: Apache-2.0
"""The runs of a study, each made and judged once, and the rows that they give."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from iclmsr.config import PretrainConfig, encode
from iclmsr.encoders import LoadedEncoder, load_encoder
from iclmsr.files import read_json, write_json
from iclmsr.grid import finish
from iclmsr.runs import RunFolder, environment

Judge = Callable[[LoadedEncoder], dict[str, Any]]


@dataclass(frozen=True)
class Cell:
    """One run of a study.

    Attributes:
        base: The recipe that it started from.
        arm: What was changed.
        config: The whole run; its seed is the row's.
        more: Further fields of the row, as ``train`` or ``value``.
        named: Whether they are part of the folder's name; cells of one name share a run.
    """

    base: str
    arm: str
    config: PretrainConfig
    more: dict[str, Any] = field(default_factory=dict)
    named: bool = True

    @property
    def name(self) -> str:
        """The name of its run folder."""
        more = map(str, self.more.values() if self.named else ())
        return "_".join([self.base, self.arm, *more, f"seed-{self.config.seed}"])


def run_cells(
    cells: Sequence[Cell],
    out: Path,
    *,
    study: str,
    file: str,
    judged: str,
    settings: Any,
    judge: Callable[[Cell], Judge],
    about: Mapping[str, Any] | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Trains and judges what is not there yet, and writes ``out/<file>`` after each cell.

    Stopped at any point, it goes on from there when called again. Several processes may share
    the work: a cell that another one is at is left to it.

    Args:
        cells: The runs.
        out: The study's folder; runs lie in ``out/cells``.
        study: Its name.
        file: Name of the study's file.
        judged: Name of the file in a run folder that keeps what its judge said.
        settings: The judge's config; another one judges anew.
        judge: What to do with a cell's encoder; its dict becomes part of the row.
        about: Further fields of the study's file.
        say: Takes a line about what is under way.

    Returns:
        What the file holds: ``study``, ``settings``, ``rows``, ``missing`` names of cells,
        ``environment``.

    Raises:
        IclmsrError: A run cannot be made, or was made with other settings. As
            :func:`iclmsr.pretrain.pretrain`.
    """
    head = {"study": study, **(about or {}), "settings": encode(settings)}
    for number, cell in enumerate(cells, 1):
        folder = out / "cells" / cell.name
        say(f"{number} of {len(cells)}: {cell.name}")
        if finish(cell.config, folder) == "busy":
            say(f"{cell.name} is being made by another process")
            continue
        if _said(folder / judged, settings) is None:
            found = judge(cell)(load_encoder(folder))
            write_json(folder / judged, {"settings": encode(settings), **found})
        _write(out / file, head, cells, judged, settings)
    return _write(out / file, head, cells, judged, settings)


def _said(path: Path, settings: Any) -> dict[str, Any] | None:
    """What a judge with these settings said of a cell, or None."""
    known: dict[str, Any] = read_json(path) if path.exists() else {}
    return known if known.pop("settings", None) == encode(settings) else None


def _write(
    file: Path, head: dict[str, Any], cells: Sequence[Cell], judged: str, settings: Any
) -> dict[str, Any]:
    """The study's file as far as it is, whoever made the cells."""
    rows, missing = [], []
    for cell in cells:
        folder = file.parent / "cells" / cell.name
        known = _said(folder / judged, settings)
        if known is None:
            missing.append(cell.name)
            continue
        epochs = [record for record in RunFolder(folder).metrics() if record["event"] == "epoch"]
        rows.append(
            {
                "base": cell.base,
                "arm": cell.arm,
                "seed": cell.config.seed,
                **cell.more,
                "run": folder.relative_to(file.parent).as_posix(),
                "steps": epochs[-1]["step"],
                "seconds": round(sum(record["seconds"] for record in epochs), 2),
                **known,
            }
        )
    seeds = [cell.config.seed for cell in cells]
    value = {**head, "rows": rows, "missing": missing, "environment": environment(min(seeds))}
    write_json(file, value)
    return value
