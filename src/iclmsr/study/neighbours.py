# SPDX-License-Identifier: Apache-2.0
"""What lies near an image in embedding space: the same class, or the same background?"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Polygon, Rectangle
from torch import Tensor
from torch.nn import functional as F

from iclmsr.data.images import ImageSet
from iclmsr.encoders import LoadedEncoder
from iclmsr.errors import IclmsrError
from iclmsr.evaluate.features import extract
from iclmsr.study.look import BLUE, INK, ORANGE, show_image

ROWS = 1024
"""Queries that are compared with the whole gallery at a time."""
_CORNER = 0.34


class Shares(NamedTuple):
    """What neighbours have in common with their query, in percent of all neighbours.

    Attributes:
        label: Of the query's class.
        background: On the query's background; None where backgrounds are not known, or are of
            other kinds for the gallery than for the queries.
        label_only: Of its class, on another background; None likewise.
        background_only: Of another class, on its background; None likewise.
    """

    label: float
    background: float | None
    label_only: float | None
    background_only: float | None


def neighbours_of(
    encoder: LoadedEncoder, queries: ImageSet, gallery: ImageSet, *, k: int = 5
) -> Tensor:
    """The nearest images of a gallery in an encoder's embedding space, (M, k) int64.

    Args:
        encoder: Any; its features are compared.
        queries: M labelled images.
        gallery: N labelled images, none of them a query.
        k: Neighbours, in [1, N].

    Raises:
        IclmsrError: k is outside its range, or images without label.

    Source: none. Departure: none.
    """
    features = [
        extract(encoder.network, images, mean=encoder.mean, std=encoder.std).features
        for images in (queries, gallery)
    ]
    return nearest(*features, k=k)


def nearest(queries: Tensor, gallery: Tensor, *, k: int) -> Tensor:
    """Indices of the k largest cosines, largest first; of equal ones the smaller index is first.

    Args:
        queries: (M, F).
        gallery: (N, F).
        k: In [1, N].

    Returns:
        (M, k) int64.

    Raises:
        IclmsrError: k is outside its range.

    Source: none. Departure: none.

    >>> nearest(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 9.0], [5.0, 1.0], [1, 1]]), k=2)
    tensor([[1, 2]])
    """
    if not 1 <= k <= len(gallery):
        raise IclmsrError(f"k must be in [1, {len(gallery)}], the gallery, got {k}")
    keys = F.normalize(gallery.double(), dim=1)
    found = [
        (F.normalize(part.double(), dim=1) @ keys.T)
        .sort(dim=1, descending=True, stable=True)
        .indices[:, :k]
        for part in queries.split(ROWS)  # type: ignore[no-untyped-call]
    ]
    return torch.cat(found)


def shares(index: Tensor, queries: ImageSet, gallery: ImageSet) -> Shares:
    """How many neighbours have the query's class, its background, or one without the other.

    Args:
        index: (M, k) int64, of :func:`nearest`.
        queries: M images.
        gallery: The images that ``index`` points to.

    Source: none. Departure: none.

    >>> black = torch.zeros(2, 3, 1, 1, dtype=torch.uint8)
    >>> pair = ImageSet(black, torch.tensor([0, 1]), ("a", "b"), backgrounds=torch.tensor([1, 1]))
    >>> shares(torch.tensor([[1], [0]]), pair, pair)
    Shares(label=0.0, background=100.0, label_only=0.0, background_only=100.0)
    """
    same = gallery.labels[index] == queries.labels[:, None]
    behind = _on_same_background(index, queries, gallery)
    if behind is None:
        return Shares(_percent(same), None, None, None)
    return Shares(
        _percent(same), _percent(behind), _percent(same & ~behind), _percent(behind & ~same)
    )


def one_of_each_class(images: ImageSet, *, most: int = 8) -> Tensor:
    """The first image of each class, at most so many, (M,) int64; nothing is picked by hand.

    Where backgrounds are known, the first image whose background is not its class's most
    frequent one, if there is such.

    >>> black = torch.zeros(3, 3, 1, 1, dtype=torch.uint8)
    >>> one_of_each_class(ImageSet(black, torch.tensor([1, 0, 1]), ("a", "b"))).tolist()
    [1, 0]
    """
    chosen = []
    for label in range(len(images.classes)):
        own = (images.labels == label).nonzero()[:, 0]
        if not len(own):
            continue
        if images.backgrounds is not None:
            behind = images.backgrounds[own]
            unusual = own[behind != behind.mode().values]
            own = unusual if len(unusual) else own
        chosen.append(int(own[0]))
    return torch.tensor(chosen[:most])


def neighbour_grid(
    queries: ImageSet,
    gallery: ImageSet,
    found: Mapping[str, Tensor],
    shown: Sequence[int],
) -> Figure:
    """A row a query: the image, then its nearest neighbours under each encoder.

    The frame of a neighbour tells the class, a corner the background.

    Args:
        queries: All queries; the shares in the titles are over all of them.
        gallery: Where neighbours come from.
        found: (M, k) of :func:`neighbours_of` by the encoder's label.
        shown: Which queries to draw.

    Raises:
        IclmsrError: Nothing to show.

    Source: none. Departure: none.
    """
    if not found or not len(shown):
        raise IclmsrError("a grid of neighbours needs at least one encoder and one query")
    k = max(index.shape[1] for index in found.values())
    widths = [1.0] + ([0.35] + [1.0] * k) * len(found)
    figure = Figure(figsize=(0.82 * sum(widths), 0.8 * len(shown) + 1.5))
    height = figure.get_figheight()
    grid = figure.add_gridspec(
        len(shown),
        len(widths),
        width_ratios=widths,
        left=0.02,
        right=0.98,
        top=1 - 0.95 / height,
        bottom=0.5 / height,
        wspace=0.12,
        hspace=0.12,
    )
    behind = {name: _on_same_background(index, queries, gallery) for name, index in found.items()}
    for place, query in enumerate(shown):
        axes = figure.add_subplot(grid[place, 0])
        show_image(axes, queries.images[query])
        if place == 0:
            axes.set_title("query", size=10, color=INK)
        for number, (name, index) in enumerate(found.items()):
            first = 2 + number * (k + 1)
            if place == 0:
                _title(figure, grid[0, first], name, shares(index, queries, gallery))
            for rank, neighbour in enumerate(index[query].tolist()):
                axes = figure.add_subplot(grid[place, first + rank])
                show_image(axes, gallery.images[neighbour])
                same = bool(gallery.labels[neighbour] == queries.labels[query])
                shared = behind[name]
                _mark(axes, same, shared is not None and bool(shared[query, rank]))
    keys = [
        Rectangle((0, 0), 1, 1, facecolor="none", edgecolor=BLUE, linewidth=2.4),
        Rectangle((0, 0), 1, 1, facecolor="none", edgecolor=ORANGE, linewidth=2, linestyle=":"),
    ]
    labels = ["the query's class", "another class"]
    if all(shared is not None for shared in behind.values()):
        keys.append(Line2D([], [], color=INK, marker="^", linestyle="", markersize=8))  # type: ignore[arg-type]
        labels.append("on the query's background (corner)")
    figure.legend(keys, labels, loc="lower center", ncols=3, frameon=False, fontsize=9)
    figure.suptitle("Images and their nearest neighbours in embedding space", size=12, color=INK)
    return figure


def _title(figure: Figure, cell: object, name: str, known: Shares) -> None:
    """An encoder's name and shares above its first neighbour."""
    box = cell.get_position(figure)  # type: ignore[attr-defined]
    text = f"{name}: {known.label:.0f} % of neighbours have the query's class"
    if known.background is not None:
        text += f",\n{known.background:.0f} % its background"
    figure.text(box.x0, box.y1 + 0.08 / figure.get_figheight(), text, size=9, color=INK)


def _on_same_background(index: Tensor, queries: ImageSet, gallery: ImageSet) -> Tensor | None:
    """(M, k) bool, whether a neighbour has its query's kind of background; None if unknown."""
    if gallery.backgrounds is None or queries.backgrounds is None:
        return None
    if gallery.background_names != queries.background_names:
        return None
    shared: Tensor = gallery.backgrounds[index] == queries.backgrounds[:, None]
    return shared


def _mark(axes: Axes, same: bool, behind: bool) -> None:
    """The frame that tells the class, the corner that tells the background."""
    axes.spines[:].set_visible(True)
    for spine in axes.spines.values():
        spine.set_edgecolor(BLUE if same else ORANGE)
        spine.set_linewidth(2.6 if same else 2.2)
        spine.set_linestyle("-" if same else ":")
    if behind:
        corner = [(1, 0), (1 - _CORNER, 0), (1, _CORNER)]
        axes.add_patch(
            Polygon(corner, transform=axes.transAxes, facecolor=INK, edgecolor="white", linewidth=1)
        )


def _percent(right: Tensor) -> float:
    """The share of true entries."""
    return 100 * right.double().mean().item()
