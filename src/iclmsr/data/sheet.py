# SPDX-License-Identifier: Apache-2.0
"""A picture of what the encoder will see: images, masks and augmented views."""

import io
from functools import cache

import matplotlib
import torch
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont
from torch import Tensor

from iclmsr.data.batches import Epoch, check_masks
from iclmsr.data.config import DataConfig
from iclmsr.data.feed import Held
from iclmsr.data.images import ImageSet
from iclmsr.data.names import printable
from iclmsr.data.sample import Sample
from iclmsr.data.views import ViewConfig

COLUMNS = 8
LARGE, SMALL = 128, 64
"""Sides of an image and of a view on the sheet, pixels."""
SEAM, GAP, MARGIN, CAPTION, HEAD = 2, 14, 18, 20, 62
PAPER, INK, FAINT, OUTLINE, SHADOW = "#eeeeee", "#1a1a1a", "#606060", "#ffe600", "#000000"
CELL = (LARGE + SEAM + SMALL, LARGE + SEAM + CAPTION)


def draw_sheet(sample: Sample, data: DataConfig, views: ViewConfig, *, seed: int) -> bytes:
    """Eight images to a row, each with two views and the outline of its mask, as a PNG file.

    Args:
        sample: The images, at least one; 64 fill the sheet.
        data: Where they are from.
        views: How views are made, but for those that it calls weak.
        seed: Of the views.

    Raises:
        IclmsrError: Views exchange backgrounds, and there are no masks.
    """
    images = sample.images
    columns = min(COLUMNS, len(images))
    rows = -(-len(images) // COLUMNS)
    width = max(4, columns) * (CELL[0] + GAP) - GAP + 2 * MARGIN
    height = rows * (CELL[1] + GAP) - GAP + 2 * MARGIN + HEAD
    sheet = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(sheet)
    for line, (text, size, colour) in enumerate(_titles(sample, data, views)):
        where = (MARGIN, MARGIN - 4 + 26 * line)
        pen.text(where, _cut(text, width - 2 * MARGIN, size), colour, _font(size))
    pairs = _pairs(images, views, seed)
    for place in range(len(images)):
        left = MARGIN + place % COLUMNS * (CELL[0] + GAP)
        top = MARGIN + HEAD + place // COLUMNS * (CELL[1] + GAP)
        picture = _scaled(images.images[place], LARGE)
        if images.masks is not None:
            _outline(picture, images.masks[place])
        sheet.paste(picture, (left, top))
        for index, made in enumerate(pairs):
            corner = (left + LARGE + SEAM, top + index * (SMALL + SEAM))
            sheet.paste(_scaled(made[place], SMALL), corner)
        caption = _cut(printable(sample.names[place]), CELL[0], 13)
        pen.text((left, top + LARGE + SEAM + 3), caption, INK, _font(13))
    buffer = io.BytesIO()
    sheet.save(buffer, "png")
    return buffer.getvalue()


def _titles(sample: Sample, data: DataConfig, views: ViewConfig) -> list[tuple[str, int, str]]:
    """Lines of text, their size and their colour."""
    images = sample.images
    size = images.images.shape[-1]
    there = len(images.classes)
    seen = len(set(images.labels.tolist()) - {-1})
    classes = f"{seen} of {there:,} classes" if seen < there else f"{there:,} classes"
    what = "training" if sample.split == "train" else sample.split
    root = "" if data.root is None else f" in {printable(data.root)}"
    outline = ", yellow: the outline of its mask" if images.masks is not None else ""
    weak = "".join(f", the {('upper', 'lower')[view]} one weak" for view in views.weak if view < 2)
    return [
        (
            f"{data.source}{root}: {len(images)} of {sample.there:,} {what} images, {classes}",
            18,
            INK,
        ),
        (
            f"large: an image as it is read, {size} x {size} pixels{outline}; small: two views of "
            f"it as the encoder sees them, {views.size} x {views.size} pixels{weak}",
            14,
            FAINT,
        ),
    ]


def _pairs(images: ImageSet, config: ViewConfig, seed: int) -> list[Tensor]:
    """Two views of all images as bytes (B, 3, S, S)."""
    check_masks(images, config)
    epoch = Epoch(
        Held(images.images, torch.device("cpu"), images.masks),
        config,
        view_count=2,
        batch_size=len(images),
        seed=seed,
        epoch=0,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        order=torch.arange(len(images)),
    )
    return [views.clamp(0, 1).mul(255).round().to(torch.uint8) for views in epoch.views(0)]


def _scaled(pixels: Tensor, side: int) -> Image.Image:
    """An image (3, S, S) uint8 in another size; whole pixels become squares."""
    image = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
    whole = side % image.width == 0
    filter_ = Image.Resampling.NEAREST if whole else Image.Resampling.LANCZOS
    return image.resize((side, side), filter_)


def _outline(picture: Image.Image, mask: Tensor) -> None:
    """Draws the edge of a mask (S, S) on a square picture: light within, dark without."""
    whole = picture.width % len(mask) == 0
    filter_ = Image.Resampling.NEAREST if whole else Image.Resampling.BILINEAR
    area = Image.fromarray(mask.to(torch.uint8).mul(255).numpy()).resize(picture.size, filter_)
    area = area.point(lambda value: 255 if value >= 128 else 0)
    grown, shrunk = area.filter(ImageFilter.MaxFilter(3)), area.filter(ImageFilter.MinFilter(3))
    picture.paste(SHADOW, mask=ImageChops.subtract(grown, area))
    picture.paste(OUTLINE, mask=ImageChops.subtract(area, shrunk))


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Matplotlib's own font: it knows more letters than Pillow's."""
    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", size)


def _cut(text: str, width: int, size: int) -> str:
    """A text that is at most ``width`` pixels wide, its end cut off if need be."""
    font = _font(size)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
