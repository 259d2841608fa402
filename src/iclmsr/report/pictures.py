# SPDX-License-Identifier: Apache-2.0
"""Pictures inside the page."""

import base64
import io
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from PIL import Image

from iclmsr.errors import IclmsrError
from iclmsr.report.markup import Html, element

LARGEST = 4 * 2**20
"""Bytes of a picture beyond which it stays out of the page."""


def inline(data: bytes, kind: str) -> str:
    """The bytes of a picture as an address that holds them."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def figure(path: Path, caption: str) -> Html:
    """A PNG file of a run or a study as a figure, or a line that says why it is not one."""
    try:
        with Image.open(path) as picture:
            width, height, kind = *picture.size, (picture.format or "").lower()
    except OSError as error:
        return element("p", f"{path.name} is not a picture: {error}", class_="missing")
    data = path.read_bytes()
    if len(data) > LARGEST:
        size = f"{len(data) / 2**20:.1f} MiB"
        return element("p", f"{path.name} is too large for the page: {size}", class_="missing")
    image = element("img", src=inline(data, kind), alt=caption, width=width, height=height)
    return element("figure", image, element("figcaption", caption), class_="picture")


def opened(path: Path) -> Image.Image:
    """A picture that a gallery wrote.

    Raises:
        IclmsrError: It is not there or damaged.
    """
    try:
        with Image.open(path) as picture:
            return picture.convert("RGB")
    except OSError as error:
        raise IclmsrError(f"{path} is damaged: make it anew with iclmsr report --renew") from error


def small(picture: Image.Image, alt: str, *, shown: int, class_: str | None = None) -> Html:
    """A small picture at a size in CSS pixels."""
    buffer = io.BytesIO()
    picture.save(buffer, "webp", quality=85)
    return element(
        "img", src=inline(buffer.getvalue(), "webp"), alt=alt, width=shown, height=shown,
        class_=class_,
    )  # fmt: skip


def coloured(values: np.ndarray, low: float, high: float, colours: str) -> str:
    """A matrix as a picture, one pixel a value.

    Args:
        values: (rows, columns).
        low: The value of the first colour.
        high: The value of the last one, > low.
        colours: Name of matplotlib's colour map.
    """
    share = np.clip((values - low) / (high - low), 0, 1)
    pixels = (colormaps[colours](share)[..., :3] * 255).round().astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return inline(buffer.getvalue(), "png")
