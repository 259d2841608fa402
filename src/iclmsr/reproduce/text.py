# SPDX-License-Identifier: Apache-2.0
"""The table as text: for a terminal, as Markdown, CSV, LaTeX and JSON."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from iclmsr.reproduce.cells import TITLES, Row
from iclmsr.reproduce.summary import Figure, Gain, Line, Table

TITLE = "The paper's table and ours: top-1, percent"
HEAD = ("method", "protocol", "seeds", "epochs") + 2 * ("paper", "ours", "diff.")
NOTE = (
    "ours: mean ± standard deviation over seeds; empty: not run. Differences are shown whatever "
    "the protocol: only the whole recipe on the official set can reproduce a number of the paper's."
)
FOOTNOTES = {
    ("ressl",): (
        "the paper copied ReSSL's numbers from ReSSL's authors: 200 epochs of SGD, and a probe of "
        "their own, not the other rows'. It does not say how it ran ReSSL + MSR."
    ),
    ("lmcl", "ssl-hsic", "relic"): (
        "the paper's numbers are re-runs by its authors with settings that they do not disclose; "
        "LMCL here is a re-implementation, its hyper-parameters are not published in accessible "
        "form."
    ),
}
"""What must be known of the paper's numbers, by the methods that it is about."""
MARKS = "¹²"


def terminal(table: Table, width: int | None = None) -> str:
    """The table for a terminal, ``width`` columns wide; as wide as it is when None."""
    from rich import box
    from rich.console import Console
    from rich.table import Table as Drawn

    console = Console(file=io.StringIO(), width=width or 110, highlight=False, markup=False)
    for dataset, lines in _by_dataset(table.lines):
        drawn = Drawn(title=f"{dataset}: linear probe, then 5-nn", box=box.SIMPLE_HEAD)
        for number, name in enumerate(HEAD):
            drawn.add_column(name, justify="left" if number < 2 else "right", no_wrap=True)
        for line in lines:
            drawn.add_row(*_words(line))
        console.print(drawn)
    if table.gains:
        drawn = Drawn(title="with MSR minus without, paired by seed", box=box.SIMPLE_HEAD)
        for name in _GAINS:
            drawn.add_column(name, no_wrap=True)
        for gain in table.gains:
            drawn.add_row(*_gain_words(gain))
        console.print(drawn)
    for text in _notes(table):
        console.print(text)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def markdown(table: Table) -> str:
    """The table as Markdown, a table for each data set."""
    parts = []
    for dataset, lines in _by_dataset(table.lines):
        head = (*HEAD[:4], *(f"{kind} {name}" for kind in ("linear", "5-nn") for name in HEAD[4:7]))
        parts.append(f"**{dataset}**\n\n" + _pipes(head, map(_words, lines)))
    if table.gains:
        pairs = _pipes(_GAINS, map(_gain_words, table.gains))
        parts.append("**With MSR minus without, paired by seed**\n\n" + pairs)
    parts += [text.strip() for text in _notes(table)]
    return f"{TITLE}.\n\n" + "\n\n".join(parts) + "\n"


