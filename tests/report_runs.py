# SPDX-License-Identifier: Apache-2.0
"""Run folders as a run leaves them, without training anything."""

import io
import json
import math
from pathlib import Path

import numpy as np
from PIL import Image

from iclmsr.files import write_atomic, write_json
from iclmsr.runs import RunFolder

SIDE = 32
"""Of a thumbnail, pixels, as in galleries of real runs."""


def write_run(
    path: Path,
    *,
    method="simclr",
    msr=False,
    source="cifar10",
    seed=0,
    epochs=4,
    done=None,
    linear=60.0,
    knn=50.0,
    checkpoint=True,
    evaluated=True,
    gallery=0,
    **more,
) -> Path:
    """A run folder; ``done`` of ``epochs`` are behind it."""
    done = epochs if done is None else done
    config = {
        "recipe": f"{method}{'-msr' if msr else ''}-{source}", "epochs": epochs, "seed": seed,
        "method": {"name": method, "temperature": 0.5}, "encoder": {"name": "resnet18", "width": 8},
        "data": {"source": source, "limit": None}, "views": {"size": 32},
        "msr": {"enabled": msr, "bound": "sigmoid"}, **more,
    }  # fmt: skip
    environment = {
        "time": "2026-01-02T03:04:05+00:00", "commit": "0123456789abcdef", "device": "cpu",
        "versions": {"torch": "2.14"}, "machine": {"processor": "a processor"},
    }  # fmt: skip
    folder = RunFolder.create(path, config, environment)
    for epoch in range(1, done + 1):
        losses = {"loss": 5 - 0.5 * math.log(epoch) + 0.1 * seed, "contrastive": 4.0}
        health = {"embedding_std": 0.9, "effective_rank": 20.0 + epoch}
        speed = {"images_per_second": 100.0 + seed, "seconds": 2.0, "data_wait": 0.02}
        folder.log(event="epoch", epoch=epoch, step=10 * epoch, **losses, **health, **speed)
        if msr:
            weights = [[round(0.2 + 0.05 * d + 0.1 * t, 3) for d in range(4)] for t in range(3)]
            weights[0][0] = round(0.2 + 0.1 * epoch, 3)
            folder.weights.add(
                epoch=epoch, strata=3, dims=8, kept=[0, 2, 4, 6], weights=weights,
                mean=0.5, std=0.1, distance=0.1 + 0.01 * epoch,
            )  # fmt: skip
    if done:
        header = json.dumps({"__metadata__": {"iclmsr": json.dumps({"epoch": done})}}).encode()
        write_atomic(folder.encoder, len(header).to_bytes(8, "little"), header)
        if checkpoint:
            (folder.checkpoints / "checkpoint-0000000001-00000000.pt").touch()
    if evaluated and done:
        write_evaluation(path, linear, knn, source=source, epoch=done)
    if gallery:
        write_gallery(path, gallery)
    return path


def write_evaluation(
    run: Path,
    linear=60.0,
    knn=50.0,
    *,
    name="evaluation.json",
    source="cifar10",
    epoch=4,
    k=5,
    protocol="w-mse-2021",
    version=1,
    images="0a1b",
    untrained=None,
    data=None,
    **more,
) -> None:
    """A judgement of a run, as ``evaluate`` writes it; ``data`` and ``more`` are its settings."""

    def result(linear, knn):
        return {"linear": {"top1": linear}, "knn": {"k": k, "top1": knn}}

    baselines = {} if untrained is None else {"untrained": result(*untrained)}
    config = {"protocol": protocol, "k": k, "data": {"source": source, **(data or {})}, **more}
    report = {
        "protocol": protocol, "protocol_version": version, "epoch": epoch,
        "results": {"encoder": result(linear, knn), **baselines}, "config": config,
        "data": {split: {"sha256": images} for split in ("train", "test")},
    }  # fmt: skip
    write_json(run / name, report)


def write_gallery(path: Path, count: int, classes: int = 10) -> None:
    """A gallery in clusters on the map: noise, the hardest to pack, around the class's colour."""
    draw = np.random.default_rng(0)
    labels = np.arange(count) % classes
    angle = 2 * np.pi * labels / classes
    points = np.stack([np.cos(angle), np.sin(angle)], 1) + draw.normal(0, 0.15, (count, 2))
    columns, side = 100, SIDE
    rows = -(-count // columns)
    sheet = draw.integers(0, 256, (rows, side, columns, side, 3), np.uint8)
    colours = np.stack([25 * labels, np.full(count, 200), 255 - 25 * labels], 1)
    middle = slice(side // 4, -side // 4)
    for place, colour in enumerate(colours):
        row, column = divmod(place, columns)
        sheet[row, middle, column, middle] = colour
    sheet = sheet.reshape(rows * side, columns * side, 3)
    samples = np.full((2 * side, 4 * side, 3), 128, np.uint8)
    (path / "gallery").mkdir()
    for name, pixels, kind in (("thumbnails.webp", sheet, "webp"), ("samples.png", samples, "png")):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, kind)
        write_atomic(path / "gallery" / name, buffer.getvalue())
    gallery = {
        "encoder": "0", "epoch": 4, "split": "test", "there": 2 * count,
        "classes": [f"class {c}" for c in range(classes)], "labels": labels.tolist(),
        "pca": points.round(5).tolist(), "umap": points[:, ::-1].round(5).tolist(),
        "explains": [0.4, 0.2],
        "neighbours": [[(i + classes * k) % count for k in range(1, 6)] for i in range(count)],
        "thumbnails": {"columns": columns, "side": side},
        "samples": {"cells": ["image", "foreground", "view 1", "view 2"], "side": side},
        "sample_labels": [0, 1],
    }  # fmt: skip
    write_json(path / "gallery" / "gallery.json", gallery)
