# SPDX-License-Identifier: Apache-2.0
"""The figures of the concepts, computed: ``python docs/figures.py`` writes them anew."""

from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from iclmsr.causal import CausalGraph, DiscreteModel
from iclmsr.config import MSRConfig, PretrainConfig
from iclmsr.schedule import plan

PICTURES = Path(__file__).parent / "pictures"
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#8A8A8A"  # told apart by every kind of sight
PLACE, BEST = torch.tensor([0.0, 0.0]), torch.tensor([1.0, 0.35])
"""Where theta is, and where the contrastive loss is least."""
PULLS = torch.tensor([[1.5, -0.35], [0.45, 1.4], [-1.2, -0.45]])
"""Where each of three strata would have theta go, from where it is."""
LR = 0.75
AFTER_STEP = "θ\N{PRIME}"
PAPER = {"facecolor": "white", "edgecolor": "none", "pad": 1}


def effects(tie: float) -> tuple[float, float]:
    """How much P(Y) rises as X goes from 0 to 1: seen, and done.

    Args:
        tie: P(X = Z), in [0.5, 1): how much X gives away of the confounder.

    >>> tuple(round(effect, 2) for effect in effects(0.9))
    (0.58, 0.1)
    """
    model = DiscreteModel(
        CausalGraph([("Z", "X"), ("Z", "Y"), ("X", "Y")]),
        {
            "Z": torch.tensor([0.5, 0.5]),
            "X": torch.tensor([[tie, 1 - tie], [1 - tie, tie]]),
            "Y": torch.tensor([[[0.9, 0.1], [0.8, 0.2]], [[0.3, 0.7], [0.2, 0.8]]]),
        },
    )
    seen = [model.probability("Y", {"X": x})[1].item() for x in (0, 1)]
    done = [model.do({"X": x}).probability("Y")[1].item() for x in (0, 1)]
    return seen[1] - seen[0], done[1] - done[0]


def draw_adjustment(out: Path) -> None:
    """What watching and what acting say about X, as the confounder shows through X."""
    ties = np.linspace(0.5, 0.98, 25)
    seen, done = zip(*map(effects, ties), strict=True)
    figure = Figure(figsize=(6.4, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.plot(100 * ties, seen, color=ORANGE)
    axes.plot(100 * ties, done, color=BLUE)
    axes.text(84, seen[17] + 0.04, "seeing X: P(Y | X)", color=ORANGE, ha="right")
    axes.text(97, done[-1] + 0.03, "moving X: P(Y | do(X)), Eq. 1", color=BLUE, ha="right")
    axes.set_xlabel("how often X agrees with its confounder Z (%)")
    axes.set_ylabel("how much X raises P(Y)")
    axes.set_ylim(0, 0.75)
    _save(figure, out)


def contrastive(theta: Tensor) -> Tensor:
    """A contrastive loss of two parameters, (..., 2) -> (...)."""
    away = theta - BEST
    return away[..., 0].square() + 2 * away[..., 1].square() + 1.2 * away.prod(-1)


def stepped(weights: Tensor) -> Tensor:
    """Theta' (2), after a step of stage 1 that gives the strata the weights (3)."""
    return PLACE + LR * weights @ PULLS


def stage_two(steps: int, rate: float = 1.0) -> list[Tensor]:
    """The strata's weights (3) before and after each step of psi, theta where it is."""
    psi = torch.zeros(3, requires_grad=True)
    found = [psi.softmax(0).detach()]
    for _ in range(steps):
        (slope,) = torch.autograd.grad(contrastive(stepped(psi.softmax(0))), psi)
        psi = (psi - rate * slope).detach().requires_grad_()
        found.append(psi.softmax(0).detach())
    return found


def draw_stages(out: Path) -> None:
    """What stage 2 looks at, and when the two stages come."""
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.25])
    _draw_plane(left)
    _draw_schedules(right)
    _save(figure, out)


def _draw_plane(axes: Axes) -> None:
    """The plane of theta with virtual steps in it."""
    across, up = torch.meshgrid(
        torch.linspace(-1.35, 1.7, 120), torch.linspace(-0.75, 1.3, 120), indexing="xy"
    )
    loss = contrastive(torch.stack([across, up], -1))
    axes.contour(across, up, loss, levels=np.geomspace(0.02, 3, 9), colors=GREY, linewidths=0.6)
    for stratum, pull in enumerate(LR * PULLS, 1):
        axes.annotate(
            "", pull, PLACE, arrowprops={"arrowstyle": "->", "color": GREY, "linestyle": ":"}
        )
        axes.text(*(1.14 * pull), f"stratum {stratum}", color=GREY, ha="center", va="center")
    ways = [stepped(weights) for weights in stage_two(10)]
    axes.plot(*zip(*ways, strict=True), ".", color=BLUE, markersize=4)
    for end, colour, name in ((ways[0], ORANGE, "before"), (ways[-1], BLUE, "after")):
        axes.annotate("", end, PLACE, arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 1.8})
        said = f"{AFTER_STEP} {name}: L_cl = {contrastive(end):.2f}"
        axes.text(end[0] - 0.06, end[1] + 0.09, said, color=colour, ha="right", bbox=PAPER)
    axes.plot(*PLACE, "o", color="black", markersize=5)
    axes.text(PLACE[0], PLACE[1] - 0.14, "θ", ha="center")
    axes.set_title("Stage 2 turns the virtual step of θ to where L_cl is less", fontsize=10)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_aspect("equal")


def _draw_schedules(axes: Axes) -> None:
    """One epoch of twenty batches under both schedules, as ``plan`` makes it."""
    rows = {
        "interleaved": MSRConfig(enabled=True, every_steps=10),
        "epoch": MSRConfig(enabled=True, schedule="epoch", fraction=0.1),
    }
    for row, (name, msr) in enumerate(rows.items()):
        for column, update in enumerate(plan(PretrainConfig(msr=msr), 20, 0)):
            for lane, kind, colour in ((0.0, "theta", BLUE), (0.42, "psi", ORANGE)):
                if update.kind in (kind, "both"):
                    axes.add_patch(Rectangle((column, row + lane), 0.8, 0.34, color=colour))
        axes.text(-0.6, row + 0.38, name, ha="right", va="center")
    axes.text(0, -0.2, "stage 1: θ", color=BLUE, va="center")
    axes.text(6, -0.2, "stage 2: ψ", color=ORANGE, va="center")
    axes.set_title("One epoch of 20 batches, from left to right", fontsize=10)
    axes.set_xlim(-5.2, 22.5)
    axes.set_ylim(2.4, -0.7)
    axes.axis("off")


def _save(figure: Figure, out: Path) -> None:
    """A figure as a small PNG without a date."""
    figure.savefig(out, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    draw_adjustment(PICTURES / "adjustment.png")
    draw_stages(PICTURES / "two-stages.png")
