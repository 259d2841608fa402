# SPDX-License-Identifier: Apache-2.0
"""Augmented views of a whole batch at once, on the device that holds the images.

:func:`draw_parameters` decides what happens to every image, :func:`make_views` does it. Drawn
once per epoch for the whole data set and indexed by image, the decisions do not depend on which
images share a batch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from iclmsr.data.resample import KERNELS, blur_matrix, resample_matrix
from iclmsr.errors import IclmsrError

CROP_ATTEMPTS = 10
CACHED_PIXELS = 2**18  # of one colour: more at a time leaves a CPU's cache and is slower
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)


@dataclass(frozen=True)
class ViewConfig:
    """How a view differs from its image: jitter, gray, crop, flip, blur, in this order."""

    size: int = 32
    """Height and width of a view, pixels, > 0."""
    crop_scale: tuple[float, float] = (0.2, 1.0)
    """Smallest and largest share of the image's area that a crop covers, in (0, 1]."""
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Smallest and largest width / height of a crop, > 0."""
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    """How a crop is resized to the view; both are PIL's, with antialiasing."""
    flip: float = 0.5
    """Probability of a horizontal flip."""
    jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.4, 0.1)
    """Strength of brightness, contrast, saturation (factor 1 ± strength, >= 0) and hue (± turns,
    at most 0.5)."""
    jitter_probability: float = 0.8
    """Probability that the colours are jittered at all."""
    grayscale: float = 0.1
    """Probability that the view is gray."""
    blur: float = 0.0
    """Probability that the view is blurred (Gaussian)."""
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    """Smallest and largest standard deviation of the blur, pixels of the view, > 0."""
    crop_first: bool = False
    """Crop and flip before jitter and gray, not after; contrast's mean gray is then the crop's."""
    weak: tuple[int, ...] = ()
    """Indices (from 0) of the views that are only cropped and flipped."""

    def __post_init__(self) -> None:
        if self.size < 1:
            raise IclmsrError(f"size must be > 0 pixels, got {self.size}")
        if not 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1:
            raise IclmsrError(f"crop_scale must have 0 < low <= high <= 1, got {self.crop_scale}")
        if not 0 < self.crop_ratio[0] <= self.crop_ratio[1] < math.inf:
            raise IclmsrError(f"crop_ratio must have 0 < low <= high, got {self.crop_ratio}")
        if self.interpolation not in KERNELS:
            known = " or ".join(map(repr, KERNELS))
            raise IclmsrError(f"interpolation must be {known}, got {self.interpolation!r}")
        for name in ("flip", "jitter_probability", "grayscale", "blur"):
            if not 0 <= getattr(self, name) <= 1:
                raise IclmsrError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        if len(self.jitter) != 4 or not all(0 <= strength < math.inf for strength in self.jitter):
            raise IclmsrError(f"jitter must be 4 numbers >= 0, got {self.jitter}")
        if self.jitter[HUE] > 0.5:
            raise IclmsrError(f"jitter's hue must be in [0, 0.5] turns, got {self.jitter[HUE]}")
        if not 0 < self.blur_sigma[0] <= self.blur_sigma[1] < math.inf:
            raise IclmsrError(f"blur_sigma must have 0 < low <= high, got {self.blur_sigma}")
        if not all(index >= 0 for index in self.weak):
            raise IclmsrError(f"weak must be indices >= 0, got {self.weak}")

    def for_view(self, index: int) -> "ViewConfig":
        """The config of view ``index``: without jitter, gray and blur when it is weak."""
        if index not in self.weak:
            return self
        return replace(self, jitter_probability=0.0, grayscale=0.0, blur=0.0)


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
    """

    box: Tensor
    flip: Tensor
    factors: Tensor
    order: Tensor
    jitter: Tensor
    grayscale: Tensor
    blur: Tensor
    sigma: Tensor

    def take(self, index: Tensor | slice) -> "ViewParameters":
        """The rows at ``index``, a slice or (M,) int64, in that order."""
        return ViewParameters(*(field[index] for field in self))


def draw_parameters(
    count: int, height: int, width: int, config: ViewConfig, generator: torch.Generator
) -> ViewParameters:
    """Independent parameters for ``count`` images of one size.

    Args:
        count: Number of images, B.
        height: Of the images, pixels.
        width: Of the images, pixels.
        config: The distribution.
        generator: A CPU generator.

    Source: torchvision's ColorJitter, RandomResizedCrop; MoCo v2's GaussianBlur. Departure: none.

    >>> parameters = draw_parameters(8, 32, 32, ViewConfig(flip=1.0), torch.Generator())
    >>> parameters.box.shape, bool(parameters.flip.all())
    (torch.Size([8, 4]), True)
    """

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
        blur=uniform() < config.blur,
        sigma=(soft + (softest - soft) * uniform()).float(),
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
    centred_height = min(height, round(width / narrow))
    centred_width = min(width, round(height * broad))
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

    Source: torchvision's transforms and GaussianBlur on PIL images. Departure: no rounding between
    the steps; the blur is a sampled Gaussian, not Pillow's three boxes.

    >>> image = torch.full((1, 3, 8, 8), 255, dtype=torch.uint8)
    >>> config = ViewConfig(size=4, jitter_probability=0.0)
    >>> parameters = draw_parameters(1, 8, 8, config, torch.Generator())
    >>> make_views(image, parameters, config, mean=(0.5,) * 3, std=(0.5,) * 3).unique()
    tensor([1.])
    """
    step = max(1, CACHED_PIXELS // images[0, 0].numel()) if images.is_cpu else len(images)
    parts = [slice(begin, begin + step) for begin in range(0, len(images), step)]
    views = torch.cat([_views(images[part], parameters.take(part), config) for part in parts])
    shift, spread = (torch.tensor(v, device=images.device)[:, None, None] for v in (mean, std))
    return views.sub_(shift).div_(spread)


def _views(images: Tensor, parameters: ViewParameters, config: ViewConfig) -> Tensor:
    """The views in [0, 1], (B, 3, S, S)."""
    # Planes of one colour are contiguous: every operation below is a sweep over memory.
    planes = images.transpose(0, 1).contiguous().float().div_(255)
    with torch.autocast(images.device.type, enabled=False):  # half precision would smear the views
        if not config.crop_first:
            _recolour_(planes, parameters)
        planes = _crop(planes, parameters, config)
        if config.crop_first:
            _recolour_(planes, parameters)
        _blur_(planes, parameters, config)
    return planes.transpose(0, 1)


def _crop(planes: Tensor, parameters: ViewParameters, config: ViewConfig) -> Tensor:
    """Crop, resize and flip: (3, B, S, S) of ``planes`` (3, B, H, W)."""
    height, width = planes.shape[2:]
    top, left, tall, wide = parameters.box.to(planes.device).unbind(1)
    flip = parameters.flip.to(planes.device)
    rows = resample_matrix(top, tall, height, config.size, config.interpolation)
    columns = resample_matrix(left, wide, width, config.size, config.interpolation, flip).mT
    # Columns first with a clip between, as Pillow; 13.0 turns it round for some tall crops.
    cut = [torch.bmm(plane, columns).clamp_(0, 1) for plane in planes]
    return torch.stack([torch.bmm(rows, plane).clamp_(0, 1) for plane in cut])


def _blur_(planes: Tensor, parameters: ViewParameters, config: ViewConfig) -> None:
    """Gaussian blur in place, ``planes`` (3, B, S, S) in [0, 1]."""
    rows = parameters.blur.nonzero().squeeze(1)
    blur = blur_matrix(parameters.sigma[rows].to(planes.device), config.size, config.blur_sigma[1])
    rows = rows.to(planes.device)
    for plane in planes:
        blurred = torch.bmm(torch.bmm(blur, plane.index_select(0, rows)), blur.mT)
        plane.index_copy_(0, rows, blurred.clamp_(max=1))


def _recolour_(planes: Tensor, parameters: ViewParameters) -> None:
    """Jitter and gray in place, ``planes`` (3, B, H, W) in [0, 1]."""
    if parameters.jitter.any():
        _jitter_(planes, parameters)
    gray = parameters.grayscale.nonzero().squeeze(1).to(planes.device)
    planes[:, gray] = _luma(planes[:, gray])


def _jitter_(planes: Tensor, parameters: ViewParameters) -> None:
    """ColorJitter in place, ``planes`` (3, B, H, W) in [0, 1]."""
    order = parameters.order
    factors = parameters.factors.gather(1, order)
    # Brightness, contrast and saturation blend an image with black, its mean gray and its gray.
    # A row whose turn it is not, keeps all of itself: one sweep without picking rows.
    keep = factors.where(parameters.jitter[:, None] & (order != HUE), 1.0)
    to_mean = (1 - keep) * (order == CONTRAST)
    to_gray = (1 - keep) * (order == SATURATION)
    shares = torch.stack([keep, to_mean, to_gray], dim=2).to(planes.device)[..., None, None]
    for slot in range(4):
        own, mean, gray = shares[:, slot].unbind(1)
        luma = _luma(planes)
        # Two means: torch may split one long sum in a way that depends on the batch size.
        average = luma.mean(2, keepdim=True).mean(1, keepdim=True).mul_(mean)
        other = luma.mul_(gray).add_(average)
        torch.addcmul(other, planes, own, out=planes).clamp_(0, 1)
        rows = (parameters.jitter & (order[:, slot] == HUE)).nonzero().squeeze(1)
        turns = factors[rows, slot].to(planes.device)[:, None, None]
        rows = rows.to(planes.device)
        planes.index_copy_(1, rows, _turn_hue(planes.index_select(1, rows), turns))


def _luma(planes: Tensor) -> Tensor:
    """ITU-R 601 gray (B, H, W) of ``planes`` (3, B, H, W)."""
    red, green, blue = planes.unbind()
    return (red * 0.2989).add_(green, alpha=0.587).add_(blue, alpha=0.114)


def _turn_hue(planes: Tensor, turns: Tensor) -> Tensor:
    """``planes`` (3, B, H, W) with the hue turned by ``turns`` (B, 1, 1); keeps HSV's S and V."""
    red, green, blue = planes.unbind()
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
    turned = torch.empty_like(planes)
    for plane, peak in zip(turned, (0, 1 / 3, -1 / 3), strict=True):
        torch.sub(hue, peak, out=plane).abs_().sub_(0.5).abs_().clamp_(1 / 6, 2 / 6)
        torch.addcmul(floor, plane, sextant, out=plane)
    return turned
