# SPDX-License-Identifier: Apache-2.0
"""The command line: ``iclmsr VERB ...``. Each verb imports what it needs inside its function."""

import dataclasses
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from iclmsr import __version__
from iclmsr.errors import Elsewhere, IclmsrError, nearest
from iclmsr.mask_command import mask_command
from iclmsr.options import Parser, asks_help, parse_options, usage


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: Words after ``iclmsr``; those of the process when None.

    Returns:
        The exit code: 0, 2 for what the user can mend, 128 + n after signal n.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            _run(words)
    except Elsewhere as error:
        return error.exit_code
    except IclmsrError as error:
        if debug:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read the output has read enough
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 - for Python's last flush
        return 0
    except OSError as error:
        if debug:
            traceback.print_exc()
        where = f" {error.filename}" if error.filename else ""
        print(f"error: {error.strerror or error}:{where}", file=sys.stderr)
        return 2
    return 0


def _run(words: list[str]) -> None:
    """Finds the verb and calls it."""
    if not words or words[0] in ("-h", "--help"):
        print(_overview())
    elif words[0] == "--version":
        print(f"iclmsr {__version__}")
    elif words[0] in VERBS:
        VERBS[words[0]](words[1:])
    else:
        raise IclmsrError(f"unknown command {words[0]!r}: {nearest(words[0], VERBS)}")


def _overview() -> str:
    """The help text of the bare command: every verb and the first line of its docstring."""
    return _listing(
        "COMMAND ... [--debug]",
        VERBS,
        "Self-supervised pretraining of image encoders that do not lean on the background.",
        "iclmsr COMMAND --help says more; --debug shows the traceback of an error.",
    )


def _listing(
    usage: str,
    verbs: Mapping[str, Callable[..., None]],
    about: str = "",
    more: str = "COMMAND --help says more.",
) -> str:
    """Help text: every verb and the first line of its docstring."""
    lines = [
        f"  {name:10} {(verb.__doc__ or '').strip().splitlines()[0]}"
        for name, verb in verbs.items()
    ]
    parts = [f"usage: iclmsr {usage}", about, "\n".join(lines), more]
    return "\n\n".join(filter(None, parts))


def _pretrain(words: list[str]) -> None:
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
        print(usage(_pretrain))

    from iclmsr.config import PretrainConfig, decode
    from iclmsr.data.hugging_face import absolute
    from iclmsr.distributed import speaks
    from iclmsr.files import read_json
    from iclmsr.pretrain import pretrain, resume
    from iclmsr.recipes import RECIPES, recipe

    if asks_help(words):
        parse_options(PretrainConfig, recipe(name).config if name else PretrainConfig(), rest)
    if sum(value is not None for value in (name, known.config, known.resume)) != 1:
        raise IclmsrError(
            "pretrain needs one of: a recipe, --config FILE, --resume RUN; "
            f"recipes are {', '.join(RECIPES)}"
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
            name: path.expanduser().absolute()
            for name, path in paths.items()
            if isinstance(path, Path)
        }
        source = absolute(config.data.source)
        data = dataclasses.replace(config.data, source=source, **paths)
        config = dataclasses.replace(config, data=data)
        out = known.out or Path("runs") / (config.recipe or "run")
        run = pretrain(config, out)
    if speaks():
        print(f"encoder: {run / 'encoder.safetensors'}")
        print(f"how good it is: iclmsr evaluate {run}")


def _evaluate(words: list[str]) -> None:
    """Measure a run's encoder: linear probe and 5-nn accuracy.

    usage: iclmsr evaluate RUN [options below]

    Trains the probe on the training images and tests on the test images of the data that the
    run was pretrained on, or of those that --data... options name; writes RUN/evaluation.json.
    """
    run = Path(words.pop(0)) if words and not words[0].startswith("-") else None
    if asks_help(words):
        print(usage(_evaluate))
    from iclmsr.evaluate import EvaluateConfig, evaluate, show

    if asks_help(words):
        parse_options(EvaluateConfig, EvaluateConfig(), words)
    if run is None:
        raise IclmsrError("evaluate needs a run folder: iclmsr evaluate RUN")
    config = parse_options(EvaluateConfig, EvaluateConfig.of_run(run), words)
    show(evaluate(run, config))
    print(f"wrote {run / 'evaluation.json'}")


def _data(words: list[str]) -> None:
    """Look at a data set, prepare it, pack it: iclmsr data COMMAND ..."""
    from iclmsr.data_verbs import COMMANDS

    if not words or words[0] in ("-h", "--help"):
        print(_listing("data COMMAND ...", COMMANDS))
    elif words[0] not in COMMANDS:
        raise IclmsrError(f"unknown command 'data {words[0]}': {nearest(words[0], COMMANDS)}")
    elif asks_help(words):
        print(usage(COMMANDS[words[0]]))
    else:
        COMMANDS[words[0]](words[1:])


def _recipes(words: list[str]) -> None:
    """List the recipes, or print one whole: iclmsr recipes [NAME]."""
    if asks_help(words):
        print(usage(_recipes))
        return
    import json

    from rich.console import Console
    from rich.table import Table

    from iclmsr.config import encode
    from iclmsr.recipes import RECIPES, recipe

    if words:
        _only(words, 1)
        print(json.dumps(encode(recipe(words[0]).config), indent=1))
        return
    table = Table(title="recipes", caption="expected: linear / 5-nn top-1, percent")
    for column in ("name", "source", "cost", "expected"):
        table.add_column(column, no_wrap=column in ("name", "expected"))
    for name, value in RECIPES.items():
        table.add_row(name, value.source, value.cost, value.expected)
    Console().print(table)


def _scm(words: list[str]) -> None:
    """Print and draw the structural causal model.

    usage: iclmsr scm [--out FILE.png]

    The picture goes to scm.png unless FILE.png is given.
    """
    if asks_help(words):
        print(usage(_scm))
        return
    out = _out(words, Path("scm.png"))

    from iclmsr.causal import INSTANCE_DISCRIMINATION, describe, draw

    print(describe(INSTANCE_DISCRIMINATION))
    draw(INSTANCE_DISCRIMINATION, out)
    print(f"wrote {out}")


def _demo(words: list[str]) -> None:
    """Pretrain SimCLR + MSR on embedded data, evaluate it, draw a picture.

    usage: iclmsr demo [--out RUN]

    Downloads nothing; a few minutes on two CPU cores. RUN is runs/demo unless given.
    """
    if asks_help(words):
        print(usage(_demo))
        return
    out = _out(words, Path("runs/demo"))

    from iclmsr.demo import demo

    demo(out)


VERBS: dict[str, Callable[[list[str]], None]] = {
    "pretrain": _pretrain,
    "evaluate": _evaluate,
    "data": _data,
    "recipes": _recipes,
    "masks": mask_command,
    "scm": _scm,
    "demo": _demo,
}


def _out(words: Sequence[str], default: Path) -> Path:
    """The value of --out, the only option there is."""
    parser = Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("--out", type=Path, default=default)
    known, rest = parser.parse_known_args(words)
    _only(rest, 0)
    out: Path = known.out
    return out


def _only(words: Sequence[str], count: int) -> None:
    """Refuses words beyond the first ``count``."""
    if len(words) > count:
        raise IclmsrError(f"unknown argument {words[count]!r}: --help says what there is")


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """A warning as one line on standard error."""
    print(f"warning: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
