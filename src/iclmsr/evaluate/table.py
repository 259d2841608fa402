# SPDX-License-Identifier: Apache-2.0
"""A report on the terminal."""

from typing import Any

from rich.console import Console
from rich.table import Table

HARDEST = 3


def show(report: dict[str, Any]) -> None:
    """Prints a report's accuracies as tables."""
    console = Console()
    console.print(_main(report))
    results = report["results"]
    variants = Table(title="other neighbours, top-1 and top-5, percent")
    for column in ("", "k", "uniform, Euclidean", "weighted, cosine"):
        variants.add_column(column, justify="right" if column else "left")
    for name, result in results.items():
        for k in sorted({one["k"] for one in result["knn_variants"]}):
            cells = {
                one["distance"]: f"{one['top1']:.2f}  {one['top5']:.2f}"
                for one in result["knn_variants"]
                if one["k"] == k
            }
            variants.add_row(name, str(k), cells.get("euclidean", ""), cells.get("cosine", ""))
    if variants.row_count:
        console.print(variants)
    for name, result in results.items():
        for line in _lines(name, result, report["classes"]):
            console.print(line, markup=False, highlight=False, soft_wrap=True)


def _main(report: dict[str, Any]) -> Table:
    """The protocol's own numbers."""
    k = next(iter(report["results"].values()))["knn"]["k"]
    epoch = f", epoch {report['epoch']}" if "epoch" in report else ""
    table = Table(title=f"accuracy, percent (protocol {report['protocol']}{epoch})")
    table.add_column("")
    columns = [("linear", "top1"), ("linear", "top5"), ("knn", "top1"), ("knn", "top5")]
    for kind, top in columns:
        table.add_column(f"{kind if kind == 'linear' else f'{k}-nn'} {top}", justify="right")
    for name, result in report["results"].items():
        table.add_row(name, *(f"{result[kind][top]:.2f}" for kind, top in columns))
    return table


def _lines(name: str, result: dict[str, Any], classes: list[str]) -> list[str]:
    """What else there is to say of one encoder."""
    lines = []
    for few in result.get("few_labels", []):
        spread = "" if few["top1_sd"] is None else f" +- {few['top1_sd']:.2f}"
        lines.append(
            f"{name}: linear probe on {100 * few['share']:g} % of the labels ({few['images']} "
            f"images, {len(few['top1_draws'])} draws): top-1 {few['top1']:.2f}{spread}, "
            f"top-5 {few['top5']:.2f}"
        )
    if "fine_tuning" in result:
        tuned = result["fine_tuning"]
        lines.append(
            f"{name}: fine-tuned on {tuned['images']} images: "
            f"top-1 {tuned['top1']:.2f}, top-5 {tuned['top5']:.2f}"
        )
    if "linear_choice" in result:
        chosen = result["linear_choice"]
        edge = ", at the edge of the grid: widen linear-lbfgs.penalties" * chosen["at_edge"]
        stopped = "" if chosen["converged"] else ", not converged: raise max-iterations"
        lines.append(f"{name}: penalty {chosen['penalty']:g} was best{edge}{stopped}")
    known = [(value, label) for label, value in enumerate(result["per_class"]["linear"])]
    hardest = sorted(one for one in known if one[0] is not None)[:HARDEST]
    if len(classes) > HARDEST:
        worst = ", ".join(f"{classes[label]} {value:.1f}" for value, label in hardest)
        lines.append(f"{name}: hardest classes for the linear probe: {worst}")
    return lines
