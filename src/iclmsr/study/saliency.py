# SPDX-License-Identifier: Apache-2.0
"""Where an encoder looks: maps over images, their share on the foreground, and their picture."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from iclmsr.data.images import ImageSet
from iclmsr.data.views import ViewConfig, draw_parameters, make_views
from iclmsr.encoders import LoadedEncoder
from iclmsr.errors import IclmsrError
from iclmsr.seeds import generator
from iclmsr.study.look import INK, show_image
from iclmsr.study.similarity_maps import gradient_maps, is_fine, occlusion_maps, unit_energy

BATCH = 64
"""Images that an encoder sees at a time."""


def saliency_maps(
    encoder: LoadedEncoder, images: ImageSet, views: ViewConfig, *, count: int = 4, seed: int = 0
) -> Tensor:
    """What the similarity of images to views of themselves rests on, a map an image.

    An image as it is is compared with ``count`` augmented views of it, and the maps' mean is
    taken. A ResNet whose last map has at least 4 x 4 places gets :func:`gradient_maps`, any other
    encoder :func:`occlusion_maps`.

    Args:
        encoder: Any.
        images: N images.
        views: How views are made; their size is replaced by the images'.
        count: Views an image, >= 1.
        seed: Of the views.

    Returns:
        (N, H, W) float32 >= 0; each sums to 1, or is 0 everywhere.

    Raises:
        IclmsrError: ``count`` < 1, or images that are not square.

    Source: Selvaraju et al. 2017 (arXiv 1610.02391). Departure: as of :func:`gradient_maps`.
    """
    if count < 1:
        raise IclmsrError(f"count must be >= 1 view, got {count}")
    height, width = images.images.shape[2:]
    if height != width:
        raise IclmsrError(f"saliency needs square images, got {height} x {width} pixels")
    fine = is_fine(encoder.network, torch.zeros(1, 3, height, width))
    make = gradient_maps if fine else occlusion_maps
    config = replace(views, size=height)
    total = torch.zeros(len(images), height, width)
    shift, scale = (torch.tensor(x)[:, None, None] for x in (encoder.mean, encoder.std))
    for number in range(count):
        draw = generator(seed, "saliency", number)
        parameters = draw_parameters(len(images), height, width, config, draw)
        for part in torch.split(torch.arange(len(images)), BATCH):
            own = images.images[part]
            first = (own.float() / 255 - shift) / scale
            second = make_views(
                own, parameters.take(part), config, mean=encoder.mean, std=encoder.std
            )
            total[part] += make(encoder.network, first, second)
    return unit_energy(total)


def energy_on(maps: Tensor, masks: Tensor) -> Tensor:
    """The share of a map that lies on the foreground.

    Args:
        maps: (N, H, W) >= 0.
        masks: (N, H, W) bool, true on the foreground.

    Returns:
        (N,) in [0, 1]; NaN where the map is 0 everywhere.

    Source: Wang et al. 2020 (Score-CAM, arXiv 1910.01279), energy-based pointing game. Departure:
    a mask where they have a box.

    >>> maps = torch.tensor([[[3.0, 1.0]]])
    >>> energy_on(maps, torch.tensor([[[True, False]]])).tolist()
    [0.75]
    """
    return (maps * masks).sum((1, 2)) / maps.sum((1, 2))


def foreground_focus(maps: Tensor, masks: Tensor) -> dict[str, float]:
    """Means over images: the foreground's share of the map, and of the image's area.

    Args:
        maps: (N, H, W) >= 0.
        masks: (N, H, W) bool, true on the foreground.

    Returns:
        ``energy`` and ``area`` in percent over the images with a map, ``focus`` = energy / area
        (1: the map knows nothing of the foreground), ``blank``: images whose map is 0.

    Raises:
        IclmsrError: All maps are 0, or no mask has a foreground.

    Source: energy as of :func:`energy_on`. Departure: none.

    >>> foreground_focus(torch.ones(1, 2, 2), torch.tensor([[[True, False], [False, False]]]))
    {'energy': 25.0, 'area': 25.0, 'focus': 1.0, 'blank': 0}
    """
    energy = energy_on(maps, masks)
    there = energy.isfinite()
    if not there.any() or not masks[there].any():
        raise IclmsrError("no map has energy, or no mask a foreground: nothing to measure")
    on = 100 * energy[there].double().mean().item()
    area = 100 * masks[there].double().mean().item()
    return {"energy": on, "area": area, "focus": on / area, "blank": int((~there).sum())}


def saliency_grid(
    full: ImageSet,
    swapped: ImageSet,
    maps: Mapping[str, tuple[Tensor, Tensor]],
    shown: Sequence[int],
) -> Figure:
    """A row an image: it and its maps, then its background-swapped twin and its maps.

    Args:
        full: N images with masks.
        swapped: The same foregrounds on other backgrounds.
        maps: By the encoder's label, (N, H, W) of :func:`saliency_maps` for both sets.
        shown: Which images to draw; the shares below the titles are over all of them.

    Raises:
        IclmsrError: No masks, or nothing to show.

    Source: none. Departure: none.
    """
    if full.masks is None or swapped.masks is None:
        raise IclmsrError("maps are drawn with the foreground's outline: the images need masks")
    if not maps or not len(shown):
        raise IclmsrError("a picture of maps needs at least one encoder and one image")
    columns = len(maps) + 1
    widths = [1.0] * columns + [0.2] + [1.0] * columns
    width = max(1.3 * sum(widths), 7.5)  # the caption's
    figure = Figure(figsize=(width, 1.32 * len(shown) + 1.5))
    height = figure.get_figheight()
    grid = figure.add_gridspec(
        len(shown),
        len(widths),
        width_ratios=widths,
        left=0.02,
        right=0.98,
        top=1 - 1.0 / height,
        bottom=0.45 / height,
        wspace=0.06,
        hspace=0.06,
    )
    for side, (images, title) in enumerate(((full, "image"), (swapped, "background\nswapped"))):
        assert images.masks is not None
        first = side * (columns + 1)
        for row, index in enumerate(shown):
            axes = figure.add_subplot(grid[row, first])
            show_image(axes, images.images[index])
            if row == 0:
                axes.set_title(title, size=9.5, color=INK)
            for number, (name, both) in enumerate(maps.items(), 1):
                axes = figure.add_subplot(grid[row, first + number])
                _show_map(axes, images.images[index], both[side][index], images.masks[index])
                if row == 0:
                    known = foreground_focus(both[side], images.masks)
                    axes.set_title(
                        f"{name}: {known['energy']:.0f} %\non foreground", size=9.5, color=INK
                    )
    area = foreground_focus(torch.ones_like(full.masks, dtype=torch.float32), full.masks)["area"]
    figure.suptitle(
        "What the similarity of an image and its augmented views rests on", size=12, color=INK
    )
    figure.text(
        0.5,
        0.12 / height,
        f"bright: much; outline: the foreground, {area:.0f} % of the area. Percent: the mean share "
        f"of a map on it, over {len(full)} images",
        ha="center",
        size=8.5,
        color=INK,
    )
    return figure


def _show_map(axes: Axes, image: Tensor, energy: Tensor, mask: Tensor) -> None:
    """A map over its image in grey, with the outline of the mask."""
    side = len(energy)
    grey = image.float().mean(0) / 255
    axes.imshow(grey.numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    peak = max(float(energy.max()), 1e-12)
    axes.imshow(energy.numpy() / peak, cmap="inferno", vmin=0, vmax=1, alpha=0.72)
    where = torch.linspace(0, side - 1, side).numpy()
    if mask.any() and not mask.all():
        axes.contour(where, where, mask.float().numpy(), [0.5], colors="black", linewidths=2.2)
        axes.contour(where, where, mask.float().numpy(), [0.5], colors="white", linewidths=1.1)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
