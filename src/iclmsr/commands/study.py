# SPDX-License-Identifier: Apache-2.0
"""``iclmsr study COMMAND ...``: how much encoders lean on background."""

import json
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iclmsr.errors import IclmsrError
from iclmsr.options import Parser, Verb, group, parse_options

if TYPE_CHECKING:
    from iclmsr.config import PretrainConfig
    from iclmsr.study.backgrounds import BackgroundsConfig


def _backgrounds(words: list[str]) -> None:
    """Judge an encoder on the images with backgrounds taken or exchanged.

    usage: iclmsr study backgrounds RUN_OR_ENCODER [--out FILE.json] [--split val] [--data....]

    Needs foreground masks (--data.masks; embedded data have them). A linear probe and 5-nn learn
    from the training images as they are, and are tested on every variant of ImageNet-9. Prints
    accuracies, BG-gap, the drop to foregrounds alone, the worst group and what of the embeddings
    goes with the background; writes all of it to FILE.json, backgrounds.json in the run unless
    given. The data are those that a run was pretrained on, or what --data... options name.
    """
    if not words or words[0].startswith("-"):
        raise IclmsrError("study backgrounds needs an encoder: iclmsr study backgrounds RUN")
    source = words.pop(0)
    parser = Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("--out", type=Path)
    known, rest = parser.parse_known_args(words)

    from iclmsr.encoders import load_encoder
    from iclmsr.files import write_json
    from iclmsr.study.backgrounds import BackgroundsConfig, challenge
    from iclmsr.study.show import show_backgrounds

    is_run = (Path(source) / "config.json").is_file()
    default = _settings_of(source)
    settings = parse_options(BackgroundsConfig, default, rest)
    found = challenge(load_encoder(source), settings)
    show_backgrounds(found)
    out = known.out or (Path(source) / "backgrounds.json" if is_run else Path("backgrounds.json"))
    write_json(out, found)
    print(f"wrote {out}")


def _four_settings(words: list[str]) -> None:
    """Train on full images and on foregrounds, test on both; base methods with and without MSR.

    usage: iclmsr study four-settings --recipe NAME [NAME ...] [--seeds 0 1 2] [--out FOLDER]
                                      [--split val] [options of `iclmsr pretrain`]

    RECIPE names base methods, as simclr-synthetic. The images need masks; --data.filler says what
    is behind a foreground alone. Every run is kept in FOLDER/cells and made once: stopped, the
    same command goes on. Writes study.json, study.md and two figures into FOLDER, which is
    runs/four-settings unless given.
    """
    known, bases, settings = _study(words, "four-settings")

    from iclmsr.study.four_settings import four_settings

    four_settings(bases, known.arms or ["plain", "msr"], known.seeds, known.out, settings)
    _render(known.out)


def _compare(words: list[str]) -> None:
    """Compare MSR, its ablations and background augmentations, over seeds.

    usage: iclmsr study compare --recipe NAME [NAME ...] --arms ARM [ARM ...] [--seeds 0 1 2]
                                [--time-ratio R] [--split val] [--out FOLDER]
                                [options of `iclmsr pretrain`]

    ARM: plain, msr; its ablations msr-frozen, msr-joint, msr-one-stratum, msr-fresh, msr-same,
    msr-no-loss; with masks, bg-remove, bg-random, bg-swaps; and plain-equal-time, the base method
    for R times as many epochs. Every run is kept in FOLDER/cells and made once. Writes
    comparison.json, comparison.md and a figure.
    """
    known, bases, settings = _study(words, "comparison")
    if not known.arms:
        raise IclmsrError("study compare needs --arms, as --arms plain msr")

    from iclmsr.study.comparison import compare

    compare(bases, known.arms, known.seeds, known.out, settings, time_ratio=known.time_ratio)
    _render(known.out)


def _sweep(words: list[str]) -> None:
    """Vary one setting of an arm.

    usage: iclmsr study sweep --recipe NAME [NAME ...] --axis FIELD --values V [V ...]
                              [--arms msr] [--seeds 0 1 2] [--split val] [--out FOLDER]
                              [options of `iclmsr pretrain`]

    FIELD is an option of `iclmsr pretrain`, as msr.loss-weight, msr.strata, msr.temperature,
    msr.every-steps or msr.lr. Choose on --split val. Writes sweep-FIELD.json and a figure.
    """
    known, bases, settings = _study(words, "sweep")
    if known.axis is None or not known.values:
        raise IclmsrError("study sweep needs --axis FIELD and --values, as --values 0.1 1 10")

    from iclmsr.study.comparison import sweep

    arm = (known.arms or ["msr"])[0]
    values = [_value(word) for word in known.values]
    sweep(bases, arm, known.axis, values, known.seeds, known.out, settings)
    _render(known.out)


