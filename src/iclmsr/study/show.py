# SPDX-License-Identifier: Apache-2.0
"""What came out of a study, for a person: tables on the terminal, Markdown and figures."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from iclmsr.errors import IclmsrError
from iclmsr.files import read_json, write_atomic
from iclmsr.study.figures import base_against_msr, four_bars
from iclmsr.study.forest import forest
from iclmsr.study.look import save
from iclmsr.study.sweep_figure import sweep_figure
from iclmsr.study.tables import comparison_table, four_settings_table, sweep_table


def render(out: Path) -> None:
    """Prints every study in a folder as far as it is, and writes its tables and figures.

    Args:
        out: The folder, with study.json, comparison.json or sweep-AXIS.json.

    Raises:
        IclmsrError: No study in it, or one without a finished run; or, when all else is done,
            there are runs that have failed.
    """
    files = sorted(path for path in out.glob("*.json") if _is_study(path.stem))
    if not files:
        raise IclmsrError(
            f"no study in {out}: it holds no study.json, comparison.json or sweep-*.json"
        )
    failed: dict[str, str] = {}
    for file in files:
        study = read_json(file)
        failed |= study.get("failed", {})
        if not study["rows"] and study.get("failed"):
            continue
        if not study["rows"]:
            raise IclmsrError(f"{file} has no finished run yet")
        text = _tables(study)
        write_atomic(file.with_suffix(".md"), text.encode())
        print(text)
        if study["missing"]:
            print(f"{len(study['missing'])} runs are missing, {study['missing'][0]} first")
        pictures = _draw(file, study)
        print(f"wrote {file.with_suffix('.md')}, {', '.join(map(str, pictures))}")
    if failed:
        name, message = next(iter(failed.items()))
        raise IclmsrError(
            f"these runs have failed, remove their folders in {out / 'cells'} to try again: "
            f"{', '.join(failed)}; {name}: {message}"
        )


def show_backgrounds(found: dict[str, Any]) -> None:
    """Prints what the background challenge found of one encoder."""
    print(f"{found['encoder']}: top-1 accuracy, percent")
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


def _is_study(name: str) -> bool:
    """Whether a file of this name holds a study."""
    return name in ("study", "comparison") or name.startswith("sweep-")


def _tables(study: dict[str, Any]) -> str:
    """The study as Markdown."""
    if study["study"] == "four-settings":
        tables = [four_settings_table(study, kind=kind) for kind in ("linear", "knn")]
    elif study["study"] == "comparison":
        tables = [comparison_table(study, kind=kind) for kind in ("linear", "knn")]
    else:
        tables = [sweep_table(study, kind=kind) for kind in ("linear", "knn")]
    return "\n".join(tables)


def _draw(file: Path, study: dict[str, Any]) -> list[Path]:
    """The study's figures, beside its file."""
    if study["study"] == "four-settings":
        figures = {"four-bars": four_bars(study), "base-and-msr": base_against_msr(study)}
    elif study["study"] == "comparison":
        bases = dict.fromkeys(row["base"] for row in study["rows"])
        figures = {f"comparison-{base}": forest(study, base) for base in bases}
    else:
        figures = {file.stem: sweep_figure(study)}
    for name, figure in figures.items():
        save(figure, file.with_name(f"{name}.png"))
    return [file.with_name(f"{name}.png") for name in figures]
