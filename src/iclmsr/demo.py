# SPDX-License-Identifier: Apache-2.0
"""The main job in a few minutes on embedded data: pretrain, evaluate, look."""

import io
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from torch import Tensor

from iclmsr.data.images import ImageSet
from iclmsr.data.names import printable
from iclmsr.data.sources import load
from iclmsr.evaluate import EvaluateConfig, evaluate, features_of, judge_features
from iclmsr.evaluate.features import Features
from iclmsr.files import write_atomic
from iclmsr.networks import Encoder, initial_encoder, read_encoder
from iclmsr.pretrain import pretrain
from iclmsr.recipes import recipe

RECIPE = "simclr-msr-synthetic"
NAMES = {"pixels": "raw pixels", "untrained": "untrained encoder", "encoder": "SimCLR + MSR"}
_COLOURS = {"test": "#0072b2", "test-swapped": "#e69f00"}  # Okabe-Ito, safe for the colour-blind


def demo(out: Path) -> None:
    """Pretrains SimCLR + MSR on shapes, judges it on usual and on swapped backgrounds.

    Args:
        out: The run folder to make; ``demo.png`` in it shows what came out.

    Raises:
        IclmsrError: As :func:`iclmsr.pretrain.pretrain`.
    """
    config = recipe(RECIPE).config
    print(f"pretraining {RECIPE}: shapes on textures, most of each shape on a texture of its own")
    pretrain(config, out)
    settings = EvaluateConfig(baselines=True, data=config.data)
    standard = evaluate(out, settings)["results"]
    splits = {name: load(config.data, name) for name in ("train", "test", "test-swapped")}
    encoders: dict[str, Encoder | None] = {
        "pixels": None,
        "untrained": initial_encoder(config.encoder, config.seed),
        "encoder": read_encoder(out / "encoder.safetensors")[0],
    }
    features = {
        name: {
            split: features_of(encoder, images, settings)
            for split, images in splits.items()
            if split != "test"
        }
        for name, encoder in encoders.items()
    }
    results = {
        name: {
            "test": standard[name],
            "test-swapped": judge_features(known["train"], known["test-swapped"], settings),
        }
        for name, known in features.items()
    }
    picture = out / "demo.png"
    draw(results, splits["train"], splits["test-swapped"], features, picture)
    _print(results, len(splits["train"].classes))
    print(f"run folder: {printable(out)}")
    print(f"picture: {printable(picture)}")


def _print(results: dict[str, Any], classes: int) -> None:
    """The demo's table."""
    table = Table(
        title="top-1 accuracy, percent",
        caption=f"usual: backgrounds as in training; swapped: drawn at random; "
        f"chance is {100 / classes:.1f}",
    )
    table.add_column("")
    columns = [
        (title, kind, split)
        for title, kind in (("linear", "linear"), ("5-nn", "knn"))
        for split in _COLOURS
    ]
    for title, _, split in columns:
        table.add_column(f"{title}\n{'usual' if split == 'test' else 'swapped'}", justify="right")
    for name, shown in NAMES.items():
        table.add_row(
            shown, *(f"{results[name][split][kind]['top1']:.1f}" for _, kind, split in columns)
        )
    Console().print(table)


def draw(
    results: dict[str, Any],
    train: ImageSet,
    queries: ImageSet,
    features: dict[str, dict[str, Features]],
    path: Path,
) -> None:
    """Draws accuracies as bars, and a few images' nearest neighbours for pixels and encoder."""
    figure = Figure(figsize=(13, 6.2), layout="constrained")
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=(1, 1.9))[0]
    _draw_bars(left.subplots(), results, len(train.classes))
    right.suptitle("Images on swapped backgrounds and their 5 nearest training images")
    rows = [int((queries.labels == label).nonzero()[0]) for label in range(len(queries.classes))]
    axes = right.subplots(len(rows), 12, gridspec_kw={"width_ratios": [1] * 6 + [0.25] + [1] * 5})
    for column, title in ((0, "query"), (3, "raw pixels"), (9, "SimCLR + MSR")):
        axes[0][column].set_title(title, fontsize=10)
    for place, query in enumerate(rows):
        _draw_image(axes[place][0], queries.images[query], None)
        axes[place][6].axis("off")
        for name, first in (("pixels", 1), ("encoder", 7)):
            known = features[name]
            distance = torch.cdist(
                known["test-swapped"].features[query : query + 1], known["train"].features
            )[0]
            for rank, neighbour in enumerate(distance.topk(5, largest=False).indices.tolist()):
                right_class = bool(train.labels[neighbour] == queries.labels[query])
                _draw_image(axes[place][first + rank], train.images[neighbour], right_class)
    right.supxlabel("blue frame: same shape as the query   orange frame: another", fontsize=9)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    write_atomic(path, buffer.getvalue())


def _draw_bars(axes: Axes, results: dict[str, Any], classes: int) -> None:
    """Linear accuracy of each encoder on usual and swapped backgrounds."""
    for shift, (split, colour) in enumerate(_COLOURS.items()):
        heights = [results[name][split]["linear"]["top1"] for name in NAMES]
        places = [place + 0.4 * shift - 0.2 for place in range(len(NAMES))]
        label = "usual backgrounds" if split == "test" else "swapped backgrounds"
        bars = axes.bar(places, heights, width=0.38, color=colour, label=label)
        axes.bar_label(bars, fmt="%.0f", fontsize=9)
    axes.axhline(100 / classes, color="#555555", linestyle=":", label="chance")
    axes.set_xticks(range(len(NAMES)), [name.replace(" ", "\n", 1) for name in NAMES.values()])
    axes.set_ylabel("linear probe, top-1 accuracy (%)")
    best = max(
        result["linear"]["top1"] for splits in results.values() for result in splits.values()
    )
    axes.set_ylim(0, min(105, 1.3 * best))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper left", fontsize=9)


def _draw_image(axes: Axes, image: Tensor, right: bool | None) -> None:
    """One image (3, H, W) uint8 with a frame that says whether its class is right."""
    axes.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    colour = {True: "#0072b2", False: "#e69f00", None: "white"}[right]
    for spine in axes.spines.values():
        spine.set_edgecolor(colour)
        spine.set_linewidth(2.5)