def _pictures(words: list[str]) -> None:
    """Draw what encoders see: nearest neighbours, maps of similarity, the variants.

    usage: iclmsr study pictures NAME=RUN_OR_ENCODER [NAME=...] [--out FOLDER] [--split val]
                                 [--data....]

    As plain=runs/plain-0 MSR=runs/msr-0. The data are those of the first run, or what --data...
    options name; they need masks. Writes neighbours.png, saliency.png (what the similarity of
    views rests on, on the image and on other backgrounds: Grad-CAM, or occlusion where the last
    map of a ResNet is small and for other encoders), variants.png and
    pictures.json into FOLDER, runs/pictures unless given.
    """
    named = [word for word in words if "=" in word and not word.startswith("-")]
    if not named or words[: len(named)] != named:
        raise IclmsrError(
            "study pictures begins with encoders, as plain=runs/plain-0 MSR=runs/msr-0, "
            f"got {words[0] if words else 'nothing'!r}"
        )
    parser = Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("--out", type=Path, default=Path("runs/pictures"))
    known, rest = parser.parse_known_args(words[len(named) :])

    from iclmsr.encoders import load_encoder
    from iclmsr.study.backgrounds import BackgroundsConfig
    from iclmsr.study.pictures import draw_pictures

    places = dict(word.split("=", 1) for word in named)
    default = _settings_of(next(iter(places.values())))
    settings = parse_options(BackgroundsConfig, default, rest)
    encoders = {name: load_encoder(place) for name, place in places.items()}
    for name, numbers in draw_pictures(encoders, settings, known.out).items():
        print(f"{name}: {json.dumps(numbers)}")
    print(f"wrote neighbours.png, saliency.png, variants.png and pictures.json to {known.out}")


def _show(words: list[str]) -> None:
    """Print a study as far as it is, and draw its figures anew: iclmsr study show FOLDER."""
    if len(words) != 1:
        raise IclmsrError("study show needs the folder of a study: iclmsr study show FOLDER")
    _render(Path(words[0]))


COMMANDS: dict[str, Verb] = {
    "four-settings": _four_settings,
    "backgrounds": _backgrounds,
    "compare": _compare,
    "sweep": _sweep,
    "pictures": _pictures,
    "show": _show,
}


def study_command(words: list[str]) -> None:
    """Show how much encoders lean on background: iclmsr study COMMAND ..."""
    group("study", COMMANDS, words)


def _study(
    words: Sequence[str], name: str
) -> tuple[Namespace, "dict[str, PretrainConfig]", "BackgroundsConfig"]:
    """What the studies of several runs are asked for with."""
    parser = Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("--recipe", nargs="+", default=[])
    parser.add_argument("--arms", nargs="+", default=[])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--split", choices=("test", "val"), default="test")
    parser.add_argument("--time-ratio", type=float)
    parser.add_argument("--axis")
    parser.add_argument("--values", nargs="+", default=[])
    parser.add_argument("--out", type=Path, default=Path("runs") / name)
    known, rest = parser.parse_known_args(words)
    if not known.recipe:
        raise IclmsrError(f"study {name} needs --recipe NAME, as --recipe simclr-synthetic")

    from dataclasses import replace

    from iclmsr.config import PretrainConfig
    from iclmsr.recipes import recipe
    from iclmsr.study.backgrounds import BackgroundsConfig

    bases: dict[str, PretrainConfig] = {}
    for one in known.recipe:
        config = parse_options(PretrainConfig, recipe(one).config, rest)
        bases[config.method.name] = config
    data = replace(next(iter(bases.values())).data, limit=None)
    return known, bases, BackgroundsConfig(split=known.split, data=data)


def _value(word: str) -> Any:
    """A word as the JSON value that it is, or as itself."""
    try:
        return json.loads(word)
    except ValueError:
        return word


def _settings_of(source: str) -> "BackgroundsConfig":
    """The data that a run was pretrained on, with masks; of another encoder, none are known."""
    from dataclasses import replace

    from iclmsr.config import PretrainConfig, decode
    from iclmsr.runs import RunFolder
    from iclmsr.study.backgrounds import BackgroundsConfig

    run = Path(source)
    if not (run / "config.json").is_file():
        return BackgroundsConfig()
    data = decode(PretrainConfig, RunFolder.open(run).config()).data
    return BackgroundsConfig(data=replace(data, limit=None, variant="original"))


def _render(out: Path) -> None:
    """Tables on the terminal, and tables and figures in the study's folder."""
    from iclmsr.study.show import render

    render(out)
