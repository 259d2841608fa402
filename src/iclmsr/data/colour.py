# SPDX-License-Identifier: Apache-2.0
"""Colours of a whole batch in grey levels, each image by its own numbers; all in place.

Batches are (3, B, H, W) here: a channel of all images is one block of memory, which a CPU works
through faster.
"""

import torch
from torch import Tensor

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
ALMOST = 1e-3
"""Of a grey level: what a whole one may lack after arithmetic."""


def hue_step(order: Tensor) -> Tensor:
    """At which step each image's hue turns, (B,) in [0, 3].

    Args:
        order: (B, 4) int64, see :func:`jitter_`.

    >>> hue_step(torch.tensor([[0, 1, 2, 3], [2, 3, 0, 1]]))
    tensor([3, 1])
    """
    return order.argmax(dim=1)  # the hue is the last operation


def jitter_(images: Tensor, factors: Tensor, order: Tensor) -> None:
    """Brightness, contrast, saturation and hue, in an order of each image's own.

    Args:
        images: (3, B, H, W) float32, whole numbers in [0, 255], changed in place.
        factors: (B, 4) float32 on the CPU: of brightness, contrast and saturation, >= 0; the turn
            of the hue, in [-1/2, 1/2].
        order: (B, 4) int64 on the CPU, columns of ``factors`` in the order they apply in; images
            whose hue turns at an earlier step come first (:func:`hue_step`).

    Source: torchvision's ColorJitter on PIL images: whole grey levels go in, and blends cut off
    their fractions. Departure: hue and saturation between, and the gray blended with, are exact.

    >>> gray = torch.full((3, 1, 1, 1), 100.0)
    >>> jitter_(gray, torch.tensor([[1.5, 1.0, 1.0, 0.0]]), torch.arange(4)[None])
    >>> gray.flatten().tolist()
    [150.0, 150.0, 150.0]
    """
    # Brightness, contrast and saturation blend an image with black, its mean gray and its gray.
    own = factors.gather(1, order)
    to_mean, to_gray = ((1 - own) * (order == kind) for kind in (CONTRAST, SATURATION))
    shares = torch.stack([own, to_mean, to_gray])[..., None, None].to(images.device)
    turns = factors[:, HUE, None, None].to(images.device)
    # All hues turn at once: the blends that an image has before that come first, the rest after it.
    later = torch.bincount(hue_step(order), minlength=4).cumsum(0).tolist()[:3]
    for k, first in enumerate(later):
        _blend_(images[:, first:], *shares[:, first:, k])
    _turn_hue_(images, turns)
    for k, end in enumerate(later, start=1):
        _blend_(images[:, :end], *shares[:, :end, k])


def grayscale_(images: Tensor, rows: Tensor) -> None:
    """Gray in all three channels.

    Args:
        images: (3, B, H, W) float32 in [0, 255], changed in place.
        rows: (B,) bool on the CPU, which images change.

    Source: ITU-R 601, as Pillow's and torchvision's. Departure: none.

    >>> red = torch.tensor([255.0, 0.0, 0.0]).view(3, 1, 1, 1)
    >>> grayscale_(red, torch.tensor([True]))
    >>> red.flatten()
    tensor([76.2450, 76.2450, 76.2450])
    """
    index = rows.nonzero().squeeze(1).to(images.device)
    gray = _luma(images.index_select(1, index))
    images.index_copy_(1, index, gray.expand(3, -1, -1, -1))


def solarize_(images: Tensor, rows: Tensor, threshold: float) -> None:
    """Inverts what is bright.

    Args:
        images: (3, B, H, W) float32 in [0, 255], changed in place.
        rows: (B,) bool on the CPU, which images change.
        threshold: From where on a channel is inverted, a share of 255 in [0, 1].

    Source: Pillow's ImageOps.solarize, whose 128 is 1/2 here. Departure: none.

    >>> levels = torch.tensor([50.0, 128.0, 250.0]).view(3, 1, 1, 1)
    >>> solarize_(levels, torch.tensor([True]), 0.5)
    >>> levels.flatten()
    tensor([ 50., 127.,   5.])
    """
    index = rows.nonzero().squeeze(1).to(images.device)
    if not len(index):
        return
    picked = images.index_select(1, index)
    images.index_copy_(1, index, torch.where(picked < threshold * 255, picked, 255 - picked))


def _blend_(images: Tensor, own: Tensor, mean: Tensor, gray: Tensor) -> None:
    """Shares (B, 1, 1) of an image, of its mean gray and of its gray; they sum to 1 or less.

    Fractions are cut off, as Pillow does: whole grey levels come out.
    """
    luma = _luma(images)
    # Two means: torch may split one long sum in a way that depends on the batch size.
    average = luma.mean(2, keepdim=True).mean(1, keepdim=True).mul_(mean)
    other = luma.mul_(gray).add_(average.add_(ALMOST))
    for plane in images:
        torch.addcmul(other, plane, own, out=plane).clamp_(0, 255).floor_()


def _luma(images: Tensor) -> Tensor:
    """ITU-R 601 gray (B, H, W) of ``images`` (3, B, H, W)."""
    red, green, blue = images.unbind(0)
    return (red * 0.299).add_(green, alpha=0.587).add_(blue, alpha=0.114)


def _turn_hue_(images: Tensor, turns: Tensor) -> None:
    """The hue turns by ``turns`` (B, 1, 1), HSV's S and V stay; to whole grey levels."""
    red, green, blue = images
    low = torch.minimum(red, green).minimum(blue)
    chroma = torch.maximum(red, green).maximum(blue).sub_(low)
    sextant = chroma * 6
    # The hue in turns from red, in [-1/2, 1/2], without a case per sector: normalized to low = 0
    # and chroma = 1, 1 + green + blue - red is six times the distance from red.
    hue = (green + blue).sub_(red).sub_(low).div_(sextant.clamp(min=1e-6)).add_(1 / 6)
    hue.copysign_(green - blue).add_(turns)
    hue.sub_(hue.round())
    # A colour is high within 1/6 of a turn of its own hue, low from 2/6 on, linear between.
    floor = low.sub_(chroma)
    for k, plane in enumerate(images):
        torch.sub(hue, k / 3, out=plane).abs_().sub_(0.5).abs_().clamp_(1 / 6, 2 / 6)
        torch.addcmul(floor, plane, sextant, out=plane).round_()
