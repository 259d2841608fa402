# SPDX-License-Identifier: Apache-2.0
"""``iclmsr pretrain``: a run from a recipe, a config or a run folder."""

import dataclasses
from pathlib import Path

from iclmsr.data.names import at_home, printable
from iclmsr.errors import IclmsrError
from iclmsr.options import Parser, asks_help, parse_options, usage


def pretrain_command(words: list[str]) -> None:
    """Pretrain an encoder from a recipe.

    usage: iclmsr pretrain RECIPE [--out RUN] [options below]
           iclmsr pretrain --config FILE [--out RUN] [options below]
           iclmsr pretrain --resume RUN [--data.root PATH] [--data.workers N]
                           [--data.on-corrupt skip]

    RECIPE is one that `iclmsr recipes` lists; FILE is a config.json; --out is runs/RECIPE
    unless given. SIGINT and SIGTERM write a checkpoint and stop.
    """
    parser = Parser(add_help=False, allow_abbrev=False)
    for option in ("--config", "--resume", "--out"):
        parser.add_argument(option, type=Path)
    name = words.pop(0) if words and not words[0].startswith("-") else None
    known, rest = parser.parse_known_args(words)
    if asks_help(words):
        print(usage(pretrain_command))

    from iclmsr.config import PretrainConfig, decode
    from iclmsr.data.places import absolute
    from iclmsr.distributed import speaks
    from iclmsr.encoders import absolute_source
    from iclmsr.files import read_json
    from iclmsr.pretrain import pretrain, resume
    from iclmsr.recipes import recipe

    if asks_help(words):
        parse_options(PretrainConfig, recipe(name).config if name else PretrainConfig(), rest)
    if sum(value is not None for value in (name, known.config, known.resume)) != 1:
        raise IclmsrError(
            "pretrain needs one of: a recipe, as simclr-msr-cifar10 (`iclmsr recipes` lists all), "
            "--config FILE, --resume RUN"
        )
    if known.resume is not None:
        if known.out is not None:
            raise IclmsrError("--resume goes on in its own folder: leave out --out")
        parser = Parser(add_help=False, allow_abbrev=False)
        parser.add_argument("--data.root", dest="root")
        parser.add_argument("--data.workers", dest="workers", type=int)
        parser.add_argument("--data.on-corrupt", dest="on_corrupt", choices=("error", "skip"))
        changed, unknown = parser.parse_known_args(rest)
        if unknown:
            raise IclmsrError(
                f"--resume goes on with the run as it was configured, {unknown[0]!r} does not "
                "apply: only --data.root, --data.workers and --data.on-corrupt may be given"
            )
        changes = {name: value for name, value in vars(changed).items() if value is not None}
        run = resume(known.resume, **changes)
    else:
        config = recipe(name).config if name else decode(PretrainConfig, read_json(known.config))
        config = parse_options(PretrainConfig, config, rest)
        paths = {name: getattr(config.data, name) for name in ("root", "masks", "class_list")}
        paths = {  # a URL is a str
            name: at_home(path).absolute() for name, path in paths.items() if isinstance(path, Path)
        }
        source = absolute(config.data.source)
        data = dataclasses.replace(config.data, source=source, **paths)
        init = None if config.init is None else absolute_source(config.init)
        config = dataclasses.replace(config, data=data, init=init)
        out = known.out or Path("runs") / (config.recipe or "run")
        run = pretrain(config, out)
    if speaks():
        print(f"encoder: {printable(run / 'encoder.safetensors')}")
        print(f"how good it is, by labelled test images: iclmsr evaluate {printable(run)}")
