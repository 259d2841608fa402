# SPDX-License-Identifier: Apache-2.0
"""What a gallery shows: the map of embeddings, neighbours, and samples with their views."""

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from iclmsr.report.groups import Group
from iclmsr.report.markup import Html, code, element, fold, join, missing, section, table
from iclmsr.report.pictures import inline, opened, small
from iclmsr.report.reading import Run

QUERIES = 10
"""Images whose neighbours are shown, one of each class as far as that goes."""


def gallery_sections(groups: Sequence[Group], missed: Mapping[str, str]) -> list[Html]:
    """Map, neighbours and samples of the first run of each group.

    Args:
        groups: The runs.
        missed: Why a run has no gallery, by its name.
    """
    firsts = [group.runs[0] for group in groups]
    labels = {group.runs[0].name: group.label for group in groups}
    there = [run for run in firsts if run.gallery is not None]
    gaps = [_gap(run, missed.get(run.name)) for run in firsts if run.gallery is None]
    if not there:
        return [section("map", "Embedding map", *gaps)]
    return [
        section("map", "Embedding map", *gaps, _map(there, labels)),
        section("neighbours", "Nearest neighbours", *(_neighbours(r, labels) for r in there)),
        section("samples", "What the encoder sees", *(_samples(r, labels) for r in there[:1])),
    ]


def _gap(run: Run, why: str | None) -> Html:
    """That a run has no gallery."""
    made = code(f"iclmsr report {run.path} --data.root PATH")
    return missing(
        f"{run.name} has no gallery: {why or 'it was left out'}. Make it where its data are with ",
        made,
    )


def _map(runs: Sequence[Run], labels: Mapping[str, str]) -> Html:
    """The canvas, its data and what is under the pointer."""
    sprites: dict[str, int] = {}
    data = [_data(run, labels[run.name], sprites) for run in runs]
    texts = [
        element("script", Html(sprite), type="text/plain", id=f"sprite-{place}")
        for sprite, place in sprites.items()
    ]
    several = len(runs) > 1
    options = [element("option", labels[run.name], value=i) for i, run in enumerate(runs)]
    choose = element("label", "Run ", element("select", *options, id="map-run"), hidden=not several)
    # The first run's texts are in the page, so that nothing moves when the script begins.
    names = [element("option", name, value=name) for name in data[0]["projections"]]
    project = element("label", "Projection ", element("select", *names, id="map-projection"))
    canvas = element(
        "canvas",
        "A scatter plot of the embeddings; it needs JavaScript.",
        id="map-canvas",
        tabindex="0",
        role="application",
        aria_label="Map of embeddings",
        aria_describedby="map-help",
    )
    thumbnail = element("canvas", id="map-thumbnail", width=96, height=96, aria_hidden="true")
    near = element("canvas", id="map-near", width=260, height=48, aria_hidden="true")
    card = element(
        "div",
        thumbnail,
        element("output", "Point at the map, or focus it and use the arrow keys.",
                id="map-said", aria_live="polite"),
        element("p", "Nearest by the encoder:", class_="small"),
        near,
        class_="card",
    )  # fmt: skip
    about = element(
        "p",
        "Arrow keys move to the next image in that direction, Home and End to the first and last, "
        "Enter to its nearest neighbour. A class in the legend is lit by its button.",
        id="map-help",
        class_="small",
    )
    store = element("script", Html(_safe(data)), type="application/json", id="map-data")
    return element(
        "div",
        element("p", data[0]["note"], id="map-note", class_="small"),
        element("div", choose, " ", project, class_="controls"),
        element("div", canvas, card, class_="map"),
        element("div", id="map-classes", role="group", aria_label="Classes"),
        about,
        element("noscript", missing("The map is drawn by JavaScript, which is off.")),
        store,
        *texts,
    )


def _data(run: Run, label: str, sprites: dict[str, int]) -> dict[str, Any]:
    """What the page's script needs of one run."""
    gallery = run.gallery
    assert gallery is not None
    file = run.path / "gallery" / "thumbnails.webp"
    sprite = inline(file.read_bytes(), "webp") if file.is_file() else ""
    place = sprites.setdefault(sprite, len(sprites))
    count = len(gallery["labels"])
    share = [round(100 * value) for value in gallery["explains"]]
    note = (
        f"{count:,} of {gallery['there']:,} {gallery['split']} images after epoch "
        f"{gallery['epoch']}. The two principal components hold {share[0]} % and {share[1]} % of "
        "the variance of the features."
    )
    if "umap" in gallery:
        note += " UMAP keeps neighbourhoods, not distances."
    projections = {
        name: _packed(_spread(gallery[key]), "<u2")
        for name, key in (("PCA", "pca"), ("UMAP", "umap"))
        if key in gallery
    }
    return {
        "label": label,
        "note": note,
        "classes": gallery["classes"],
        "labels": _packed(np.array(gallery["labels"]) + 1, "<u2"),
        "projections": projections,
        "neighbours": _packed(np.array(gallery["neighbours"]), "<u4"),
        "kept": len(gallery["neighbours"][0]),
        "sprite": place,
        **gallery["thumbnails"],
    }


