# SPDX-License-Identifier: Apache-2.0
"""Base methods with and without what is compared, over seeds; and sweeps of one setting."""

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from iclmsr.config import PretrainConfig, decode, encode
from iclmsr.encoders import LoadedEncoder
from iclmsr.errors import IclmsrError, nearest
from iclmsr.study.arms import arm
from iclmsr.study.backgrounds import BackgroundsConfig, challenge, needed_images
from iclmsr.study.cells import Cell, run_cells


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
        out: The study's folder; ``comparison.json`` in it holds the rows.
        settings: How encoders are judged.
        time_ratio: See :func:`iclmsr.study.arms.arm`.
        say: Takes a line about what is under way.

    Raises:
        IclmsrError: An unknown arm, before anything is trained. As
            :func:`iclmsr.study.cells.run_cells`.
    """
    cells = [
        Cell(base, name, _seeded(arm(name, config, time_ratio=time_ratio), seed))
        for seed in seeds
        for name in arms
        for base, config in bases.items()
    ]
    return _run(cells, out, "comparison", settings, say)


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
    the arm as it is.

    Args:
        bases: Each base method's run by name.
        arm_name: The arm whose setting varies.
        axis: A field of the config as on the command line, ``msr.loss-weight``.
        values: Its values.
        seeds: Of the runs.
        out: The study's folder; ``sweep-AXIS.json`` in it holds the rows.
        settings: How encoders are judged.
        say: Takes a line about what is under way.

    Raises:
        IclmsrError: No such field, or a value that it does not take, before anything is trained.
    """
    cells = [
        Cell(base, "plain", _seeded(arm("plain", config), seed))
        for seed in seeds
        for base, config in bases.items()
    ]
    for seed, value in product(seeds, values):
        for base, config in bases.items():
            as_it_is = _seeded(arm(arm_name, config), seed)
            changed = with_field(as_it_is, axis, value)
            more = {"axis": axis, "value": value}
            cells.append(Cell(base, arm_name, changed, more, named=changed != as_it_is))
    return _run(cells, out, f"sweep-{axis}", settings, say, {"axis": axis})


def with_field(config: PretrainConfig, axis: str, value: Any) -> PretrainConfig:
    """The config with the field that ``axis`` names set to a value.

    Args:
        config: Any.
        axis: As on the command line: names joined by dots, dashes for underscores.
        value: What it is set to.

    Raises:
        IclmsrError: No such field, or a value that it does not take.

    >>> with_field(PretrainConfig(), "msr.loss-weight", 3.0).msr.loss_weight
    3.0
    """
    tree = encode(config)
    place = tree
    *groups, last = axis.replace("-", "_").split(".")
    for name in (*groups, last):
        if not isinstance(place, dict) or name not in place:
            known = sorted(place) if isinstance(place, dict) else []
            raise IclmsrError(f"unknown field {axis!r}: {nearest(name, known)}")
        if name is not last:
            place = place[name]
    place[last] = value
    return decode(PretrainConfig, tree)


def _seeded(config: PretrainConfig, seed: int) -> PretrainConfig:
    """The same run with another seed; the data stay."""
    return with_field(config, "seed", seed)


def _run(
    cells: Sequence[Cell],
    out: Path,
    study: str,
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
        file=f"{study}.json",
        judged=f"backgrounds-{settings.split}.json",
        settings=settings,
        judge=lambda cell: judge,
        check=lambda: needed_images(settings),
        about=about,
        say=say,
    )
