# SPDX-License-Identifier: Apache-2.0
"""What encoders see: neighbours, maps of what similarity rests on, the variants themselves."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from iclmsr.data.found import has_split
from iclmsr.data.sources import load
from iclmsr.data.variants import make_variant
from iclmsr.data.views import ViewConfig
from iclmsr.encoders import LoadedEncoder
from iclmsr.files import write_json
from iclmsr.study.backgrounds import VARIANTS, BackgroundsConfig, needed_images
from iclmsr.study.figures import variants_strip
from iclmsr.study.look import save
from iclmsr.study.neighbours import neighbour_grid, neighbours_of, one_of_each_class, shares
from iclmsr.study.saliency import foreground_focus, saliency_grid, saliency_maps

ROWS = 5
"""Images in a picture of maps and in the strip of variants."""


def draw_pictures(
    encoders: Mapping[str, LoadedEncoder],
    settings: BackgroundsConfig,
    out: Path,
    *,
    views: ViewConfig | None = None,
) -> dict[str, Any]:
    """Draws neighbours.png, saliency.png and variants.png, and writes their numbers.

    Queries are test images on backgrounds that say nothing about their class: the split made for
    it, else ``mixed_rand``. Maps are of the test images and of the same on other backgrounds.

    Args:
        encoders: By the name to show.
        settings: Data with masks, and the split.
        out: The folder, made if it is not there.
        views: Which views' similarity maps explain; crops and flips alone when None.

    Returns:
        By encoder: ``neighbours``, the shares of :func:`iclmsr.study.neighbours.shares`, and
        ``focus`` of the maps on the images and on the ``swapped`` ones; also in pictures.json.

    Raises:
        IclmsrError: No masks, or nothing to draw.
    """
    train, test = needed_images(settings)
    assert test.masks is not None
    seed = settings.data.seed
    mixed = make_variant(test, "mixed_rand", seed=seed)
    split = f"{settings.split}-swapped"
    queries = load(settings.data, split) if has_split(settings.data, split) else mixed
    out.mkdir(parents=True, exist_ok=True)
    found = {name: neighbours_of(encoder, queries, train) for name, encoder in encoders.items()}
    save(
        neighbour_grid(queries, train, found, one_of_each_class(queries).tolist()),
        out / "neighbours.png",
    )
    seen = views or ViewConfig(jitter_probability=0.0, grayscale=0.0)
    maps = {
        name: (saliency_maps(encoder, test, seen), saliency_maps(encoder, mixed, seen))
        for name, encoder in encoders.items()
    }
    shown = one_of_each_class(test, most=ROWS)
    save(saliency_grid(test, mixed, maps, shown.tolist()), out / "saliency.png")
    strip = {
        name: make_variant(test, name, filler=settings.data.filler, seed=seed).images[shown]
        for name in VARIANTS
    }
    save(
        variants_strip({str(name): images for name, images in strip.items()}), out / "variants.png"
    )
    assert mixed.masks is not None
    numbers = {
        name: {
            "neighbours": shares(found[name], queries, train)._asdict(),
            "focus": foreground_focus(maps[name][0], test.masks),
            "swapped": foreground_focus(maps[name][1], mixed.masks),
        }
        for name in encoders
    }
    write_json(out / "pictures.json", numbers)
    return numbers
