# SPDX-License-Identifier: Apache-2.0
"""Foregrounds on other backgrounds, for whole batches: inpainting and blending."""

import torch
from torch import Tensor
from torch.nn import functional as F

from iclmsr.data.resample import blur_matrix

SOFTNESS = 0.5
"""Standard deviation of the blur of a mask's edge, pixels."""


def inpainted(images: Tensor, masks: Tensor) -> Tensor:
    """Backgrounds as if the foregrounds were not there, uint8.

    Push-pull: known pixels are averaged into images of half the size, again and again, and what is
    unknown is filled in from there. Smooth, without texture; known pixels stay as they are.

    Args:
        images: (N, 3, H, W) uint8.
        masks: (N, H, W) bool, true where the foreground is to go.

    Returns:
        (N, 3, H, W) uint8; gray (128) where an image is all foreground.

    Source: Gortler et al. 1996 (push-pull interpolation). Departure: none.

    >>> images = torch.full((1, 3, 4, 4), 7, dtype=torch.uint8)
    >>> mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    >>> mask[0, 1, 1] = True
    >>> inpainted(images, mask).unique().tolist()
    [7]
    """
    result = torch.empty_like(images)
    step = max(1, 2**20 // (images.shape[-1] * images.shape[-2]))
    for first in range(0, len(images), step):
        part = slice(first, first + step)
        known = (~masks[part, None]).float()
        filled = _push_pull(images[part].float() * known, known)
        mended = filled.round().clamp(0, 255).to(torch.uint8)
        result[part] = torch.where(masks[part, None], mended, images[part])
    return result


def _push_pull(total: Tensor, known: Tensor) -> Tensor:
    """Weighted sums (B, 3, H, W) over weights (B, 1, H, W) in [0, 1], unknown ones filled in."""
    height, width = total.shape[-2:]
    if height == width == 1:
        return torch.where(known > 0, total / known.clamp_min(1e-6), 128.0)
    edges = (0, width % 2, 0, height % 2)
    small = F.avg_pool2d(F.pad(total, edges), 2)
    weight = F.avg_pool2d(F.pad(known, edges), 2)
    grown = (weight * 4).clamp(max=1)  # a quarter of a pixel is knowledge enough
    below = _push_pull(small / weight.clamp_min(1e-6) * grown, grown)
    below = F.interpolate(below, scale_factor=2, mode="bilinear", align_corners=False)
    return total + (1 - known) * below[..., :height, :width]


def alpha_of(masks: Tensor, softness: float = SOFTNESS) -> Tensor:
    """Opacity of the foreground, (N, 1, H, W) float32 in [0, 1].

    It is 0 outside the masks however soft the edge is: nothing of an image's own background comes
    along with its foreground.

    Args:
        masks: (N, H, W) bool.
        softness: Standard deviation of the blur of the edge, pixels, >= 0; 0 leaves it hard.

    >>> alpha_of(torch.tensor([[[True, False]]]), 0.0).tolist()
    [[[[1.0, 0.0]]]]
    """
    alpha = masks[:, None].float()
    if softness > 0:
        inside = alpha
        sigma = torch.tensor([softness], device=masks.device)
        down, across = (blur_matrix(sigma, size, softness)[0] for size in masks.shape[1:])
        alpha = inside * (down @ alpha @ across.T)
    return alpha


def composite(
    images: Tensor, masks: Tensor, backgrounds: Tensor, softness: float = SOFTNESS
) -> Tensor:
    """Foregrounds blended into backgrounds: alpha x image + (1 - alpha) x background, rounded.

    Args:
        images: (N, 3, H, W) uint8, whose foregrounds are taken.
        masks: (N, H, W) bool, true on the foreground.
        backgrounds: (N, 3, H, W) uint8.
        softness: See :func:`alpha_of`.

    Returns:
        (N, 3, H, W) uint8.

    Source: Porter and Duff 1984, the operator over. Departure: none.

    >>> white, black = torch.full((1, 3, 1, 2), 255, dtype=torch.uint8), torch.zeros(1, 3, 1, 2)
    >>> composite(white, torch.tensor([[[True, False]]]), black.byte(), 0.0)[0, 0].tolist()
    [[255, 0]]
    """
    alpha = alpha_of(masks, softness)
    behind = backgrounds.float()
    return behind.lerp(images.float(), alpha).round().to(torch.uint8)
