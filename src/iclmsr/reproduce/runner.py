# SPDX-License-Identifier: Apache-2.0
"""Making the cells of the grid: each once, by whichever process comes first."""

import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from iclmsr.config import PretrainConfig
from iclmsr.data.archives import find_official
from iclmsr.data.sources import OFFICIAL, open_split
from iclmsr.distributed.world import launched
from iclmsr.errors import IclmsrError
from iclmsr.evaluate import PROTOCOL, EvaluateConfig, evaluate
from iclmsr.evaluate.settings import VERSIONS, own_data, settings_of
from iclmsr.files import write_json
from iclmsr.grid import finish
from iclmsr.interruption import Interrupted, stop_at_once
from iclmsr.neutral import telling
from iclmsr.reproduce.cells import Cell
from iclmsr.runs import Busy, RunFolder

SOURCE = "source.json"
"""In a cell's run folder: how its data lay when it was run."""


def reproduce(
    cells: Sequence[Cell],
    out: Path,
    again: str,
    *,
    changed: Callable[[], object] = lambda: None,
    say: Callable[[str], None] = print,
) -> None:
    """Makes the cells that are not there yet, each a run folder in ``out`` that is judged.

    Any number of processes and machines that share ``out`` may do the same at once: a cell
    belongs to who holds the lock of its folder. A process ends when nothing is left that is not
    finished or in other hands.

    Args:
        cells: What to make.
        out: The folder of run folders.
        again: The command that goes on with the grid, for messages.
        changed: Called whenever a cell has been finished.
        say: Takes a line about what is under way.

    Raises:
        IclmsrError: Data that cannot be read, before anything is run; or at the end, if cells
            failed. :class:`Interrupted` on SIGTERM or SIGINT.
    """
    world, _ = launched(os.environ)
    if world.size > 1:
        raise IclmsrError(
            f"reproduce makes one cell per process, but was started as one of {world.size} that "
            "train together: start it without torchrun, once for each GPU"
        )
    sources = _sources([cell for cell in cells if not _finished(cell, out)], say)
    failed: dict[str, IclmsrError] = {}
    while True:  # what was in other hands may be free by the next round
        left = [c for c in cells if c.folder not in failed and not _finished(c, out)]
        made = 0
        for cell in left:
            done = sum(_finished(each, out) for each in cells)
            try:
                with stop_at_once():
                    own = _make(cell, out, sources[cell.dataset], say)
                if own:
                    made += 1
                    say(f"{cell.folder} is finished, with {done} before it of {len(cells)}")
                    changed()
            except (Interrupted, KeyboardInterrupt) as stop:
                number = stop.exit_code - 128 if isinstance(stop, Interrupted) else signal.SIGINT
                raise Interrupted(
                    number,
                    f"stopped in {out / cell.folder}, {done} of {len(cells)} cells are finished; "
                    f"go on with: {again}",
                ) from stop
            except IclmsrError as error:
                failed[cell.folder] = error
                say(f"error: {cell.folder}: {error}")
        if not made:
            break
    busy = [c for c in cells if c.folder not in failed and not _finished(c, out)]
    if busy:
        say(f"{len(busy)} of {len(cells)} cells are in the hands of other processes")
    if failed:
        first, reason = next(iter(failed.items()))
        raise IclmsrError(
            f"{len(failed)} of {len(cells)} cells failed, {first} first: {reason}; "
            f"the others are done, try these again with: {again}"
        )


def _finished(cell: Cell, out: Path) -> bool:
    """Whether the cell's encoder has been judged after its last epoch."""
    return judged(out / cell.folder, cell.config)


def judged(run: Path, config: PretrainConfig) -> bool:
    """Whether a run folder holds the table's judgement of its encoder, as it is after the run.

    Args:
        run: The folder; there need be none.
        config: The run's.

    Returns:
        Whether evaluation.json is of the last epoch, by the protocol w-mse-2021 with nothing
        changed, in its present version, and on all images of the run's data.
    """
    report = RunFolder(run).evaluation()
    if report is None:
        return False
    own = settings_of(own_data(config.data))
    data = telling({"data": report.get("config", {}).get("data", {})})
    return (
        report.get("epoch") == config.epochs
        and report.get("protocol") == PROTOCOL
        and report.get("protocol_version", 1) == VERSIONS[PROTOCOL]
        and data.items() <= own.items()  # an old report lacks options that there were not
    )


def _make(cell: Cell, out: Path, source: dict[str, object], say: Callable[[str], None]) -> bool:
    """Pretrains and judges one cell from where it stands, unless it is in other hands."""
    run = out / cell.folder
    if not _finished(cell, out):
        say(f"{cell.folder}: {cell.config.epochs} epochs")
    if finish(cell.config, run) == "busy":
        return False
    try:
        with RunFolder.open(run).lock():
            if _finished(cell, out):
                return False
            write_json(run / SOURCE, source)
            data = own_data(cell.config.data)
            evaluate(run, EvaluateConfig(device=cell.config.device, data=data), say=say)
    except Busy:
        return False
    return True


def _sources(cells: Sequence[Cell], say: Callable[[str], None]) -> dict[str, dict[str, object]]:
    """How each data set lies, for source.json; all of them are read, so that none fails later."""
    found: dict[str, dict[str, object]] = {}
    for cell in cells:
        if cell.dataset in found:
            continue
        data = replace(cell.config.data, limit=None)
        counts = {split: len(open_split(data, split)) for split in ("pretrain", "train", "test")}
        assert isinstance(data.root, Path)
        official = find_official(data.root, OFFICIAL[cell.dataset]) is not None
        found[cell.dataset] = {"form": "official" if official else "folder", "images": counts}
        kind = "official files" if official else "images by class"
        say(
            f"{cell.dataset}: {kind} in {data.root}, {counts['pretrain']:,} images to pretrain on, "
            f"{counts['train']:,} to learn classes from, {counts['test']:,} to test on"
        )
    return found
