# SPDX-License-Identifier: Apache-2.0
"""How the study's figures look: colours, frames, dots, and how they are saved."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from iclmsr.files import write_atomic

INK, GREY, PALE = "#222222", "#6f6f6f", "#d9d9d9"
BLUE, ORANGE, GREEN, RED = "#0072b2", "#e69f00", "#009e73", "#d55e00"  # Okabe and Ito
DPI = 150


def save(figure: Figure, path: Path) -> None:
    """Writes a figure as a PNG file whose bytes depend on the figure alone.

    Raises:
        IclmsrError: The file cannot be written; nothing is left of it.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    write_atomic(path, buffer.getbuffer())


def settle(axes: Axes, *, grid: Literal["x", "y"]) -> None:
    """No box, and pale lines across the axis called ``grid`` (x or y) below all that is drawn."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, color=PALE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9, colors=INK)


def spread(centre: float, count: int, width: float) -> list[float]:
    """Places of ``count`` seeds about a centre, apart but within ``width``; one stays on it."""
    if count == 1:
        return [centre]
    return [centre + width * (place / (count - 1) - 0.5) for place in range(count)]


def seeds(
    axes: Axes, x: Sequence[float], y: Sequence[float], *, joined: bool = False, size: float = 3.6
) -> None:
    """A dot a seed at (x, y), a line between them if they are joined."""
    axes.plot(
        x,
        y,
        color=INK,
        linestyle="-" if joined else "",
        linewidth=0.8,
        marker="o",
        markersize=size,
        markeredgecolor="white",
        markeredgewidth=0.5,
        zorder=4,
    )


def seed_key(label: str = "one seed") -> Line2D:
    """The legend's entry for a dot."""
    return Line2D([], [], color=INK, marker="o", markersize=4, linestyle="", label=label)


def show_image(axes: Axes, image: Tensor) -> None:
    """An image (3, H, W) uint8 without ticks or frame."""
    axes.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
