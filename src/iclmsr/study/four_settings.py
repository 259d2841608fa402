# SPDX-License-Identifier: Apache-2.0
"""The paper's motivating study: trained on full images or foregrounds, tested on both."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from iclmsr.config import PretrainConfig
from iclmsr.data.sources import load
from iclmsr.data.variants import Variant
from iclmsr.encoders import LoadedEncoder
from iclmsr.study.arms import arm
from iclmsr.study.backgrounds import BackgroundsConfig, Judge, needed_images
from iclmsr.study.cells import Cell, run_cells
from iclmsr.study.measures import accuracy, interactions
from iclmsr.study.rows import file_of

KINDS: dict[str, Variant] = {"full": "original", "foreground": "only_fg"}
"""What is trained and tested on."""


def four_settings(
    bases: Mapping[str, PretrainConfig],
    arms: Sequence[str],
    seeds: Sequence[int],
    out: Path,
    settings: BackgroundsConfig,
    *,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Settings 1 to 4 for every base method and arm, over seeds.

    An encoder, and the classifiers of its features, learn from one kind of images, full or
    foreground only, and are tested on both.

    Args:
        bases: Each base method's run by name.
        arms: Names in :data:`iclmsr.study.arms.ARMS`.
        seeds: Of the runs.
        out: The study's folder; ``study.json`` in it holds the rows, ``study-val.json`` those of
            the split val.
        settings: Data, split, filler and classifiers.
        say: Takes a line about what is under way.

    Returns:
        As :func:`iclmsr.study.cells.run_cells`; a row's ``train`` is what it was trained on, its
        ``results`` are by what it was tested on and classifier, top-1 in percent. Also
        ``interactions``, see :func:`iclmsr.study.measures.interactions`.

    Raises:
        IclmsrError: No masks, or as :func:`iclmsr.study.cells.run_cells`.

    Source: ICL-MSR, section 1. Departure: any data set with masks instead of COCO.
    """
    cells = []
    for seed in seeds:
        for name in arms:
            for base, config in bases.items():
                for train, variant in KINDS.items():
                    data = replace(config.data, variant=variant)
                    run = replace(arm(name, config), seed=seed, data=data)
                    cells.append(Cell(base, name, run, {"train": train}))

    def judge(cell: Cell) -> Callable[[LoadedEncoder], dict[str, Any]]:
        return lambda encoder: {"results": _judge(encoder, cell.config.data.variant, settings)}

    return run_cells(
        cells,
        out,
        study="four-settings",
        file=file_of("study", settings.split),
        judged=f"four-settings-{settings.split}.json",
        settings=settings,
        judge=judge,
        check=lambda: needed_images(settings),
        derive=lambda rows: {"interactions": interactions(rows)},
        about={"filler": settings.data.filler},
        say=say,
    )


def _judge(
    encoder: LoadedEncoder, trained: Variant, settings: BackgroundsConfig
) -> dict[str, dict[str, float]]:
    """Accuracies of an encoder on full images and on foregrounds."""
    shown = {kind: replace(settings.data, variant=variant) for kind, variant in KINDS.items()}
    judge = Judge(encoder, load(replace(settings.data, variant=trained), "train"), settings)
    results = {}
    for kind, data in shown.items():
        right = judge.correct(judge.features(load(data, settings.split)))
        results[kind] = {name: accuracy(hits) for name, hits in right.items()}
    return results
