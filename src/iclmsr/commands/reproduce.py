# SPDX-License-Identifier: Apache-2.0
"""``iclmsr reproduce``: the paper's table."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from iclmsr.data.names import at_home, printable
from iclmsr.errors import IclmsrError, nearest
from iclmsr.options import Parser, Verb, group, only, parse_options

if TYPE_CHECKING:
    from iclmsr.reproduce import Cell, Row

OUT = Path("runs/paper-table")
FILES = {"markdown": "table.md", "csv": "table.csv", "latex": "table.tex", "json": "table.json"}
SET_HERE = {
    "--data.root": "--root DATASET=PATH",
    "--data.source": "--datasets",
    "--data.limit": "--images",
    "--seed": "--seeds",
    "--msr.enabled": "--methods METHOD+msr",
    "--msr.no-enabled": "--methods METHOD",
    "--recipe": "--methods",
}
"""Options of a run that the grid itself decides, and what to write instead."""


def table_command(words: list[str]) -> None:
    """Make cells of the paper's table, and print ours beside it.

    usage: iclmsr reproduce table [--methods M ...] [--datasets D ...] [--seeds S ...]
                            --root DATASET=PATH ... [--epochs N] [--images N] [--width W]
                            [--out FOLDER] [--table-only] [options of pretrain]

      --methods M ...   rows: simclr, byol, w-mse, ressl, lmcl, ssl-hsic, relic, and simclr+msr,
                        byol+msr, lmcl+msr, ressl+msr; all unless given
      --datasets D ...  cifar10, cifar100, stl10, tiny-imagenet; all unless given
      --seeds S ...     0 1 2 unless given
      --root D=PATH     where a data set lies, for each of them
      --epochs N        instead of the recipe's
      --images N        pretrain on so many images, drawn at random; the judgement uses all
      --width W         of the encoder, instead of 64
      --out FOLDER      of the run folders; runs/paper-table unless given
      --table-only      run nothing

    A cell is one run of the row's recipe: pretrained, then judged by the protocol of the table.
    What is finished is never run again; Ctrl-C stops, the same command goes on. The same command,
    started once for each GPU (CUDA_VISIBLE_DEVICES=1 iclmsr reproduce ...) or on each machine with
    the same FOLDER, shares the cells. Any other option of `iclmsr pretrain` changes every
    recipe, and the table says so: runs that differ in anything but the seed never share a line.
    FOLDER/table.md, .csv, .tex and .json hold the table.
    """
    asked = ask(words)
    if asked.cells is not None:
        from iclmsr.reproduce import reproduce

        again = shlex.join(["iclmsr", "reproduce", "table", *words])
        reproduce(asked.cells, asked.out, again, changed=lambda: _write(asked.out))
        _write(asked.out)
    print(_text(asked.out, "terminal", asked.rows, asked.datasets), end="")
    if asked.cells is not None:
        print(f"wrote {', '.join(printable(asked.out / name) for name in FILES.values())}")


class Asked(NamedTuple):
    """What the words after ``reproduce table`` say.

    Attributes:
        rows: Of the table.
        datasets: Of the table.
        cells: To make; None to make none.
        out: The folder of run folders.
    """

    rows: "Sequence[Row]"
    datasets: Sequence[str]
    cells: "Sequence[Cell] | None"
    out: Path


def ask(words: Sequence[str]) -> Asked:
    """Reads the words after ``reproduce table``.

    Raises:
        IclmsrError: They make no sense.
    """
    parser = Parser(add_help=False, allow_abbrev=False)
    for option in ("--methods", "--datasets", "--seeds", "--root"):
        parser.add_argument(option, nargs="+", action="extend")
    for option in ("--epochs", "--images", "--width"):
        parser.add_argument(option, type=int)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--table-only", action="store_true")
    known, rest = parser.parse_known_args(words)

    from iclmsr.config import PretrainConfig
    from iclmsr.reproduce import DATASETS, cells

    rows, datasets = _part(known.methods, known.datasets)
    if known.table_only:
        only(rest, 0)
        return Asked(rows, datasets, None, known.out)
    for word in rest:
        option = word.partition("=")[0]
        if option in SET_HERE:
            raise IclmsrError(f"{option} is decided by the grid: use {SET_HERE[option]} instead")
    shortcuts = {
        "--epochs": known.epochs,
        "--data.limit": known.images,
        "--encoder.width": known.width,
    }
    given = [f"{option}={value}" for option, value in shortcuts.items() if value is not None]
    grid = cells(
        rows,
        datasets,
        [_seed(text) for text in _parts(known.seeds) or ("0", "1", "2")],
        _roots(known.root or (), datasets, DATASETS),
        lambda config: parse_options(PretrainConfig, config, [*given, *rest]),
    )
    return Asked(rows, datasets, grid, known.out)


def show_command(words: list[str]) -> None:
    """Print ours beside the paper's table, whatever has been run so far.

    usage: iclmsr reproduce show [FOLDER] [--format terminal|markdown|csv|latex|json]
                           [--methods M ...] [--datasets D ...]

    FOLDER holds run folders; it is runs/paper-table unless given. A run is in the table when it
    was pretrained to its end and judged (`iclmsr evaluate`), whoever did that.
    """
    out = Path(words.pop(0)) if words and not words[0].startswith("-") else OUT
    parser = Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("--format", choices=("terminal", *FILES), default="terminal")
    for option in ("--methods", "--datasets"):
        parser.add_argument(option, nargs="+", action="extend")
    known, rest = parser.parse_known_args(words)
    only(rest, 0)
    print(_text(out, known.format, *_part(known.methods, known.datasets)), end="")


COMMANDS: dict[str, Verb] = {"table": table_command, "show": show_command}


def reproduce_command(words: list[str]) -> None:
    """Run the paper's table and print ours beside it: iclmsr reproduce COMMAND ..."""
    group("reproduce", COMMANDS, words)


