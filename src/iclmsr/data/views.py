# SPDX-License-Identifier: Apache-2.0
"""Augmented views of a whole batch at once, on the device that holds the images.

:func:`draw_parameters` decides what happens to every image, :func:`make_views` does it. Drawn
once per epoch for the whole data set and indexed by image, the decisions do not depend on which
images share a batch.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from iclmsr.data.colour import ALMOST, HUE, grayscale_, hue_step, jitter_, solarize_
from iclmsr.data.resample import blur_, crop
from iclmsr.data.view_config import ViewConfig, of_view
from iclmsr.errors import IclmsrError

__all__ = ["ViewConfig", "ViewParameters", "draw_parameters", "make_views"]

CROP_ATTEMPTS = 10
CACHED_PIXELS = 2**19  # of one colour: more at a time leaves a CPU's cache and is slower


class ViewParameters(NamedTuple):
    """What happens to each of B images.

    Attributes:
        box: (B, 4) int64, the crop's top, left, height and width in pixels of the image.
        flip: (B,) bool.
        factors: (B, 4) float32, brightness, contrast and saturation >= 0, hue in turns.
        order: (B, 4) int64, the jitter operations (columns of ``factors``) in their order.
        jitter: (B,) bool, whether ``factors`` apply.
        grayscale: (B,) bool.
        blur: (B,) bool.
        sigma: (B,) float32, the blur's standard deviation in pixels of the view, > 0.
        solarize: (B,) bool.
    """

    box: Tensor
    flip: Tensor
    factors: Tensor
    order: Tensor
    jitter: Tensor
    grayscale: Tensor
    blur: Tensor
    sigma: Tensor
    solarize: Tensor

    def take(self, index: Tensor) -> "ViewParameters":
        """The rows at ``index``, (M,) int64, in this order."""
        return ViewParameters(*(field.index_select(0, index) for field in self))

    @staticmethod
    def cat(parts: Sequence["ViewParameters"]) -> "ViewParameters":
        """The rows of all ``parts``, one after the other."""
        return ViewParameters(*map(torch.cat, zip(*parts, strict=True)))


def draw_parameters(
    count: int, height: int, width: int, config: ViewConfig, generator: torch.Generator
) -> ViewParameters:
    """Independent parameters for ``count`` images of one size.

    Args:
        count: Number of images, B.
        height: Of the images, pixels.
        width: Of the images, pixels.
        config: The distribution; of blur and solarize, where views differ, that of view 0.
        generator: A CPU generator.

    Raises:
        IclmsrError: ``count`` < 0, or the images have no pixels.

    Source: torchvision's ColorJitter, RandomResizedCrop, RandomSolarize; MoCo v2's GaussianBlur.
    Departure: none.

    >>> parameters = draw_parameters(8, 32, 32, ViewConfig(flip=1.0), torch.Generator())
    >>> parameters.box.shape, bool(parameters.flip.all())
    (torch.Size([8, 4]), True)
    """
    if count < 0 or height < 1 or width < 1:
        raise IclmsrError(
            f"there are no parameters for {count} images of {height} x {width} pixels"
        )

    def uniform(*shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=generator, dtype=torch.float64)

    strength = torch.tensor(config.jitter, dtype=torch.float64)
    centre = torch.tensor([1.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    low = centre - strength
    low[:HUE].clamp_(min=0)
    soft, softest = config.blur_sigma
    # In the order of the fields: a new field at the end leaves the numbers of the others alone.
    return ViewParameters(
        box=_draw_boxes(uniform(2, CROP_ATTEMPTS), uniform(2), height, width, config),
        flip=uniform() < config.flip,
        factors=torch.lerp(low, centre + strength, uniform(4)).float(),
        order=uniform(4).argsort(dim=1),
        jitter=uniform() < config.jitter_probability,
        grayscale=uniform() < config.grayscale,
        blur=uniform() < of_view(config.blur, 0),
        sigma=(soft + (softest - soft) * uniform()).float(),
        solarize=uniform() < of_view(config.solarize, 0),
    )


def _draw_boxes(
    shape: Tensor, place: Tensor, height: int, width: int, config: ViewConfig
) -> Tensor:
    """Boxes (B, 4) from uniform numbers: ``shape`` (B, 2, attempts), ``place`` (B, 2)."""
    (least, most), (narrow, broad) = config.crop_scale, config.crop_ratio
    area = height * width * (least + (most - least) * shape[:, 0])
    ratio = narrow * (broad / narrow) ** shape[:, 1]  # uniform in its logarithm
    heights, widths = (area / ratio).sqrt().round(), (area * ratio).sqrt().round()
    fits = (heights > 0) & (heights <= height) & (widths > 0) & (widths <= width)
    first = fits.int().argmax(dim=1, keepdim=True)
    # When no attempt fits: the largest centred box of an allowed ratio.
    centred_height = max(1, min(height, round(width / narrow)))
    centred_width = max(1, min(width, round(height * broad)))
    found = fits.any(dim=1)
    h = heights.gather(1, first).squeeze(1).where(found, centred_height)
    w = widths.gather(1, first).squeeze(1).where(found, centred_width)
    top = (place[:, 0] * (height - h + 1)).floor().where(found, (height - centred_height) // 2)
    left = (place[:, 1] * (width - w + 1)).floor().where(found, (width - centred_width) // 2)
    return torch.stack([top, left, h, w], dim=1).long()


@torch.no_grad()
def make_views(
    images: Tensor,
    parameters: ViewParameters,
    config: ViewConfig,
    *,
    mean: Sequence[float],
    std: Sequence[float],
) -> Tensor:
    """One normalized view of every image. A row depends on that row of the arguments only.

    Args:
        images: (B, 3, H, W) uint8, on any device.
        parameters: B rows; on the CPU, whatever the images' device, no row makes it wait.
        config: Size and interpolation of the views, order of the steps, reach of the blur.
        mean: Of the 3 channels, in [0, 1].
        std: Of the 3 channels, > 0.

    Returns:
        (B, 3, S, S) float32 on the images' device, (view - mean) / std with the view in [0, 1].

    Raises:
        IclmsrError: The images have another shape or type; the parameters are not of B images of
            this size; ``mean`` or ``std`` is not of 3 channels, or ``std`` not > 0.

    Source: torchvision's transforms and GaussianBlur on PIL images. Departure: but for the jitter,
    no rounding between the steps; the blur is a sampled Gaussian, not Pillow's three boxes.

    >>> image = torch.full((1, 3, 8, 8), 255, dtype=torch.uint8)
    >>> config = ViewConfig(size=4, jitter_probability=0.0)
    >>> parameters = draw_parameters(1, 8, 8, config, torch.Generator())
    >>> make_views(image, parameters, config, mean=(0.5,) * 3, std=(0.5,) * 3).unique()
    tensor([1.])
    """
    _check(images, parameters)
    if not (len(mean) == len(std) == 3 and all(unit > 0 for unit in std)):
        raise IclmsrError(f"mean and std must be 3 numbers each, std > 0, got {mean} and {std}")
    height, width = images.shape[2:]
    step = max(1, CACHED_PIXELS // (height * width) if images.is_cpu else len(images))
    shift, spread = ((255 * torch.tensor(v)).tolist() for v in (mean, std))
    turn = hue_step(parameters.order).where(parameters.jitter, len(config.jitter))
    shape = len(images), 3, config.size, config.size
    views = torch.empty(shape, dtype=torch.float32, device=images.device)
    index = torch.arange(len(images))
    for rows, part in zip(torch.split(index, step), torch.split(views, step), strict=True):
        # Jittered images lie together, in the order in which their hues turn, until they are views.
        order = turn[rows].argsort(stable=True)
        back, rows = order.argsort().to(images.device), rows[order]
        made = _views(images.index_select(0, rows.to(images.device)), parameters.take(rows), config)
        for plane, low, unit, out in zip(made, shift, spread, part.unbind(1), strict=True):
            torch.index_select(plane.sub_(low).div_(unit), 0, back, out=out)
    return views


def _check(images: Tensor, parameters: ViewParameters) -> None:
    """Raises unless there are images, and a row of parameters for each, of its size."""
    shape = tuple(images.shape)
    if images.dtype != torch.uint8 or len(shape) != 4 or shape[1] != 3:
        raise IclmsrError(f"images must be uint8 (B, 3, H, W), got {images.dtype} {shape}")
    if len(parameters.box) != len(images):
        rows = len(parameters.box)
        raise IclmsrError(f"{len(images)} images need as many rows of parameters, got {rows}")
    ends = parameters.box[:, :2] + parameters.box[:, 2:]
    if (ends > torch.tensor(shape[2:])).any():
        row, column = ends.amax(0).tolist()
        raise IclmsrError(
            f"a crop ends at row {row}, column {column} of images of {shape[2]} x {shape[3]} pixels"
        )


def _views(images: Tensor, parameters: ViewParameters, config: ViewConfig) -> Tensor:
    """The views in grey levels, (3, B, S, S) in [0, 255]; jittered images come first."""
    count, channels, height, width = images.shape
    shape = channels, count, height, width
    views = torch.empty(shape, dtype=torch.float32, device=images.device)
    views.copy_(images.transpose(0, 1))
    with torch.autocast(images.device.type, enabled=False):  # half precision would smear the views
        if not config.crop_first:
            _recolour_(views, parameters)
        box, flip = parameters.box.to(views.device), parameters.flip.to(views.device)
        views = crop(views, box, flip, config.size, config.interpolation)
        if config.crop_first:
            jittered = views[:, : int(parameters.jitter.sum())]
            jittered.add_(0.5 + ALMOST).floor_()  # halves go up, as Pillow's
            _recolour_(views, parameters)
        blur_(views, parameters.blur, parameters.sigma, config.blur_sigma[1])
        solarize_(views, parameters.solarize, config.solarize_threshold)
    return views


def _recolour_(images: Tensor, parameters: ViewParameters) -> None:
    """Jitter and gray in place, ``images`` (3, B, H, W) in [0, 255]; jittered ones come first."""
    count = int(parameters.jitter.sum())
    if count:
        jitter_(images[:, :count], parameters.factors[:count], parameters.order[:count])
    grayscale_(images, parameters.grayscale)
