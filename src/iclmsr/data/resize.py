# SPDX-License-Identifier: Apache-2.0
"""Whole sets of images in another size."""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from iclmsr.data.images import ImageSet

CHUNK = 1000  # images at a time, to bound the memory


def resized(images: Tensor, size: int) -> Tensor:
    """Square images (N, C, H, H) uint8 as (N, C, size, size): bicubic, antialiased.

    Args:
        images: Any number of them.
        size: Height and width of the result, pixels, > 0.

    Source: Pillow's bicubic, by torch; at most two grey levels apart, nearly always one.
    Departure: none.

    >>> resized(torch.full((1, 3, 4, 4), 7, dtype=torch.uint8), 2).unique().tolist()
    [7]
    """
    if images.shape[-1] == size or not len(images):
        return images
    result = images.new_empty(*images.shape[:2], size, size)
    for start in range(0, len(images), CHUNK):
        part = slice(start, start + CHUNK)
        result[part] = _resized(images[part], size)
    return result


def _resized(images: Tensor, size: int) -> Tensor:
    """As above, all at once; a GPU knows no bicubic of bytes, nor does a processor to one pixel."""
    bytes_do = images.is_cpu and size > 1
    pixels = images if bytes_do else images.float()
    made = interpolate(pixels, (size, size), mode="bicubic", antialias=True)
    return made if bytes_do else made.round_().clamp_(0, 255).to(torch.uint8)


def centre_view(images: ImageSet, *, resize: int | None, crop: int | None) -> ImageSet:
    """What evaluation sees of each image: resized as a whole, then cut down to its centre.

    Args:
        images: Square images; masks follow.
        resize: Height and width before the cut, pixels, > 0; None keeps them.
        crop: Height and width after it, pixels, > 0; None cuts nothing.

    Source: W-MSE's public code, which resizes STL-10 to 70 and crops 64. Departure: none.

    >>> black = ImageSet(torch.zeros(1, 3, 96, 96, dtype=torch.uint8), torch.tensor([0]), ("a",))
    >>> centre_view(black, resize=70, crop=64).images.shape
    torch.Size([1, 3, 64, 64])
    """
    masks = images.masks
    if masks is not None and resize is not None and resize != masks.shape[-1]:
        # A pixel is foreground if half of its area is.
        masks = interpolate(masks[:, None].float(), (resize, resize), mode="area")[:, 0] >= 0.5
    if masks is not None:
        masks = _centre(masks, crop)
    return replace(images, images=centre_pixels(images.images, resize, crop), masks=masks)


def centre_pixels(images: Tensor, resize: int | None, crop: int | None) -> Tensor:
    """As :func:`centre_view`, of images (N, C, H, H) uint8."""
    return _centre(images if resize is None else resized(images, resize), crop)


def _centre(images: Tensor, crop: int | None) -> Tensor:
    """The middle (..., crop, crop) of (..., H, H); None cuts nothing."""
    if crop is None:
        return images
    start = round((images.shape[-1] - crop) / 2)
    window = slice(start, start + crop)
    return images[..., window, window].contiguous()
