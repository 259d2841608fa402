# SPDX-License-Identifier: Apache-2.0
"""The whole page, in one file."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from iclmsr import __version__
from iclmsr.files import write_atomic
from iclmsr.report import sections
from iclmsr.report.accuracy import accuracy, against_paper
from iclmsr.report.embedding import gallery_sections
from iclmsr.report.groups import Group, group
from iclmsr.report.heat import weights_section
from iclmsr.report.markup import Html, element, join, missing
from iclmsr.report.paper_table import paper_tables
from iclmsr.report.pictures import figure
from iclmsr.report.reading import Found, PaperTable, collect
from iclmsr.report.studies import challenge, study_sections

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
"""What a browser lets the page do: nothing but show what it holds."""


def write_report(
    paths: Sequence[Path],
    out: Path,
    *,
    recipes: Mapping[str, Mapping[str, Any]] | None = None,
    missed: Mapping[Path, str] | None = None,
) -> None:
    """Writes one HTML file about runs and studies that needs nothing beside it.

    Args:
        paths: Run folders, studies, or folders of them.
        out: The file.
        recipes: Configs by the recipe's name, to say how a single run differs from its own.
        missed: Why a run folder has no gallery.

    Raises:
        IclmsrError: Nothing to report, nothing that can be read, or ``out`` cannot be written.
    """
    found = collect(paths)
    named = {run.name: (missed or {}).get(run.path, "") for run in found.runs}
    write_atomic(out, _page(found, recipes or {}, named).encode("utf-8", "backslashreplace"))


def _page(found: Found, recipes: Mapping[str, Mapping[str, Any]], missed: Mapping[str, str]) -> str:
    """The page."""
    runs = found.runs
    parts = [missing(f"{path} cannot be read: {why}") for path, why in found.unreadable.items()]
    if runs:
        groups = group(runs)
        title = f"{len(groups)} settings compared"
        if len(groups) == 1:
            title = f"{groups[0].label} on {runs[0].status.data}"
        parts += [
            sections.facts(groups, runs),
            sections.configuration(groups, runs, recipes),
            sections.curves("losses", "Losses", groups, sections.LOSSES),
            sections.curves("health", "Health", groups, sections.HEALTH),
            sections.curves("speed", "Throughput and encoder wait", groups, sections.SPEED),
            accuracy(groups),
            *paper_tables(found.tables),
            *_beside_paper(groups, found.tables),
            *filter(None, [challenge(groups)]),
            *study_sections(found.studies),
            *gallery_sections(groups, missed),
            *filter(None, [weights_section(groups), sections.pictures_of(runs, figure)]),
        ]
    else:
        title = "Background study" if found.studies else "The paper's table"
        parts += [*paper_tables(found.tables), *study_sections(found.studies)]
    return "<!doctype html>\n" + _document(title, parts)


def _beside_paper(groups: Sequence[Group], tables: Sequence[PaperTable]) -> list[Html]:
    """What is beside the paper's numbers and not in a table of them already."""
    known = [table.folder.resolve() for table in tables]
    rest = [each for each in groups if any(r.path.resolve().parent not in known for r in each.runs)]
    return [against_paper(rest)] if rest else []


def _document(title: str, parts: Sequence[Html]) -> Html:
    """Head, contents, parts and foot."""
    sources = files("iclmsr.report")
    style = Html(sources.joinpath("page.css").read_text(encoding="utf-8"))
    script = Html(sources.joinpath("page.js").read_text(encoding="utf-8"))
    made = datetime.now(UTC).isoformat(sep=" ", timespec="minutes").removesuffix("+00:00")
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", f"{title} - iclmsr"),
        element("link", rel="icon", href="data:,"),
        # Painted when all of it is read: a table that grows row by row would move.
        element("link", rel="expect", href="#end", blocking="render"),
        element("style", style),
    )
    body = element(
        "body",
        element("a", "Skip to the report", href="#report", class_="skip"),
        element("header", element("h1", title), _contents(parts)),
        element("main", *parts, id="report"),
        element("footer", element("p", f"Made by iclmsr {__version__}, {made} UTC."), id="end"),
        element("script", script),
    )
    return element("html", head, body, lang="en")


def _contents(parts: Sequence[Html]) -> Html:
    """Links to the sections."""
    titles = [
        match.groups() for part in parts
        if (match := re.match(r'<section id="([^"]+)".*?<h2 [^>]*>(.*?)</h2>', part, re.DOTALL))
    ]  # fmt: skip
    links = [element("li", element("a", Html(text), href=f"#{name}")) for name, text in titles]
    return element("nav", element("ul", join(links)), aria_label="Contents")
