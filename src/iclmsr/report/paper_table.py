# SPDX-License-Identifier: Apache-2.0
"""The paper's table with ours beside it, as `iclmsr reproduce table` left it."""

from collections.abc import Mapping, Sequence
from typing import Any

from iclmsr.report.groups import spread
from iclmsr.report.markup import Html, code, element, fold, join, missing, section, table
from iclmsr.report.reading import TABLE, PaperTable

FIGURES = ("linear", "knn")
NOTE = (
    "Differences are shown whatever the protocol: only the whole recipe on the official set can "
    "reproduce a number of the paper's."
)
"""What a table without notes of its own is to be read with."""


def paper_tables(tables: Sequence[PaperTable]) -> list[Html]:
    """A section for each table."""
    return [_section(place, each, alone=len(tables) == 1) for place, each in enumerate(tables)]


def _section(place: int, found: PaperTable, *, alone: bool) -> Html:
    """One table: its lines by data set, what MSR adds, and what the letters stand for."""
    title = "The paper's table and ours" + ("" if alone else f": {found.folder.name}")
    file = found.folder / TABLE
    try:
        parts = [*_lines(found.value), *_gains(found.value), *_below(found.value)]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        parts = [missing(f"{file} cannot be read, it lacks {error}: make it anew with ", _again())]
    about = (
        f"As {file} says, written {found.written} UTC. Runs of different protocols never share a "
        "line; a letter stands for everything but the seed, and is explained below."
    )
    return section(f"table-{place}", title, element("p", about, class_="small"), *parts)


def _again() -> Html:
    """The command that writes the table."""
    return code("iclmsr reproduce table")


def _lines(value: Mapping[str, Any]) -> list[Html]:
    """A table a data set, folded where nothing was run."""
    head = ["", "protocol", "seeds", "epochs"]
    head += [f"{kind} {name}" for kind in ("linear", "5-nn") for name in ("paper", "ours", "diff.")]
    parts = []
    for dataset in dict.fromkeys(line["dataset"] for line in value["lines"]):
        lines = [line for line in value["lines"] if line["dataset"] == dataset]
        made = any(line["seeds"] for line in lines)
        drawn = table(f"{dataset}: top-1, percent", head, map(_words, lines))
        parts.append(drawn if made else fold(f"{dataset}: nothing was run yet", drawn))
    return parts


def _words(line: Mapping[str, Any]) -> list[object]:
    """A line as it is read; empty where nothing was run."""
    seeds, epochs = len(line["seeds"]), line["epochs"]
    words = [line["row"]["title"], line["protocol"], seeds or "", epochs or ""]
    for figure in (line[name] for name in FIGURES):
        ours = figure["values"]
        gap = f"{figure['difference']:+z.2f}" if ours else ""
        words += [f"{figure['paper']:.2f}", spread(ours) if ours else "", gap]
    return words


def _gains(value: Mapping[str, Any]) -> list[Html]:
    """With MSR minus without."""
    rows = []
    for gain in value["gains"]:
        words = [gain["dataset"], gain["method"], gain["protocol"], len(gain["seeds"])]
        for figure in (gain[name] for name in FIGURES):
            words += [f"{figure['paper']:+z.2f}", _signed(figure["values"])]
        rows.append(words)
    head = ["data set", "method", "protocol", "seeds", "linear paper", "ours", "5-nn paper", "ours"]
    return [table("With MSR minus without, paired by seed", head, rows)] if rows else []


def _signed(values: Sequence[float]) -> str:
    """Mean and standard deviation of differences.

    >>> _signed([1.0, 3.0])
    '+2.00 ± 1.41'
    """
    text = spread(values)
    return text if text.startswith("-") else f"+{text}"


def _below(value: Mapping[str, Any]) -> list[Html]:
    """Notes, protocols in words, and what is not in the table."""
    parts = [element("p", note, class_="small") for note in value.get("notes", (NOTE,))]
    named = [
        element("div", element("dt", name), element("dd", text))
        for name, text in value["protocols"].items()
    ]
    parts += [element("dl", join(named), class_="terms")] if named else []
    for name, done, epochs in value.get("unfinished", ()):
        parts.append(
            missing(f"Not in the table yet: {name}, {done} of {epochs} epochs, not judged")
        )
    if value.get("foreign"):
        parts.append(missing(f"No cells of the table: {', '.join(value['foreign'])}"))
    for name, why in value.get("damaged", ()):
        parts.append(missing(f"Cannot be read: {name}: {why}"))
    return parts
