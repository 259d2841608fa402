# SPDX-License-Identifier: Apache-2.0
"""What came out of a study, for a person: tables on the terminal, Markdown and figures."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from iclmsr.data.names import printable
from iclmsr.errors import IclmsrError
from iclmsr.files import read_json, write_atomic
from iclmsr.study.arms import EQUAL_TIME
from iclmsr.study.figures import base_against_msr, four_bars
from iclmsr.study.forest import EMBEDDINGS, FURTHER, SHOWN, forest
from iclmsr.study.look import save
from iclmsr.study.rows import REFERENCE, Kind, arms_of, bases_of, further
from iclmsr.study.sweep_figure import sweep_figure
from iclmsr.study.tables import (
    NOTE,
    comparison_table,
    cost_table,
    four_settings_table,
    further_tables,
    sweep_table,
)

KINDS: tuple[Kind, ...] = ("linear", "knn")


def render(out: Path) -> None:
    """Prints every study in a folder as far as it is, and writes its tables and figures.

    Args:
        out: The folder, with study.json, comparison.json or sweep-AXIS.json, or any of them
            with the split behind its name.

    Raises:
        IclmsrError: No study in it, or one without a finished run; or, when all else is done,
            there are runs that have failed.
    """
    found = {path: read_json(path) for path in sorted(out.glob("*.json"))}
    studies = {path: study for path, study in found.items() if _is_study(study)}
    if not studies:
        raise IclmsrError(
            f"no study in {out}: it holds no study.json, comparison.json or sweep-*.json"
        )
    failed: dict[str, str] = {}
    for file, study in studies.items():
        failed |= study.get("failed", {})
        if not study["rows"] and study.get("failed"):
            continue
        if not study["rows"]:
            raise IclmsrError(f"{file} has no finished run yet")
        text = _tables(study)
        write_atomic(file.with_suffix(".md"), text.encode("utf-8", "backslashreplace"))
        print(text)
        if study["missing"]:
            print(f"{len(study['missing'])} runs are missing, {study['missing'][0]} first")
        pictures = _draw(file, study)
        print(f"wrote {', '.join(map(printable, (file.with_suffix('.md'), *pictures)))}")
    if failed:
        name, message = next(iter(failed.items()))
        raise IclmsrError(
            f"these runs have failed, remove their folders in {out / 'cells'} to try again: "
            f"{', '.join(failed)}; {name}: {message}"
        )


def show_backgrounds(found: dict[str, Any]) -> None:
    """Prints what the background challenge found of one encoder."""
    config = found["config"]
    size = config["data"]["evaluate_crop"] or config["data"]["evaluate_resize"]
    size = size or config["data"]["image_size"]
    print(
        f"{found['encoder']}: top-1 accuracy, percent, split {config['split']}, images of "
        f"{size} x {size} pixels"
    )
    table = Table()
    table.add_column("images")
    for name in ("linear probe", "5-nn"):
        table.add_column(name, justify="right")
    for name, known in found["results"].items():
        table.add_row(name, *(f"{known[kind]:.1f}" for kind in ("linear", "knn")))
    Console().print(table)
    for name, value in found["measures"].items():
        print(f"{name.replace('_', ' ')}: {_said(value)}")


def _said(value: Any) -> str:
    """A measure in words."""
    if value is None:
        return "undefined"
    if isinstance(value, dict) and value.get("counted") == 0:
        return f"undefined, none of {value['groups']} groups has as many images as --least says"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_said(part)}" for name, part in value.items())
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _is_study(value: Any) -> bool:
    """Whether this is what the file of a study holds."""
    return isinstance(value, dict) and "study" in value and "rows" in value


def _tables(study: dict[str, Any]) -> str:
    """The study as Markdown."""
    if study["study"] == "four-settings":
        tables = [four_settings_table(study, kind=kind) for kind in KINDS]
    elif study["study"] == "comparison":
        tables = [comparison_table(study, kind=kind) for kind in KINDS]
        tables += [further_tables(study), cost_table(study)]
    else:
        tables = [sweep_table(study, kind=kind) for kind in KINDS]
    return "\n\n".join(filter(None, [*tables, NOTE])) + "\n"


def _draw(file: Path, study: dict[str, Any]) -> list[Path]:
    """The study's figures, beside its file."""
    if study["study"] == "four-settings":
        figures = _four_settings(study, file.stem.removeprefix("study"))
    elif study["study"] == "comparison":
        figures = _comparison(study, file.stem)
    elif any("value" in row for row in study["rows"]):
        figures = {file.stem: sweep_figure(study)}
    else:
        figures = {}
    for name, figure in figures.items():
        save(figure, file.with_name(f"{name}.png"))
    return [file.with_name(f"{name}.png") for name in figures]


def _four_settings(study: dict[str, Any], ending: str) -> dict[str, Figure]:
    """Bars of each arm that is there, and the pair where it is."""
    arms = dict.fromkeys(row["arm"] for row in study["rows"])
    figures = {
        f"four-bars{'' if arm == REFERENCE else f'-{arm}'}{ending}": four_bars(study, arm=arm)
        for arm in arms
    }
    if {REFERENCE, "msr"} <= {row["arm"] for row in study["rows"] if row["train"] == "full"}:
        figures[f"base-and-msr{ending}"] = base_against_msr(study)
    return figures


def _comparison(study: dict[str, Any], stem: str) -> dict[str, Figure]:
    """A base method's arms at equal steps, at equal time, and by further measures."""
    figures = {}
    for base in bases_of(study["rows"]):
        rows = [row for row in study["rows"] if row["base"] == base]
        figures[f"{stem}-{base}"] = forest(study, base)
        longer = REFERENCE + EQUAL_TIME
        if longer in arms_of(rows, base):
            figures[f"{stem}-{base}-equal-time"] = forest(study, base, reference=longer)
        more: tuple[tuple[str, Kind | None, tuple[str, ...]], ...] = (
            ("further", "linear", FURTHER),
            ("embeddings", None, EMBEDDINGS),
        )
        for name, kind, wanted in more:
            if set(wanted).intersection(further(rows, kind, SHOWN)):
                figures[f"{stem}-{base}-{name}"] = forest(study, base, kind=kind, wanted=wanted)
    return figures