def _part(
    methods: Sequence[str] | None, datasets: Sequence[str] | None
) -> "tuple[list[Row], list[str]]":
    """The rows and the data sets of the table that words name; all if there are none."""
    from iclmsr.reproduce import DATASETS, ROWS, row_named

    rows = [row_named(name) for name in _parts(methods)] or list(ROWS)
    return rows, [_among(name, DATASETS) for name in _parts(datasets)] or list(DATASETS)


def _parts(words: Sequence[str] | None) -> list[str]:
    """Words that may be separated by commas, too."""
    return [part for word in words or () for part in word.split(",") if part]


def _among(name: str, known: Sequence[str]) -> str:
    """``name``, if it is a data set."""
    if name not in known:
        raise IclmsrError(f"unknown data set {name!r}: {nearest(name, known)}")
    return name


def _seed(text: str) -> int:
    """A seed >= 0."""
    if not text.isdecimal():
        raise IclmsrError(f"--seeds must be whole numbers >= 0, got {text!r}")
    return int(text)


def _roots(words: Sequence[str], datasets: Sequence[str], every: Sequence[str]) -> dict[str, Path]:
    """Where each data set lies, from DATASET=PATH, or PATH where there is only one."""
    roots = {}
    for word in words:
        name, sign, path = word.partition("=")
        if not sign and len(datasets) == 1:
            name, path = datasets[0], word
        if not path:
            raise IclmsrError(f"--root must be DATASET=PATH, got {word!r}")
        roots[_among(name, every)] = at_home(path).absolute()
    return roots


def _write(out: Path) -> None:
    """Writes the whole table into the grid's folder in every format."""
    from iclmsr.files import write_atomic

    for form, name in FILES.items():
        write_atomic(out / name, _text(out, form).encode())


def _text(
    out: Path,
    form: str,
    rows: "Sequence[Row] | None" = None,
    datasets: Sequence[str] | None = None,
) -> str:
    """The table of what has been run, in one of the formats."""
    from iclmsr.reproduce import DATASETS, FORMATS, ROWS, collect, summarize

    return FORMATS[form](summarize(collect(out), rows or ROWS, datasets or DATASETS))
