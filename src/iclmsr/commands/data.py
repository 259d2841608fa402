# SPDX-License-Identifier: Apache-2.0
"""``iclmsr data COMMAND ...``: look at a data set, prepare it, pack it."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from iclmsr.commands.compose import compose_command
from iclmsr.commands.shard import shard_command
from iclmsr.commands.unpack import unpack_command
from iclmsr.commands.variants import variants_command
from iclmsr.data.names import printable
from iclmsr.errors import IclmsrError, nearest
from iclmsr.options import Parser, Verb, group, parse_options

if TYPE_CHECKING:
    from iclmsr.config import PretrainConfig

SHEET = 64
"""Images on a contact sheet."""


class RunWouldStop(IclmsrError):
    """The data set that was looked at cannot be used as it is."""

    exit_code = 1


def _check(words: list[str]) -> None:
    """Say what is in a data set and what is the matter with it.

    usage: iclmsr data check PATH [--recipe RECIPE] [--json FILE] [--sheet FILE.png]
                             [--split NAME] [--workers N] [--data.source NAME]
                             [--data.masks PATH] ...
           iclmsr data check --data.source synthetic ...

    PATH is a folder, an archive, or shards as --data.root names them. What it holds is guessed
    from its files, or said by options.

      --recipe RECIPE  as the run of this recipe would see it; else SimCLR's recipe for the data
      --json FILE      write all that was found, nothing cut short
      --sheet FILE.png draw 64 images of all classes, each with its mask and two views of it
      --split NAME     draw images of this split, as test; else training images
      --workers N      threads that decode; as many as there are processors unless given
      --data.NAME, --views.NAME, --seed
                       as in `iclmsr pretrain --help`

    Every image and mask is decoded. Exit code: 0, or 1 if a run would stop at the data.
    """
    path: Path | str | None = None
    if words and not words[0].startswith("-"):
        path = words.pop(0) if "://" in words[0] else Path(words.pop(0))
    parser = Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("--recipe")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--split", default="train")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    known, rest = parser.parse_known_args(words)
    if path is None and _source(rest) is None:
        raise IclmsrError("check needs a folder or an archive: iclmsr data check PATH")
    if isinstance(path, Path) and not path.exists() and "{" not in path.name:
        raise IclmsrError(f"{path} does not exist: pass a folder or an archive")
    if known.workers < 1:
        raise IclmsrError(f"--workers must be >= 1, got {known.workers}")
    if known.sheet is not None and known.sheet.suffix != ".png":
        raise IclmsrError(f"--sheet writes a PNG file: end its name in .png, got {known.sheet}")
    for file in filter(None, (known.json, known.sheet)):
        if not file.absolute().parent.is_dir():
            raise IclmsrError(f"cannot write {file}: there is no folder {file.parent}")

    from iclmsr.data.check import check
    from iclmsr.data.describe import as_json, show
    from iclmsr.files import write_atomic, write_json

    config = _config_at(path, known.recipe, rest)
    named = any(word.partition("=")[0] == "--data.masks" for word in rest)
    assumed = path is not None and config.data.masks is not None and not named
    found = check(config.data, config.views, assumed=assumed, workers=known.workers)
    show(found)
    if known.json is not None:
        write_json(known.json, as_json(found))
        print(f"wrote {printable(known.json)}")
    if known.split not in found.splits and known.split not in found.refused:
        raise IclmsrError(f"unknown --split {known.split!r}: {nearest(known.split, found.splits)}")
    split = found.splits.get(known.split)
    if (
        known.sheet is not None
        and split is not None
        and split.usable()
        and known.split not in found.refused
    ):
        from iclmsr.data.sample import draw_sample
        from iclmsr.data.sheet import draw_sheet

        sample = draw_sample(found, SHEET, seed=config.seed, split=known.split)
        write_atomic(known.sheet, draw_sheet(sample, config.data, config.views, seed=config.seed))
        print(f"wrote {printable(known.sheet)}")
    problems = found.problems()
    if problems:
        many = "problem" if len(problems) == 1 else "problems"
        raise RunWouldStop(f"a run would stop: {len(problems)} {many}, listed above")


def _prepare(words: list[str]) -> None:
    """Decode the images of a run once and for all: later runs map them into memory.

    usage: iclmsr data prepare RECIPE --data.root PATH [options]
           iclmsr data prepare --data.source NAME --data.root PATH [options]

    Takes the options of `iclmsr pretrain`; those that begin with --data. make a difference.
    Prepares every split that is there; STL-10's unlabeled images are in pretrain. Writes one file
    a split into $ICLMSR_CACHE or ~/.cache/iclmsr, with 3 S^2 bytes an image of
    S x S pixels. Does nothing where they are there already and the images have not changed;
    several processes may try at once.
    """
    name = words.pop(0) if words and not words[0].startswith("-") else None
    if name is None and _source(words) is None:
        raise IclmsrError("prepare needs a recipe, or --data.source NAME; and --data.root PATH")
    if name is not None and Path(name).exists():
        raise IclmsrError(
            f"prepare takes a recipe or --data.source NAME: pass --data.root {name} beside it"
        )

    from iclmsr.data.found import find_files
    from iclmsr.data.sources import cache_path, prepare

    data = _config(name, words).data
    files = find_files(data)
    splits = ["pretrain", "train"]
    if files is None or files.has_test:
        splits.append("test")
    if files is not None:
        splits += files.others
    done: set[Path] = set()
    for split in splits:
        path = cache_path(data, split)
        if path in done:
            continue
        done.add(path)
        before, start = _identity(path), time.perf_counter()
        images = prepare(data, split)
        seconds = time.perf_counter() - start
        how = "was there already" if _identity(path) == before else f"made in {seconds:.1f} s"
        what = "train" if split == "pretrain" and data.source != "stl10" else split
        size = f"{images.images.shape[-1]} x {images.images.shape[-1]} pixels"
        print(f"{what}: {len(images):,} images of {size}, {how}")
        print(f"  {printable(path)}, {path.stat().st_size / 1e6:,.2f} MB")
    if "test" not in splits:
        print("no test images: an encoder can be pretrained, but not evaluated")


COMMANDS: dict[str, Verb] = {
    "check": _check,
    "prepare": _prepare,
    "shard": shard_command,
    "compose": compose_command,
    "variants": variants_command,
    "unpack": unpack_command,
}


def data_command(words: list[str]) -> None:
    """Look at a data set, prepare it, pack it: iclmsr data COMMAND ..."""
    group("data", COMMANDS, words)


def _config_at(path: Path | str | None, name: str | None, words: Sequence[str]) -> "PretrainConfig":
    """The config of a run on what lies at a path, guessed where it is not said."""
    from dataclasses import replace

    from iclmsr.config import PretrainConfig
    from iclmsr.data.config import DataConfig
    from iclmsr.data.found import guess
    from iclmsr.data.shards import names_shards
    from iclmsr.recipes import RECIPES, recipe

    if path is None:
        return _config(name, words)
    guessed = DataConfig("folder", path) if names_shards(path) else guess(Path(path))
    known = name or f"simclr-{_source(words) or guessed.source}"
    if name is not None or known in RECIPES:
        config = recipe(known).config
        config = replace(config, data=replace(config.data, root=path, masks=guessed.masks))
    else:
        views = replace(PretrainConfig().views, size=guessed.image_size)
        config = PretrainConfig(data=guessed, views=views)
    return parse_options(PretrainConfig, config, words)


def _config(name: str | None, words: Sequence[str]) -> "PretrainConfig":
    """The config of a recipe, or of SimCLR's for a source, with the options in ``words``."""
    from iclmsr.config import PretrainConfig
    from iclmsr.recipes import RECIPES, recipe

    known = name or f"simclr-{_source(words)}"
    config = recipe(known).config if name is not None or known in RECIPES else PretrainConfig()
    return parse_options(PretrainConfig, config, words)


def _source(words: Sequence[str]) -> str | None:
    """The value of --data.source, if it is given."""
    parser = Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("--data.source", dest="source")
    source: str | None = parser.parse_known_args(words)[0].source
    return source


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells a file from another one that takes its place."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns
