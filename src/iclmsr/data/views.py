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

from iclmsr.data.backdrops import Background
from iclmsr.data.colour import ALMOST, HUE, grayscale_, hue_step, jitter_, solarize_
from iclmsr.data.resample import KERNELS, blur_, crop
from iclmsr.errors import IclmsrError

CROP_ATTEMPTS = 10
CACHED_PIXELS = 2**19  # of one colour: more at a time leaves a CPU's cache and is slower


@dataclass(frozen=True)
class ViewConfig:
    """How a view differs from its image: jitter, gray, crop, flip, blur and solarize, in order."""

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
    blur: float | tuple[float, ...] = 0.0
    """Probability that the view is blurred (Gaussian); or of each view, the last for all further
    ones: BYOL's pair is 1.0 0.1."""
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    """Smallest and largest standard deviation of the blur, pixels of the view, > 0."""
    solarize: float | tuple[float, ...] = 0.0
    """Probability that bright pixels are inverted, each channel for itself; or of each view, as
    blur: BYOL's pair is 0.0 0.2."""
    solarize_threshold: float = 0.5
    """From where on a channel of a pixel is bright, in [0, 1]; 0.5 is a byte's 128."""
    crop_first: bool = False
    """Crop and flip before jitter and gray, not after; contrast's mean gray is then the crop's."""
    weak: tuple[int, ...] = ()
    """Indices (from 0) of the views that are only cropped and flipped."""
    background: Background = "keep"
    """keep; or, with foreground masks, before all else: remove (gray instead), random (that of any
    image), swaps (images of a batch exchange theirs in pairs, in one of two views)."""
    background_probability: float = 0.2
    """With which an image's background is changed in a view, or a pair exchanges theirs."""

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
        for name in (
            "flip",
            "jitter_probability",
            "grayscale",
            "solarize_threshold",
            "background_probability",
        ):
            if not 0 <= getattr(self, name) <= 1:
                raise IclmsrError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        for name, chances in (("blur", self.blur), ("solarize", self.solarize)):
            each = chances if isinstance(chances, tuple) else (chances,)
            if not each or not all(0 <= chance <= 1 for chance in each):
                raise IclmsrError(f"{name} must be in [0, 1], got {chances}")
        if len(self.jitter) != 4 or not all(0 <= strength < math.inf for strength in self.jitter):
            raise IclmsrError(f"jitter must be 4 numbers >= 0, got {self.jitter}")
        if self.jitter[HUE] > 0.5:
            raise IclmsrError(f"jitter's hue must be in [0, 0.5] turns, got {self.jitter[HUE]}")
        if not 0 < self.blur_sigma[0] <= self.blur_sigma[1] < math.inf:
            raise IclmsrError(f"blur_sigma must have 0 < low <= high, got {self.blur_sigma}")
        if not all(index >= 0 for index in self.weak):
            raise IclmsrError(f"weak must be indices >= 0, got {self.weak}")

    def for_view(self, index: int) -> "ViewConfig":
        """The config of view ``index``: its own blur and solarize; when weak, crop and flip alone.

        >>> ViewConfig(blur=(1.0, 0.1)).for_view(2).blur
        0.1
        """
        if index in self.weak:
            plain = replace(self, jitter_probability=0.0, grayscale=0.0, blur=0.0, solarize=0.0)
            return replace(plain, background="keep")
        blur, solarize = _of_view(self.blur, index), _of_view(self.solarize, index)
        if (blur, solarize) == (self.blur, self.solarize):
            return self
        return replace(self, blur=blur, solarize=solarize)


def _of_view(chances: float | tuple[float, ...], index: int) -> float:
    """One view's probability."""
    return chances[min(index, len(chances) - 1)] if isinstance(chances, tuple) else chances


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

    Source: torchvision's ColorJitter, RandomResizedCrop, RandomSolarize; MoCo v2's GaussianBlur.
    Departure: none.

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
        blur=uniform() < _of_view(config.blur, 0),
        sigma=(soft + (softest - soft) * uniform()).float(),
        solarize=uniform() < _of_view(config.solarize, 0),
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

    Source: torchvision's transforms and GaussianBlur on PIL images. Departure: but for the jitter,
    no rounding between the steps; the blur is a sampled Gaussian, not Pillow's three boxes.

    >>> image = torch.full((1, 3, 8, 8), 255, dtype=torch.uint8)
    >>> config = ViewConfig(size=4, jitter_probability=0.0)
    >>> parameters = draw_parameters(1, 8, 8, config, torch.Generator())
    >>> make_views(image, parameters, config, mean=(0.5,) * 3, std=(0.5,) * 3).unique()
    tensor([1.])
    """
    step = max(1, CACHED_PIXELS // images[0, 0].numel()) if images.is_cpu else len(images)
    shift, spread = ((255 * torch.tensor(v)).tolist() for v in (mean, std))
    turn = hue_step(parameters.order).where(parameters.jitter, len(config.jitter))
    views = torch.empty(len(images), 3, config.size, config.size, device=images.device)
    index = torch.arange(len(images))
    for rows, part in zip(torch.split(index, step), torch.split(views, step), strict=True):
        # Jittered images lie together, in the order in which their hues turn, until they are views.
        order = turn[rows].argsort(stable=True)
        back, rows = order.argsort().to(images.device), rows[order]
        made = _views(images.index_select(0, rows.to(images.device)), parameters.take(rows), config)
        for plane, low, unit, out in zip(made, shift, spread, part.unbind(1), strict=True):
            torch.index_select(plane.sub_(low).div_(unit), 0, back, out=out)
    return views


def _views(images: Tensor, parameters: ViewParameters, config: ViewConfig) -> Tensor:
    """The views in grey levels, (3, B, S, S) in [0, 255]; jittered images come first."""
    count, channels, height, width = images.shape
    views = torch.empty(channels, count, height, width, device=images.device)
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
