# SPDX-License-Identifier: Apache-2.0
"""``iclmsr runs``: the run folders that there are."""

from pathlib import Path

from iclmsr.data.names import printable
from iclmsr.options import Parser, asks_help, only, usage


def runs_command(words: list[str]) -> None:
    """List run folders: how far they are and how good.

    usage: iclmsr runs [FOLDER] [--json]

    FOLDER is runs unless given; folders in it are searched, too.

      running    a process holds the run folder
      finished   all epochs are done
      resumable  stopped with a checkpoint: iclmsr pretrain --resume RUN
      died       stopped before its first checkpoint; --resume begins again
      damaged    a file cannot be read; the reason stands below

    Accuracies are top-1 in percent, linear probe / 5-nn, the last one and the best; ~ marks an
    online evaluation, on a part of the images.
    """
    if asks_help(words):
        print(usage(runs_command))
        return
    parser = Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("--json", action="store_true")
    known, rest = parser.parse_known_args(words)
    only(rest, 1)
    folder = Path(rest[0]) if rest else Path("runs")

    import json

    from iclmsr.report.status import find_runs, status

    found = [status(path) for path in find_runs(folder)]
    if known.json:
        print(json.dumps([one.as_json() for one in found], indent=1))
        return
    if not found:
        print(f"no runs in {printable(folder)}: iclmsr pretrain RECIPE makes one")
        return

    from rich.console import Console
    from rich.table import Table

    table = Table(caption="top-1, percent: linear / 5-nn; ~ online, on a part of the images")
    for column in (
        "run",
        "recipe",
        "data",
        "seed",
        "epochs",
        "state",
        "last",
        "best",
        "active (UTC)",
    ):
        right = column in ("seed", "epochs", "last", "best")
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    for one in found:
        table.add_row(
            printable(one.path.relative_to(folder) if one.path != folder else folder),
            one.recipe,
            one.data,
            "" if one.seed is None else str(one.seed),
            f"{one.epochs_done}/{one.epochs}",
            one.state,
            ("~" if one.online else "") + _pair(one.last),
            ("~" if one.best_online else "") + _pair(one.best),
            one.active,
        )
    console = Console()
    if not console.is_terminal:
        console.width = 200  # nobody's window: a line a run
    console.print(table)
    for one in found:
        if one.note:
            console.print(f"{printable(one.path)}: {one.note}", markup=False, soft_wrap=True)


def _pair(values: dict[str, float]) -> str:
    """Both accuracies, a dash for one that is not known."""
    if not values:
        return "-"
    return " / ".join(
        f"{values[kind]:.1f}" if kind in values else "-" for kind in ("linear", "knn")
    )
