# SPDX-License-Identifier: Apache-2.0
"""Cropping, resizing and blurring as matrices, one along each axis of every image of a batch."""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

BLUR_REACH = 4  # of the largest sigma; 6e-5 of a Gaussian's weight lies beyond
SMALLEST = 16
"""Rows and columns of a product: a smaller one may have other last bits in another batch."""
TABLE_ENTRIES = 2**24  # of all crops' matrices: 64 MiB; images of 64 pixels need half of it


def crop(
    images: Tensor,
    box: Tensor,
    flip: Tensor,
    size: int,
    interpolation: Literal["bicubic", "bilinear"],
) -> Tensor:
    """Boxes cut out, resized and mirrored.

    Args:
        images: (C, B, H, W) float32 in [0, 255].
        box: (B, 4) int64 on the images' device: top, left, height and width in pixels.
        flip: (B,) bool on the images' device, which results are mirrored left to right.
        size: Height and width of a result, S, pixels.
        interpolation: PIL's filter, with antialiasing.

    Returns:
        (C, B, S, S) float32 in [0, 255].

    Source: Pillow's resize, which cuts off what is not in [0, 255] after each axis, columns first.
    Departure: no rounding in between; Pillow 13.0 and later take the rows first where the height
    shrinks much more than the width, which moves single pixels at bicubic edges by some levels.

    >>> image = torch.tensor([0.0, 50.0, 100.0, 200.0]).expand(3, 1, 4, 4)
    >>> box, flip = torch.tensor([[0, 0, 4, 4]]), torch.tensor([True])
    >>> crop(image, box, flip, 2, "bilinear")[0, 0, 0]
    tensor([135.7143,  35.7143])
    """
    height, width = images.shape[2:]
    top, left, tall, wide = box.unbind(1)
    rows = resample_matrix(top, tall, height, size, interpolation)
    columns = resample_matrix(left, wide, width, size, interpolation, flip).mT
    result = images.new_empty(*images.shape[:2], size, size)
    for plane, out in zip(images, result, strict=True):
        _bmm(rows, _bmm(plane, columns).clamp_(0, 255), out=out).clamp_(0, 255)
    return result


def blur_(images: Tensor, rows: Tensor, sigma: Tensor, largest: float) -> None:
    """Gaussian blur; pixels at the edge are repeated beyond it, as Pillow does.

    Args:
        images: (C, B, S, S) float32 in [0, 255], changed in place.
        rows: (B,) bool on the CPU, which images are blurred.
        sigma: (B,) float32 on the CPU, standard deviations in pixels, in (0, largest].
        largest: See :func:`blur_matrix`.
    """
    index = rows.nonzero().squeeze(1)
    if not len(index):
        return
    blur = blur_matrix(sigma[index].to(images.device), images.shape[-1], largest)
    index = index.to(images.device)
    for plane in images:
        blurred = _bmm(_bmm(blur, plane.index_select(0, index)), blur.mT)
        plane.index_copy_(0, index, blurred.clamp_(max=255))


def _bmm(left: Tensor, right: Tensor, out: Tensor | None = None) -> Tensor:
    """Products of matrices; torch multiplies a single pair in another way, with other last bits."""
    height, width = left.shape[1], right.shape[2]
    if height < SMALLEST or width < SMALLEST:
        left = F.pad(left, (0, 0, 0, max(0, SMALLEST - height)))
        right = F.pad(right, (0, max(0, SMALLEST - width)))
        made = _bmm(left, right)[:, :height, :width]
        return made if out is None else out.copy_(made)
    if len(left) != 1:
        return torch.bmm(left, right, out=out)
    twice = torch.bmm(left.expand(2, -1, -1), right.expand(2, -1, -1))
    return twice[:1] if out is None else out.copy_(twice[:1])


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
    sizes = in_size, out_size, interpolation
    if in_size * (in_size + 1) // 2 * out_size * in_size > TABLE_ENTRIES:
        weights = _weights(start, length, *sizes)
        return weights if mirror is None else weights.flip(1).where(mirror[:, None, None], weights)
    result = torch.arange(out_size, device=start.device)
    if mirror is not None:
        result = torch.where(mirror[:, None], out_size - 1 - result, result)
    last = start + length - 1
    row = (last * (last + 1) // 2 + start)[:, None] * out_size + result
    table = _all_weights(*sizes, start.device)
    return table.index_select(0, row.flatten()).view(-1, out_size, in_size)


@functools.lru_cache(maxsize=8)
def _all_weights(in_size: int, out_size: int, interpolation: str, device: torch.device) -> Tensor:
    """Rows of every crop's matrix, one crop after the other; crops by last, then first pixel."""
    last, start = torch.tril_indices(in_size, in_size, device=device)
    return _weights(start, last + 1 - start, in_size, out_size, interpolation).flatten(0, 1)


def _weights(
    start: Tensor, length: Tensor, in_size: int, out_size: int, interpolation: str
) -> Tensor:
    """Computes :func:`resample_matrix` without mirrors."""
    first, size = start.float()[:, None, None], length.float()[:, None, None]
    scale = size / out_size
    result = torch.arange(out_size, dtype=torch.float32, device=start.device)[:, None]
    centre = first + (result + 0.5) * scale
    pixel = torch.arange(in_size, dtype=torch.float32, device=start.device)
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
