# SPDX-License-Identifier: Apache-2.0
"""How the study's figures look: colours, frames, dots, and how they are saved."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from iclmsr.files import write_atomic

INK, GREY, PALE = "#222222", "#6f6f6f", "#d9d9d9"
BLUE, ORANGE, GREEN, RED = "#0072b2", "#e69f00", "#009e73", "#d55e00"  # Okabe and Ito
SEED_DOT = {"color": INK, "markersize": 3.6, "markeredgecolor": "white", "markeredgewidth": 0.5}
DPI = 150


def save(figure: Figure, path: Path) -> None:
    """Writes a figure as a PNG file whose bytes depend on the figure alone.

    Raises:
        IclmsrError: The file cannot be written; nothing is left of it.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    write_atomic(path, buffer.getbuffer())


def settle(axes: Axes, *, grid: str) -> None:
    """No box, and pale lines across the axis called ``grid`` (x or y) below all that is drawn."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, color=PALE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9, colors=INK)


def spread(values: Sequence[float], width: float) -> np.ndarray:
    """Offsets that keep the dots of several seeds apart, within ``width``; one dot stays put."""
    count = len(values)
    return np.linspace(-width / 2, width / 2, count) if count > 1 else np.zeros(1)


def seed_key(label: str = "one seed") -> Line2D:
    """The legend's entry for a dot."""
    return Line2D([], [], marker="o", linestyle="", label=label, **SEED_DOT)


def show_image(axes: Axes, image: Tensor) -> None:
    """An image (3, H, W) uint8 without ticks or frame."""
    axes.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