def _pipes(head: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    """A Markdown table."""
    rule = "|" + "---|" * len(head)
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([f"| {' | '.join(head)} |", rule, *lines])


def comma_separated(table: Table) -> str:
    """The table as CSV, a line for each cell and protocol, numbers in full."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    metrics = [
        f"{kind}_{name}"
        for kind in ("linear", "knn5")
        for name in ("paper", "mean", "sd", "difference")
    ]
    head = ["dataset", "method", "protocol", "seeds", "epochs", *metrics]
    writer.writerow([*head, "protocol_in_words", "paper_note"])
    for line in table.lines:
        numbers = [
            value
            for figure in (line.linear, line.knn)
            for value in (figure.paper, figure.mean, figure.sd, figure.difference)
        ]
        seeds = " ".join(map(str, line.seeds))
        own = [line.dataset, line.row.name, line.protocol, seeds, line.epochs]
        words = table.protocols.get(line.protocol, "")
        note = " ".join(text for some, text in FOOTNOTES.items() if line.row.method in some)
        writer.writerow([*own, *numbers, words, note])
    return file.getvalue()


def latex(table: Table) -> str:
    """The table as a LaTeX ``tabular``; it needs the package booktabs."""
    lines = [
        r"\begin{tabular}{llrrrrrrrr}",
        r"\toprule",
        r"& & & & \multicolumn{3}{c}{linear probe} & \multicolumn{3}{c}{5-nn} \\",
        " & ".join(map(_escaped, HEAD)) + r" \\",
    ]
    for dataset, members in _by_dataset(table.lines):
        lines += [r"\midrule", rf"\multicolumn{{10}}{{l}}{{{_escaped(dataset)}}} \\"]
        lines += [" & ".join(map(_escaped, _words(line))) + r" \\" for line in members]
    lines.append(r"\bottomrule")
    for text in _footnotes(table):
        lines.append(rf"\multicolumn{{10}}{{p{{\linewidth}}}}{{{_escaped(text)}}} \\")
    lines.append(r"\end{tabular}")
    lines += [f"% {text.strip()}" for text in _notes(table)]
    return "\n".join(lines) + "\n"


def as_json(table: Table) -> str:
    """Everything as JSON: ``lines``, ``gains``, ``protocols``, ``notes`` and what is not shown."""
    value: dict[str, Any] = {**asdict(table), "notes": [NOTE, *_footnotes(table)]}
    for line, one in zip(value["lines"], table.lines, strict=True):
        line["row"] = {"name": one.row.name, "title": _title(one.row)}
    pairs: list[tuple[list[Any], Sequence[Line | Gain]]] = [
        (value["lines"], table.lines),
        (value["gains"], table.gains),
    ]
    for shown, known in pairs:
        for each, one_of in zip(shown, known, strict=True):
            for name, figure in (("linear", one_of.linear), ("knn", one_of.knn)):
                each[name] |= {
                    "mean": figure.mean,
                    "sd": figure.sd,
                    "difference": figure.difference,
                }
    return json.dumps(value, indent=1, allow_nan=False) + "\n"


FORMATS: dict[str, Callable[[Table], str]] = {
    "terminal": terminal,
    "markdown": markdown,
    "csv": comma_separated,
    "latex": latex,
    "json": as_json,
}

_GAINS = ("data set", "method", "protocol", "seeds", "paper", "linear", "paper", "5-nn")


def _by_dataset(lines: Sequence[Line]) -> Iterator[tuple[str, list[Line]]]:
    """The lines of each data set."""
    for dataset in dict.fromkeys(line.dataset for line in lines):
        yield dataset, [line for line in lines if line.dataset == dataset]


def _words(line: Line) -> tuple[str, ...]:
    """A line as it is read, under HEAD."""
    count = str(len(line.seeds)) if line.seeds else ""
    epochs = "" if line.epochs is None else f"{line.epochs:,}"
    numbers = [
        text
        for figure in (line.linear, line.knn)
        for text in (f"{figure.paper:.2f}", ours(figure), _signed(figure.difference))
    ]
    return (_title(line.row), line.protocol, count, epochs, *numbers)


def _title(row: Row) -> str:
    """A row's title, with the mark of its footnote."""
    marks = [mark for mark, some in zip(MARKS, FOOTNOTES, strict=True) if row.method in some]
    return row.title + "".join(marks)


def _footnotes(table: Table) -> Iterator[str]:
    """The footnotes of the rows that are shown."""
    shown = {line.row.method for line in table.lines}
    for mark, (some, text) in zip(MARKS, FOOTNOTES.items(), strict=True):
        if not shown.isdisjoint(some):
            yield f"{mark} {text}"


def ours(figure: Figure) -> str:
    """Mean and standard deviation as they are read.

    >>> ours(Figure(91.0, (50.0, 52.0))), ours(Figure(91.0, (50.0,))), ours(Figure(91.0))
    ('51.00 ± 1.41', '50.00', '')
    """
    if figure.mean is None:
        return ""
    return f"{figure.mean:.2f}" + ("" if figure.sd is None else f" ± {figure.sd:.2f}")


def _signed(value: float | None) -> str:
    """A difference with its sign."""
    return "" if value is None else f"{value:+z.2f}"


def _gain_words(gain: Gain) -> tuple[str, ...]:
    """A gain as it is read, under _GAINS."""
    words = [gain.dataset, TITLES[gain.method], gain.protocol, str(len(gain.seeds))]
    for figure in (gain.linear, gain.knn):
        spread = "" if figure.sd is None else f" ± {figure.sd:.2f}"
        words += [f"{figure.paper:+z.2f}", _signed(figure.mean) + spread]
    return tuple(words)


def _notes(table: Table) -> Iterator[str]:
    """What stands below the table."""
    yield NOTE
    yield from _footnotes(table)
    for name, text in table.protocols.items():
        yield f"{name}: {text}"
    for name, done, epochs in table.unfinished:
        yield f"not in the table yet: {name}, {done} of {epochs} epochs done, not judged"
    if table.foreign:
        yield f"no cells of the table: {', '.join(table.foreign)}"
    for name, why in table.damaged:
        yield f"cannot be read: {name}: {why}"


def _escaped(text: str) -> str:
    """Text for LaTeX."""
    for sign in "&%_#":
        text = text.replace(sign, f"\\{sign}")
    for sign, code in (("±", r"$\pm$"), ("¹", "$^1$"), ("²", "$^2$")):
        text = text.replace(sign, code)
    return text
