# SPDX-License-Identifier: Apache-2.0
"""A causal graph as text and as a figure."""

from io import BytesIO
from itertools import pairwise
from math import cos, pi, sin
from pathlib import Path

from iclmsr.causal.graph import ANCHOR, INSTANCE_DISCRIMINATION, POSITIVE, SEMANTICS, CausalGraph
from iclmsr.errors import IclmsrError
from iclmsr.files import write_atomic

_MEANINGS = {
    SEMANTICS: "semantic information, a confounder",
    POSITIVE: "positive sample: the other view of image i",
    ANCHOR: "its anchor, read as the label of the instance-discrimination task",
}


_INK, _GREY = "#222222", "#8A8A8A"
_BACKDOOR, _CAUSAL = "#D55E00", "#0072B2"  # Okabe and Ito: told apart by every kind of sight


def _causes(graph: CausalGraph, treatment: str, outcome: str) -> list[str]:
    """The treatment's direct causes: the set that closes every back-door path, if any does."""
    return [node for node in graph.parents(treatment) if node != outcome]


def _edges(paths: list[list[str]]) -> set[frozenset[str]]:
    """All edges on the paths, without their direction."""
    return {frozenset(step) for path in paths for step in pairwise(path)}


def describe(
    graph: CausalGraph = INSTANCE_DISCRIMINATION,
    *,
    treatment: str = POSITIVE,
    outcome: str = ANCHOR,
) -> str:
    """The graph, its back-door paths and the adjustment that closes them, as text.

    Args:
        graph: Any causal graph.
        treatment: The node that is intervened on.
        outcome: The node whose distribution is asked for.

    Returns:
        Several lines without a line break at the end.

    Raises:
        IclmsrError: A node that the graph has not.

    Source: Qiang et al. 2022 (arXiv 2206.14702), section 3 and Eq. 1. Departure: none.

    >>> print(describe(CausalGraph([("X", "Y")]), treatment="X", outcome="Y").splitlines()[-1])
      P(Y | do(X)) = P(Y | X)
    """
    paths = graph.backdoor_paths(treatment, outcome)
    width = max(len(node) for node in graph.nodes)
    lines = ["Nodes"]
    lines += [f"  {node:<{width}}  {_MEANINGS.get(node, '')}".rstrip() for node in graph.nodes]
    lines += ["", "Edges"]
    lines += [f"  {cause:<{width}} -> {effect}" for cause, effect in graph.edges]
    lines += ["", f"Back-door paths from {treatment} to {outcome}"]
    for path in paths:
        steps = [f"{'->' if step in graph.edges else '<-'} {step[1]}" for step in pairwise(path)]
        lines.append("  " + " ".join([treatment, *steps]))
    lines += [] if paths else ["  none"]
    causes = _causes(graph, treatment, outcome)
    lines += ["", "Back-door criterion"]
    for names in ([], causes) if causes else ([],):
        verdict = graph.satisfies_backdoor(treatment, outcome, names)
        label = "{" + ", ".join(names) + "}"
        lines.append(f"  {label:<{width}}  {'satisfied' if verdict else 'not satisfied'}")
    lines += ["", f"Back-door adjustment, X = {treatment} and Y = {outcome}"]
    if graph.satisfies_backdoor(treatment, outcome, ()):
        lines.append("  P(Y | do(X)) = P(Y | X)")
    elif graph.satisfies_backdoor(treatment, outcome, causes):
        lines.append("  P(Y | do(X)) = sum_t P(Y | X, Z_s^t) P(Z_s^t)    (1)")
        lines.append(f"  with Z_s^1 .. Z_s^n the strata of {', '.join(causes)}")
    else:
        lines.append("  none: no set of direct causes satisfies the criterion")
    return "\n".join(lines)


def draw(
    graph: CausalGraph,
    path: Path,
    *,
    treatment: str = POSITIVE,
    outcome: str = ANCHOR,
) -> None:
    """Draws the graph with its back-door paths highlighted.

    Args:
        graph: Any causal graph; node names are set as mathematics.
        path: The file to write, its suffix the format (.png, .svg, .pdf).
        treatment: The node that is intervened on.
        outcome: The node whose distribution is asked for.

    Raises:
        IclmsrError: A node that the graph has not, an unknown suffix, or a file that cannot be
            written; nothing is left of it then.

    Source: Qiang et al. 2022 (arXiv 2206.14702), section 3. Departure: the layout is ours.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Circle, FancyArrowPatch

    backdoor = _edges(graph.backdoor_paths(treatment, outcome))
    causal = _edges(graph.causal_paths(treatment, outcome))
    figure = Figure(figsize=(5.2, 4.4), dpi=200, layout="constrained")
    if path.suffix[1:] not in figure.canvas.get_supported_filetypes():
        raise IclmsrError(f"cannot draw to {path}: end its name in .png, .svg or .pdf")
    axes = figure.add_subplot(aspect="equal")
    axes.set_axis_off()

    circles = {}
    turn = 2 * pi / max(len(graph.nodes), 2)
    radius = min(0.5, sin(turn / 2))
    for index, node in enumerate(graph.nodes):
        x, y = -2 * sin(turn * index), 1.5 * cos(turn * index)
        circles[node] = Circle((x, y), radius, facecolor="white", edgecolor=_INK, linewidth=1.3)
        axes.add_patch(circles[node])
        label = f"${node}$".replace("-", "{-}")  # a minus in an index wants no room around it
        axes.text(x, y, label, ha="center", va="center", size=16, color=_INK, math_fontfamily="cm")
        role = _MEANINGS.get(node, "").partition(",")[0].partition(":")[0]
        side = 1 if y > 0 else -1
        axes.text(x, y + side * 1.4 * radius, role, ha="center", va="center", size=9, color=_INK)
    key = {}
    for cause, effect in graph.edges:
        if {cause, effect} in backdoor:
            meaning, color, width = "back-door path", _BACKDOOR, 2.8
        elif {cause, effect} in causal:
            meaning, color, width = "causal effect", _CAUSAL, 1.6
        else:
            meaning, color, width = "other cause", _GREY, 1.6
        arrow = FancyArrowPatch(
            circles[cause].center,
            circles[effect].center,
            patchA=circles[cause],
            patchB=circles[effect],
            shrinkA=2,
            shrinkB=2,
            arrowstyle="-|>,head_width=0.28,head_length=0.5",
            mutation_scale=18,
            linewidth=width,
            color=color,
        )
        axes.add_patch(arrow)
        key[meaning] = Line2D([], [], color=color, linewidth=width)
    axes.autoscale_view()
    axes.margins(0.05)
    if key:
        figure.legend(
            [*key.values()],
            [*key],
            loc="outside lower center",
            ncols=3,
            frameon=False,
            fontsize=9,
        )
    drawing = BytesIO()
    figure.savefig(drawing, format=path.suffix[1:])
    write_atomic(path, drawing.getbuffer())
