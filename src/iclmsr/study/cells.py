# SPDX-License-Identifier: Apache-2.0
"""The runs of a study, each made and judged once, and the rows that they give."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from iclmsr.config import PretrainConfig, encode
from iclmsr.encoders import LoadedEncoder, load_encoder
from iclmsr.errors import Diverged
from iclmsr.files import read_json, write_json
from iclmsr.grid import check_same, finish
from iclmsr.runs import RunFolder, environment

Judge = Callable[[LoadedEncoder], dict[str, Any]]

VERSION = 2
"""Of what judges say: a cell that was judged by another one's definitions is judged anew."""


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
    check: Callable[[], object],
    about: Mapping[str, Any] | None = None,
    derive: Callable[[Sequence[Mapping[str, Any]]], Mapping[str, Any]] = lambda rows: {},
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Trains and judges what is not there yet, and writes ``out/<file>`` after each cell.

    Stopped at any point, it goes on from there when called again. Several processes may share
    the work: a cell that another one is at is left to it. A cell whose run diverges has failed:
    what was wrong is kept, in its folder too, and it is left alone until that is removed.

    Args:
        cells: The runs.
        out: The study's folder; runs lie in ``out/cells``.
        study: Its name.
        file: Name of the study's file.
        judged: Name of the file in a run folder that keeps what its judge said.
        settings: The judge's config; another one judges anew.
        judge: What to do with a cell's encoder; its dict becomes part of the row.
        check: Called once before anything is trained or judged; raises where the data will not
            do for the judge.
        about: Further fields of the study's file.
        derive: Makes further ones of its rows.
        say: Takes a line about what is under way.

    Returns:
        What the file holds: ``study``, ``settings``, ``rows``, ``missing`` names of cells,
        ``failed``, what was wrong by the name of a cell, ``environment``.

    Raises:
        IclmsrError: What stands in the way of other cells, too: data, the disk, a run that was
            made with other settings, an interruption. As :func:`iclmsr.pretrain.pretrain`.
    """
    head = {"study": study, **(about or {}), "settings": encode(settings)}
    write = partial(_write, out / file, head, cells, judged, settings, derive)
    places = [out / "cells" / cell.name for cell in cells]
    if not all(_said(folder / judged, settings) for folder in places):
        check()
    for number, (cell, folder) in enumerate(zip(cells, places, strict=True), 1):
        say(f"{number} of {len(cells)}: {cell.name}")
        known = _said(folder / judged, settings)
        if known is None:
            found = _judged(cell, folder, judge, say)
            if found is None:
                continue
            write_json(folder / judged, {**_terms(settings), **found})
        else:
            check_same(cell.config, folder)
            if "failed" in known:
                say(f"{cell.name} has failed before: remove {folder} to try again")
        write()
    return write()


def _judged(
    cell: Cell, folder: Path, judge: Callable[[Cell], Judge], say: Callable[[str], None]
) -> dict[str, Any] | None:
    """What is said of a cell, made first where it is not; None while another process is at it."""
    try:
        if finish(cell.config, folder) == "busy":
            say(f"{cell.name} is being made by another process")
            return None
        return judge(cell)(load_encoder(folder))
    except Diverged as error:
        say(f"{cell.name} has failed: {error}")
        return {"failed": str(error)}


def _terms(settings: Any) -> dict[str, Any]:
    """What must be the same for what was said of a cell to hold."""
    return {"version": VERSION, "settings": encode(settings)}


def _said(path: Path, settings: Any) -> dict[str, Any] | None:
    """What a judge with these settings said of a cell, or None."""
    known: dict[str, Any] = read_json(path) if path.exists() else {}
    terms = _terms(settings)
    holds = {name: known.pop(name, None) for name in terms} == terms
    return known if holds else None


def _write(
    file: Path,
    head: dict[str, Any],
    cells: Sequence[Cell],
    judged: str,
    settings: Any,
    derive: Callable[[Sequence[Mapping[str, Any]]], Mapping[str, Any]],
) -> dict[str, Any]:
    """The study's file as far as it is, whoever made the cells."""
    rows, missing, failed = [], [], {}
    for cell in cells:
        folder = file.parent / "cells" / cell.name
        known = _said(folder / judged, settings)
        if known is None:
            missing.append(cell.name)
            continue
        if "failed" in known:
            failed[cell.name] = known["failed"]
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
    value = {
        **head,
        **derive(rows),
        "rows": rows,
        "missing": missing,
        "failed": failed,
        "environment": environment(min(seeds)),
    }
    write_json(file, value)
    return value
