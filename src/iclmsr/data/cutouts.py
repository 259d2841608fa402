# SPDX-License-Identifier: Apache-2.0
"""Objects cut out of their images, and put somewhere else in another size."""

from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from iclmsr.data.compose_plan import Place
from iclmsr.data.composite import inpainted
from iclmsr.data.decode import FOREGROUND, Unusable, foreground_of, open_image
from iclmsr.data.trees import Content


class Cutout(NamedTuple):
    """An object, and nothing of what was around it.

    Attributes:
        image: RGB; around the object its own colours go on, so that none of its old background
            comes in when it is resized.
        mask: Of the same size, L, 255 on the object.
    """

    image: Image.Image
    mask: Image.Image


def cut_out(image: Content, mask: Content, name: str, erode: int) -> Cutout:
    """The object in an image, in its box.

    Args:
        image: The image file.
        mask: Its mask, of the same size.
        name: The mask's name, for messages.
        erode: Pixels to take off the object's edge, >= 0; those that are so thin that nothing
            would be left keep it.

    Raises:
        Unusable: The image does not decode; the mask has no foreground, or is not one (see
            :func:`~iclmsr.data.decode.foreground_of`).
    """
    picture = open_image(image).image
    area = Image.fromarray(foreground_of(mask, name, picture.size).astype(np.uint8) * 255)
    # Where an object leaves the image its edge is not known, and nothing is taken off there.
    shrunk = area
    for _ in range(erode):  # a filter of that size takes forever
        shrunk = shrunk.filter(ImageFilter.MinFilter(3))
    area = shrunk if shrunk.getbbox() else area
    box = area.getbbox()
    if box is None:
        raise Unusable(f"has a mask {name} without any foreground")
    picture, area = picture.crop(box), area.crop(box)
    pixels = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)[None]
    around = torch.from_numpy(np.asarray(area) < FOREGROUND)[None]
    filled = inpainted(pixels.contiguous(), around)[0].permute(1, 2, 0)
    return Cutout(Image.fromarray(filled.contiguous().numpy()), area)


def put(cutout: Cutout, place: Place, size: int) -> tuple[Tensor, Tensor]:
    """An object in an otherwise black square.

    Args:
        cutout: The object.
        place: How large it is, and where.
        size: S, height and width of the square, pixels, > 0.

    Returns:
        (3, S, S) uint8, and its mask (S, S) bool.
    """
    longer = max(cutout.image.size)
    side = max(1.0, place.share * size)
    width, height = (max(1, round(one * side / longer)) for one in cutout.image.size)
    image = cutout.image.resize((width, height), Image.Resampling.BICUBIC)
    mask = cutout.mask.resize((width, height), Image.Resampling.BOX)
    if place.flipped:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        mask = mask.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    left = int(place.across * (size - width + 1))
    top = int(place.down * (size - height + 1))
    rows, columns = slice(top, top + height), slice(left, left + width)
    pixels = torch.zeros(3, size, size, dtype=torch.uint8)
    inside = torch.zeros(size, size, dtype=torch.bool)
    pixels[:, rows, columns] = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)
    inside[rows, columns] = torch.from_numpy(np.asarray(mask) >= FOREGROUND)
    return pixels, inside
