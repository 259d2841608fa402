# SPDX-License-Identifier: Apache-2.0
"""Cropping, resizing and blurring along one axis as matrices, one for every image of a batch."""

import math
from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

BLUR_REACH = 4  # of the largest sigma; 6e-5 of a Gaussian's weight lies beyond


def resample_matrix(
    start: Tensor,
    length: Tensor,
    in_size: int,
    out_size: int,
    interpolation: Literal["bicubic", "bilinear"],
    mirror: Tensor | None = None,
) -> Tensor:
    """Matrices that crop and resize along one axis, with PIL's antialiased filters.

    Args:
        start: (B,) first pixel of the crop, in [0, in_size).
        length: (B,) pixels of the crop, > 0; ``start + length <= in_size``.
        in_size: Pixels of the image.
        out_size: Pixels of the result.
        interpolation: The filter.
        mirror: (B,) bool, which results run backwards; None for none.

    Returns:
        (B, out_size, in_size) float32; rows sum to 1 and are 0 outside the crop.

    Source: Pillow, Resample.c, precompute_coeffs. Departure: none.

    >>> resample_matrix(torch.tensor([1]), torch.tensor([2]), 4, 1, "bilinear")
    tensor([[[0.0000, 0.5000, 0.5000, 0.0000]]])
    """
    first, size = start.float()[:, None, None], length.float()[:, None, None]
    scale = size / out_size
    result = torch.arange(out_size, device=start.device)[:, None]
    if mirror is not None:
        result = torch.where(mirror[:, None, None], out_size - 1 - result, result)
    centre = first + (result + 0.5) * scale
    pixel = torch.arange(in_size, device=start.device)
    distance = (pixel + 0.5 - centre).div_(scale.clamp(min=1)).abs_()
    inside = ((pixel >= first) & (pixel < first + size)).float()
    weights = KERNELS[interpolation](distance).mul_(inside)
    return weights.div_(weights.sum(dim=2, keepdim=True))


def blur_matrix(sigma: Tensor, size: int, largest: float) -> Tensor:
    """Matrices that blur along one axis; pixels at the edge are repeated beyond it.

    Args:
        sigma: (B,) standard deviations in pixels, in (0, largest].
        size: Pixels of the axis, S.
        largest: Decides how far a result reaches, so that a row does not depend on the others.

    Returns:
        (B, S, S) float32 >= 0; rows sum to 1.

    Source: scipy.ndimage.gaussian_filter1d, mode nearest: the density at whole pixels. Departure:
    one reach for all sigma.

    >>> blur_matrix(torch.tensor([0.6]), 3, largest=0.6).mul(1e4).round()
    tensor([[[8319., 1655.,   26.],
             [1681., 6638., 1681.],
             [  26., 1655., 8319.]]])
    """
    radius = math.ceil(BLUR_REACH * largest)
    offset = torch.arange(-radius, radius + 1, device=sigma.device)
    kernel = (offset / sigma[:, None]).square_().mul_(-0.5).exp_()
    kernel.div_(kernel.sum(dim=1, keepdim=True))
    # Each result's window on the kernel lies one pixel before that of the result above it.
    weights = F.pad(kernel, (size - 1, size - 1)).unfold(1, size + 2 * radius, 1).flip(1)
    before, after = weights[..., :radius].sum(dim=2), weights[..., radius + size :].sum(dim=2)
    weights = weights[..., radius : radius + size]
    weights[..., 0] += before
    weights[..., -1] += after
    return weights


def _bicubic(distance: Tensor) -> Tensor:
    """Keys' cubic with a = -1/2 at ``distance`` >= 0: its tail, and what the centre adds."""
    near, far = distance.clamp(max=1), distance.clamp(max=2)
    tail = (far - 2).square_().mul_(far.sub_(1)).mul_(-0.5)
    return (near - 1).square_().mul_(near.mul_(2).sub_(1)).add_(tail)


KERNELS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "bicubic": _bicubic,
    "bilinear": lambda distance: (1 - distance).clamp_(min=0),
}
