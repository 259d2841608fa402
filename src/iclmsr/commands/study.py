# SPDX-License-Identifier: Apache-2.0
"""``iclmsr study COMMAND ...``: how much encoders lean on background."""

import json
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from iclmsr.data.names import printable
from iclmsr.errors import IclmsrError
from iclmsr.options import Parser, Verb, group, only, parse_options, separated

if TYPE_CHECKING:
    from iclmsr.config import PretrainConfig
    from iclmsr.encoders import LoadedEncoder
    from iclmsr.study.backgrounds import BackgroundsConfig


def _backgrounds(words: list[str]) -> None:
    """Judge an encoder on the images with backgrounds taken or exchanged.

    usage: iclmsr study backgrounds RUN_OR_ENCODER [--out FILE.json] [--split val] [--data....]
                                    [--k 5] [--least 10] [--grid 24] [--linear-probe....]

    Needs foreground masks (--data.masks; embedded data have them). A linear probe and 5-nn learn
    from the training images as they are, and are tested on every variant of ImageNet-9. Prints
    accuracies, BG-gap, the drop to foregrounds alone, the worst group and what of the embeddings
    goes with the background; writes all of it to FILE.json: unless given, backgrounds.json in the
    run, or backgrounds-NAME.json here for an encoder that is no run. The data are those that a run
    was pretrained on, or what --data... options name; size, mean and std of another encoder's
    images come with it.
    """
    if not words or words[0].startswith("-"):
        raise IclmsrError("study backgrounds needs an encoder: iclmsr study backgrounds RUN")
    source = words.pop(0)
    known, rest = _options(words, "--out")

    from iclmsr.files import write_json
    from iclmsr.study.backgrounds import challenge
    from iclmsr.study.show import show_backgrounds

    settings, (encoder,) = _judged([source], rest)
    out = known.out or _place(source, encoder.name, settings.split)
    found = challenge(encoder, settings)
    show_backgrounds(found)
    write_json(out, found)
    print(f"wrote {printable(out)}")


def _four_settings(words: list[str]) -> None:
    """Train on full images and on foregrounds, test on both; base methods with and without MSR.

    usage: iclmsr study four-settings --recipe NAME [NAME ...] [--arms plain msr] [--seeds 0 1 2]
                                      [--out FOLDER] [--split val] [--k 5] [--linear-probe....]
                                      [options of `iclmsr pretrain`]

    RECIPE names base methods, as simclr-synthetic; ARMS are those of `iclmsr study compare`. The
    images need masks; --data.filler says what is behind a foreground alone. Every run is kept in
    FOLDER/cells and made once: stopped, the same command goes on. Writes study.json, study.md and
    figures (four-bars.png, base-and-msr.png) into FOLDER, which is runs/four-settings unless
    given; with --split val, their names end in -val.
    """
    known, rest = _options(words, "--recipe", "--arms", "--seeds", "--out")
    bases, settings = _runs("four-settings", known, rest, less=("--least", "--grid"))

    from iclmsr.study.four_settings import four_settings

    out = known.out or Path("runs/four-settings")
    four_settings(bases, known.arms or ["plain", "msr"], known.seeds, out, settings)
    _render(out)


def _compare(words: list[str]) -> None:
    """Compare MSR, its ablations and background augmentations, over seeds.

    usage: iclmsr study compare --recipe NAME [NAME ...] --arms ARM [ARM ...] [--seeds 0 1 2]
                                [--time-ratio R] [--split val] [--out FOLDER]
                                [--k 5] [--least 10] [--grid 24] [--linear-probe....]
                                [options of `iclmsr pretrain`]

    ARM: plain, msr; its ablations msr-frozen, msr-joint, msr-one-stratum, msr-fresh, msr-same,
    msr-no-loss; with masks, bg-remove, bg-random, bg-swaps; and any of them with -equal-time behind
    it, the same for R times as many epochs: with plain-equal-time, all are compared with plain at
    equal steps and at equal time. R is in the table of what training took. Every run is kept in
    FOLDER/cells and made once. Writes comparison.json, comparison.md and figures
    (comparison-BASE.png and others) into FOLDER, which is runs/comparison unless given; with
    --split val, names begin with comparison-val.
    """
    known, rest = _options(words, "--recipe", "--arms", "--seeds", "--out", "--time-ratio")
    if not known.arms:
        raise IclmsrError("study compare needs --arms, as --arms plain msr")
    bases, settings = _runs("compare", known, rest)

    from iclmsr.study.arms import EQUAL_TIME
    from iclmsr.study.comparison import compare

    if known.time_ratio is not None and not any(arm.endswith(EQUAL_TIME) for arm in known.arms):
        raise IclmsrError(
            f"--time-ratio {known.time_ratio} is for arms at equal time: add plain-equal-time, or "
            "leave it out"
        )
    out = known.out or Path("runs/comparison")
    compare(bases, known.arms, known.seeds, out, settings, time_ratio=known.time_ratio)
    _render(out)