def _spread(points: Sequence[Sequence[float]]) -> np.ndarray:
    """Coordinates on 0..65535, the same scale along both axes."""
    where = np.array(points)
    low, high = where.min(0), where.max(0)
    side = float((high - low).max()) or 1.0
    middle = (low + high) / 2
    placed: np.ndarray = ((where - middle) / side * 65_535 + 32_767.5).clip(0, 65_535).round()
    return placed


def _packed(values: np.ndarray, kind: str) -> str:
    """Whole numbers as base64."""
    return base64.b64encode(np.ascontiguousarray(values.astype(kind)).tobytes()).decode()


def _safe(value: Any) -> str:
    """JSON that may stand in a script element."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def _neighbours(run: Run, labels: Mapping[str, str]) -> Html:
    """A few images with those that are nearest to them."""
    gallery = run.gallery
    assert gallery is not None
    sheet = opened(run.path / "gallery" / "thumbnails.webp")
    own: list[int] = gallery["labels"]
    first: dict[int, int] = {}
    for place, label in enumerate(own):
        first.setdefault(label, place)
    queries = [place for _, place in sorted(first.items())][:QUERIES]
    if own and own[0] < 0:
        queries = list(range(min(QUERIES, len(own))))
    rows = []
    for query in queries:
        cells: list[object] = [
            join([_cell(sheet, gallery, query, None), " ", _class(gallery, query)])
        ]
        cells += [_cell(sheet, gallery, n, own[query]) for n in gallery["neighbours"][query]]
        rows.append(cells)
    alike = [own[n] == own[place] for place, near in enumerate(gallery["neighbours"]) for n in near]
    count = len(gallery["neighbours"][0])
    said = f"{100 * np.mean(alike):.1f} % of the {count} nearest of all images are of their class"
    caption = f"{labels[run.name]}: {said}" if min(own) >= 0 else labels[run.name]
    head = ["image", *(f"nearest {place + 1}" for place in range(count))]
    return table(
        f"{caption}; a solid blue frame is the same class, a dashed orange one another",
        head, rows, numbers=False,
    )  # fmt: skip


def _class(gallery: Mapping[str, Any], place: int) -> str:
    """The class of an image."""
    label = gallery["labels"][place]
    return str(gallery["classes"][label]) if label >= 0 else f"image {place}"


def _cell(sheet: Image.Image, gallery: Mapping[str, Any], place: int, query: int | None) -> Html:
    """A thumbnail, framed by whether it is of the query's class."""
    side, columns = gallery["thumbnails"]["side"], gallery["thumbnails"]["columns"]
    row, column = divmod(place, columns)
    picture = sheet.crop((column * side, row * side, (column + 1) * side, (row + 1) * side))
    kind = None
    if query is not None and query >= 0:
        kind = "same" if gallery["labels"][place] == query else "other"
    frame = {"same": ", the same class", "other": ", another class", None: ""}[kind]
    return small(picture, f"{_class(gallery, place)}{frame}", shown=48, class_=kind)


def _samples(run: Run, labels: Mapping[str, str]) -> Html:
    """Training images, their foreground and their views."""
    gallery = run.gallery
    assert gallery is not None
    sheet = opened(run.path / "gallery" / "samples.png")
    cells, side = gallery["samples"]["cells"], gallery["samples"]["side"]
    figures = []
    for row, label in enumerate(gallery["sample_labels"]):
        name = gallery["classes"][label] if label >= 0 else f"image {row + 1}"
        pictures = [
            element(
                "div",
                small(
                    sheet.crop((c * side, row * side, (c + 1) * side, (row + 1) * side)),
                    f"{cell} of {name}", shown=72,
                ),
                element("span", cell, class_="small"),
            )
            for c, cell in enumerate(cells)
        ]  # fmt: skip
        figures.append(
            element("figure", element("div", *pictures, class_="strip"),
                    element("figcaption", name), class_="sample")
        )  # fmt: skip
    known = "foreground" in cells
    about = (
        f"Training images of {labels[run.name]} as they are read"
        + (", their foreground by the mask," if known else "")
        + " and views as its augmentation draws them."
    )
    note = None if known else missing(
        "These data have no masks: ", code("iclmsr masks IMAGES OUT"), " makes some."
    )  # fmt: skip
    views = fold("How views are made", element("pre", json.dumps(run.config["views"], indent=1)))
    return join([element("p", about), note, element("div", *figures, class_="samples"), views])
