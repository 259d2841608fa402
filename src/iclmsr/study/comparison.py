# SPDX-License-Identifier: Apache-2.0
"""Base methods with and without what is compared, over seeds; and sweeps of one setting."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from iclmsr.config import PretrainConfig
from iclmsr.encoders import LoadedEncoder
from iclmsr.errors import IclmsrError
from iclmsr.study.arms import arm
from iclmsr.study.axis import swept, with_field
from iclmsr.study.backgrounds import BackgroundsConfig, challenge, needed_images
from iclmsr.study.cells import Cell, run_cells
from iclmsr.study.rows import file_of

NOT_PLAINS = ("msr.", "views.background")
"""Settings that begin so mean nothing to the base method alone."""


def compare(
    bases: Mapping[str, PretrainConfig],
    arms: Sequence[str],
    seeds: Sequence[int],
    out: Path,
    settings: BackgroundsConfig,
    *,
    time_ratio: float | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Every base method under every arm, judged by the background challenge.

    Seeds come first, so that a study that is stopped has all arms over fewer seeds.

    Args:
        bases: Each base method's run by name.
        arms: Names in :data:`iclmsr.study.arms.ARMS`.
        seeds: Of the runs; those of two arms with one seed are a pair.
        out: The study's folder; ``comparison.json`` in it holds the rows, ``comparison-val.json``
            those of the split val.
        settings: How encoders are judged.
        time_ratio: See :func:`iclmsr.study.arms.arm`.
        say: Takes a line about what is under way.

    Raises:
        IclmsrError: An unknown arm, before anything is trained. As
            :func:`iclmsr.study.cells.run_cells`.
    """
    cells = [
        Cell(base, name, replace(arm(name, config, time_ratio=time_ratio), seed=seed))
        for seed in seeds
        for name in arms
        for base, config in bases.items()
    ]
    file = file_of("comparison", settings.split)
    return _run(cells, out, "comparison", file, settings, say)


def sweep(
    bases: Mapping[str, PretrainConfig],
    arm_name: str,
    axis: str,
    values: Sequence[Any],
    seeds: Sequence[int],
    out: Path,
    settings: BackgroundsConfig,
    *,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """One setting of an arm over several values, beside ``plain``.

    Sweeps of several settings may share a folder, and with it the runs of ``plain`` and those of
    the arm as it is. Where ``plain`` reads the setting, it has a run for each value, too.

    Args:
        bases: Each base method's run by name.
        arm_name: The arm whose setting varies.
        axis: A field of the config as on the command line, ``msr.loss-weight``.
        values: Its values.
        seeds: Of the runs.
        out: The study's folder; ``sweep-AXIS.json`` in it holds the rows, ``sweep-AXIS-test.json``
            those of the split test, which is not for choosing.
        settings: How encoders are judged.
        say: Takes a line about what is under way.

    Raises:
        IclmsrError: No such field, one that the arm does not read or sets itself, or a value that
            it does not take, before anything is trained.
    """
    plan = []
    for base, config in bases.items():
        _check_free(arm_name, config, axis, values[0])
        for name in dict.fromkeys(("plain", arm_name)):
            run = arm(name, config)
            if name != arm_name and axis.startswith(NOT_PLAINS):
                plan.append(Cell(base, name, run))
                continue
            for value, one in zip(values, swept(run, axis, values), strict=True):
                more = {"axis": axis, "value": value}
                plan.append(Cell(base, name, one, more, named=one != run))
    cells = [
        replace(cell, config=replace(cell.config, seed=seed)) for seed in seeds for cell in plan
    ]
    file = file_of(f"sweep-{axis}", settings.split, usual="val")
    return _run(cells, out, f"sweep-{axis}", file, settings, say, {"axis": axis})


def _check_free(name: str, config: PretrainConfig, axis: str, value: Any) -> None:
    """Raises where an arm sets the field itself."""
    if arm(name, with_field(config, axis, value)) != with_field(arm(name, config), axis, value):
        raise IclmsrError(f"arm {name} sets {axis} itself: sweep it with another arm")


def _run(
    cells: Sequence[Cell],
    out: Path,
    study: str,
    file: str,
    settings: BackgroundsConfig,
    say: Callable[[str], None],
    about: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Trains and judges the cells by the challenge."""

    def judge(encoder: LoadedEncoder) -> dict[str, Any]:
        found = challenge(encoder, settings)
        return {name: found[name] for name in ("results", "measures", "groups")}

    return run_cells(
        cells,
        out,
        study=study,
        file=file,
        judged=f"backgrounds-{settings.split}.json",
        settings=settings,
        judge=lambda cell: judge,
        check=lambda: needed_images(settings),
        about=about,
        say=say,
    )