def _sweep(words: list[str]) -> None:
    """Vary one setting of an arm, to choose it on validation images.

    usage: iclmsr study sweep --recipe NAME [NAME ...] --axis FIELD --values V [V ...]
                              [--arms msr] [--seeds 0 1 2] [--split test] [--out FOLDER]
                              [--k 5] [--least 10] [--grid 24] [--linear-probe....]
                              [options of `iclmsr pretrain`]

    FIELD is an option of `iclmsr pretrain`, as msr.loss-weight, msr.strata, msr.temperature,
    msr.every-steps or msr.lr. Values that are no numbers are drawn side by side. Where plain reads
    FIELD, as optimizer.lr, it is run with each value, too. Judged on the split val unless --split
    test says otherwise: what is chosen on test images is not judged by them. Writes
    sweep-FIELD.json, sweep-FIELD.md and a figure into FOLDER, which is runs/sweep unless given;
    with --split test, their names end in -test.
    """
    known, rest = _options(words, "--recipe", "--arms", "--seeds", "--out", "--axis", "--values")
    if known.axis is None or not known.values:
        raise IclmsrError("study sweep needs --axis FIELD and --values, as --values 0.1 1 10")
    if len(known.arms) > 1:
        raise IclmsrError(f"study sweep varies one arm, got --arms {' '.join(known.arms)}")
    bases, settings = _runs("sweep", known, rest, split="val")

    from iclmsr.study.comparison import sweep

    arm = (known.arms or ["msr"])[0]
    values = [_value(word) for word in known.values]
    out = known.out or Path("runs/sweep")
    sweep(bases, arm, known.axis, values, known.seeds, out, settings)
    _render(out)


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
    pairs = [word.split("=", 1) for word in named]
    names = _once([name for name, _ in pairs], "study pictures")
    known, rest = _options(words[len(named) :], "--out")

    from iclmsr.study.pictures import draw_pictures

    settings, encoders = _judged([place for _, place in pairs], rest)
    out = known.out or Path("runs/pictures")
    found = draw_pictures(dict(zip(names, encoders, strict=True)), settings, out)
    for name, numbers in found.items():
        print(f"{name}: {json.dumps(numbers)}")
    print(f"wrote neighbours.png, saliency.png, variants.png and pictures.json to {printable(out)}")


def _show(words: list[str]) -> None:
    """Print a study as far as it is, and draw its figures anew: iclmsr study show FOLDER."""
    if not words:
        raise IclmsrError("study show needs the folder of a study: iclmsr study show FOLDER")
    only(words, 1)
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


_OPTIONS: dict[str, dict[str, Any]] = {
    "--recipe": {"nargs": "+", "default": []},
    "--arms": {"nargs": "+", "default": []},
    "--seeds": {"nargs": "+", "type": int, "default": [0, 1, 2, 3, 4]},
    "--time-ratio": {"type": float},
    "--axis": {},
    "--values": {"nargs": "+", "default": []},
    "--out": {"type": Path},
}


def _options(words: Sequence[str], *names: str) -> tuple[Namespace, list[str]]:
    """A command's own options, and the words that are left."""
    parser = Parser(add_help=False, allow_abbrev=False)
    for name in names:
        parser.add_argument(name, **_OPTIONS[name])
    return parser.parse_known_args(words)


def _runs(
    command: str,
    known: Namespace,
    words: Sequence[str],
    *,
    split: Literal["test", "val"] = "test",
    less: Sequence[str] = (),
) -> tuple[dict[str, "PretrainConfig"], "BackgroundsConfig"]:
    """Base methods, and how they are judged; options that both have are the runs'."""
    if not known.recipe:
        raise IclmsrError(f"study {command} needs --recipe NAME, as --recipe simclr-synthetic")
    _once(known.arms, "--arms")
    _once(known.seeds, "--seeds")

    from dataclasses import replace

    from iclmsr.config import PretrainConfig
    from iclmsr.recipes import recipe
    from iclmsr.study.arms import named_bases
    from iclmsr.study.backgrounds import BackgroundsConfig

    own, rest = separated(BackgroundsConfig(), PretrainConfig(), words, less=less)
    bases = named_bases(
        [parse_options(PretrainConfig, recipe(name).config, rest) for name in known.recipe]
    )
    first = next(iter(bases.values()))
    data = replace(first.data, limit=None)
    default = BackgroundsConfig(split=split, device=first.device, data=data)
    return bases, parse_options(BackgroundsConfig, default, own)


def _judged(
    sources: Sequence[str], words: Sequence[str]
) -> tuple["BackgroundsConfig", list["LoadedEncoder"]]:
    """Encoders, each of which takes the images, and on which those of the first are judged."""
    from dataclasses import replace

    from iclmsr.evaluate.settings import data_of, open_encoder
    from iclmsr.study.backgrounds import BackgroundsConfig

    default = BackgroundsConfig(data=replace(data_of(sources[0]), variant="original"))
    settings = parse_options(BackgroundsConfig, default, words)
    encoders = [open_encoder(source) for source in sources]
    for encoder in encoders:
        encoder.check_size(settings.data)
    return settings, encoders


def _place(source: str, name: str, split: str) -> Path:
    """Where the challenge of an encoder goes that nobody has said; never over another split's."""
    from iclmsr.evaluate.settings import plain
    from iclmsr.files import read_json
    from iclmsr.runs import is_run

    run = Path(source) / "backgrounds.json"
    out = run if is_run(source) else Path(f"backgrounds-{plain(name)}.json")
    there = read_json(out)["config"]["split"] if out.is_file() else split
    if there != split:
        raise IclmsrError(f"{out} was made on the split {there}: pass --out FILE.json")
    return out


def _once(words: list[Any], option: str) -> list[Any]:
    """The words, none of which comes twice."""
    for place, word in enumerate(words):
        if word in words[:place]:
            raise IclmsrError(f"{option} has {word} twice: name it once")
    return words


def _value(word: str) -> Any:
    """A word as the JSON value that it is, or as itself."""
    try:
        return json.loads(word)
    except ValueError:
        return word


def _render(out: Path) -> None:
    """Tables on the terminal, and tables and figures in the study's folder."""
    from iclmsr.study.show import render

    render(out)
