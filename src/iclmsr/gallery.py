# SPDX-License-Identifier: Apache-2.0
"""Pictures of what an encoder sees, written into the run folder for a report to read."""

import dataclasses
import hashlib
import io
import math
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from iclmsr.config import PretrainConfig, decode
from iclmsr.data.feed import feed_of
from iclmsr.data.file_set import FileSet
from iclmsr.data.found import find_files
from iclmsr.data.images import ImageSet
from iclmsr.data.sources import DataConfig, open_split
from iclmsr.data.views import draw_parameters, make_views
from iclmsr.devices import choose_device
from iclmsr.encoders import load_encoder
from iclmsr.errors import IclmsrError
from iclmsr.evaluate.features import extract
from iclmsr.files import read_json, write_atomic, write_json
from iclmsr.runs import RunFolder
from iclmsr.seeds import derive, generator

NEIGHBOURS = 5
"""Nearest images that are kept of each."""
SAMPLES = 8
"""Training images that are shown with their views."""
SIDE = 32
"""Largest side of a thumbnail, pixels."""
LARGEST = 16_383
"""Longest side of a picture that is WebP, pixels."""


def make_gallery(
    run: Path, *, points: int = 2000, umap: bool = False, root: str | Path | None = None
) -> dict[str, Any]:
    """Draws images, embeds them, and writes ``gallery/`` into a run folder.

    Args:
        run: The run folder, with an encoder.
        points: Images that are embedded, of the test split where there is one, >= 2; all, if
            there are fewer. At most 261,121 with thumbnails of 32 x 32 pixels.
        umap: Also project by UMAP (extra ``umap``), from a fixed seed.
        root: Where the data lie now, if they have moved.

    Returns:
        What ``gallery.json`` holds: ``pca`` (N, 2), the share of variance that each axis
        ``explains``, ``labels``, ``classes``, and the ``neighbours`` (N, 5) of each image among
        the N, by Euclidean distance as in the protocol, nearest first; thumbnails and samples
        lie beside it as pictures.

    Raises:
        IclmsrError: No encoder, no data, ``points`` < 2 or more than a picture of their thumbnails
            can hold, or a missing package.
    """
    if points < 2:
        raise IclmsrError(f"points must be >= 2, got {points}")
    config = decode(PretrainConfig, RunFolder.open(run).config())
    data = dataclasses.replace(config.data, limit=None, root=root or config.data.root)
    encoder = load_encoder(run)
    split = _split(data)
    whole = open_split(data, split)
    columns = _columns(min(points, len(whole)), min(SIDE, data.image_size))
    shown, there = _draw(whole, points, config.seed, "gallery")
    features = extract(
        encoder.network,
        dataclasses.replace(shown, labels=torch.zeros_like(shown.labels)),
        mean=encoder.mean,
        std=encoder.std,
        device=choose_device("auto"),
    ).features
    pca, explains = project(features)
    thumbnails = _sprite(shown.images, columns)
    sources, _ = _draw(open_split(data, "pretrain"), SAMPLES, config.seed, "samples")
    samples, cells = _samples(sources, config)
    found = {
        "encoder": encoder.sha256,
        "epoch": encoder.metadata["epoch"],
        "split": split,
        "there": there,
        "classes": list(shown.classes),
        "labels": shown.labels.tolist(),
        "pca": _rounded(pca),
        "explains": [round(share, 4) for share in explains],
        "neighbours": nearest(features, NEIGHBOURS).tolist(),
        "thumbnails": {"columns": columns, "side": thumbnails.width // columns},
        "samples": {"cells": cells, "side": samples.height // len(sources)},
        "sample_labels": sources.labels.tolist(),
    }
    if umap:
        found["umap"] = _rounded(_umap(features, config.seed))
    folder = run / "gallery"
    folder.mkdir(exist_ok=True)
    write_atomic(folder / "thumbnails.webp", _file(thumbnails, "webp", quality=80))
    write_atomic(folder / "samples.png", _file(samples, "png"))
    write_json(folder / "gallery.json", found)  # last: it vouches for the others
    return found


def is_current(run: Path) -> bool:
    """Whether a run folder's gallery is there and of its present encoder."""
    path = run / "gallery" / "gallery.json"
    if not path.is_file():
        return False
    present = hashlib.sha256((run / "encoder.safetensors").read_bytes()).hexdigest()
    return bool(read_json(path).get("encoder") == present)


def project(features: Tensor) -> tuple[Tensor, list[float]]:
    """The first two principal components.

    Args:
        features: (N, F), N >= 2.

    Returns:
        (N, 2) coordinates, each axis turned so that its largest value is positive, and the share
        of the variance that each explains, in [0, 1].

    Source: none, the usual analysis. Departure: none.

    >>> points, shares = project(torch.tensor([[0.0, 0.0], [2.0, 0.0], [4.0, 0.0]]))
    >>> points[:, 0].abs().round(decimals=4).tolist(), [round(share, 4) for share in shares]
    ([2.0, 0.0, 2.0], [1.0, 0.0])
    """
    centred = features.double() - features.double().mean(0)
    left, singular, _ = torch.linalg.svd(centred, full_matrices=False)
    if len(singular) < 2:
        left, singular = (torch.nn.functional.pad(t, (0, 1)) for t in (left, singular))
    points = left[:, :2] * singular[:2]
    points *= points.gather(0, points.abs().argmax(0, keepdim=True)).sign()
    total = singular.square().sum().clamp_min(1e-300)
    return points, (singular[:2].square() / total).tolist()


def nearest(features: Tensor, count: int) -> Tensor:
    """The nearest other rows of each, by Euclidean distance in float64.

    Args:
        features: (N, F).
        count: How many, fewer where N - 1 is less.

    Returns:
        (N, count) int64, nearest first.

    >>> nearest(torch.tensor([[0.0], [1.0], [5.0]]), 1).tolist()
    [[1], [0], [1]]
    """
    rows = features.double()
    count = min(count, len(rows) - 1)
    found = []
    for part in torch.arange(len(rows)).split(512):  # type: ignore[no-untyped-call]
        distance = torch.cdist(rows[part], rows)
        distance[torch.arange(len(part)), part] = float("inf")
        found.append(distance.topk(count, largest=False).indices)
    return torch.cat(found)


def _split(data: DataConfig) -> str:
    """The test split, or the training images where there is none."""
    files = find_files(data)
    return "test" if files is None or files.has_test else "train"


def _draw(images: ImageSet | FileSet, count: int, seed: int, purpose: str) -> tuple[ImageSet, int]:
    """Some images drawn at random, in the order of the set, and how many there are."""
    there = len(images)
    order = torch.randperm(there, generator=generator(seed, purpose))
    index = order[: min(count, there)].sort().values
    if isinstance(images, ImageSet):
        return images.take(index), there
    with feed_of(images, torch.device("cpu"), None) as feed:
        feed.expect([index])
        pixels = feed.fetch(index)
    return ImageSet(pixels, images.labels[index], images.classes), there


def _samples(images: ImageSet, config: PretrainConfig) -> tuple[Image.Image, list[str]]:
    """A row for each image: itself, its foreground if known, its views; and what a column is."""
    columns, cells = [images.images], ["image"]
    if images.masks is not None:
        dim = images.images // 4 + 96
        columns.append(torch.where(images.masks[:, None], images.images, dim))
        cells.append("foreground")
    height, width = images.images.shape[-2:]
    for view in range(config.view_count):
        own = config.views.for_view(view)
        draw = generator(config.seed, "gallery", view)
        parameters = draw_parameters(len(images), height, width, own, draw)
        made = make_views(images.images, parameters, own, mean=(0.0,) * 3, std=(1.0,) * 3)
        columns.append(made.clamp(0, 1).mul(255).round().to(torch.uint8))
        cells.append(f"view {view + 1}")
    side = min(96, max(width, config.views.size))
    sheet = Image.new("RGB", (side * len(columns), side * len(images)))
    for place, column in enumerate(columns):
        for row, pixels in enumerate(column):
            sheet.paste(_picture(pixels, side), (place * side, row * side))
    return sheet, cells


def _columns(count: int, side: int) -> int:
    """Thumbnails in a row of their picture, which holds ``count`` of ``side`` pixels.

    Raises:
        IclmsrError: They do not fit into a picture.

    >>> _columns(60, 32), _columns(10_000, 32), _columns(60_000, 32)
    (60, 100, 245)
    """
    most = (LARGEST // side) ** 2
    if count > most:
        raise IclmsrError(
            f"{count:,} thumbnails do not fit into one picture: pass --points of at most {most:,}"
        )
    return min(count, max(100, math.isqrt(count - 1) + 1))


def _sprite(images: Tensor, columns: int) -> Image.Image:
    """Thumbnails row by row in one picture."""
    side = min(SIDE, images.shape[-1])
    sheet = Image.new("RGB", (columns * side, -(-len(images) // columns) * side))
    for place, pixels in enumerate(images):
        row, column = divmod(place, columns)
        sheet.paste(_picture(pixels, side), (column * side, row * side))
    return sheet


def _picture(pixels: Tensor, side: int) -> Image.Image:
    """An image (3, S, S) uint8 as a picture of another size."""
    picture = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
    return picture.resize((side, side), Image.Resampling.LANCZOS)


def _file(picture: Image.Image, kind: str, **options: Any) -> bytes:
    """A picture as the bytes of a file."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def _umap(features: Tensor, seed: int) -> Tensor:
    """UMAP's projection (N, 2)."""
    try:
        from umap import UMAP
    except ImportError as error:
        raise IclmsrError("--umap needs the package umap-learn: pip install 'iclmsr[umap]'") from (
            error
        )
    state = derive(seed, "umap") % 2**32
    neighbours = min(15, len(features) - 1)
    made = UMAP(random_state=state, n_neighbors=neighbours, n_jobs=1).fit_transform(
        features.numpy()
    )
    return torch.from_numpy(made)


def _rounded(points: Tensor) -> list[list[float]]:
    """Coordinates with five digits of the map's extent."""
    scale = float(points.abs().max()) or 1.0
    return [[round(value / scale, 5) for value in point] for point in points.tolist()]
