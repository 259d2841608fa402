# SPDX-License-Identifier: Apache-2.0
"""How views differ from their images, as a value."""

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

from iclmsr.data.backdrops import Background
from iclmsr.data.colour import HUE
from iclmsr.data.resample import KERNELS
from iclmsr.errors import IclmsrError, nearest

LEAST, MOST = 1e-6, 1e6
"""Of shares, ratios and standard deviations; beyond, float32 may not do."""
CHANCES = (
    "flip",
    "jitter_probability",
    "grayscale",
    "blur",
    "solarize",
    "solarize_threshold",
    "background_probability",
)


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
    """How a crop is resized to the view; both are PIL's, with antialiasing, columns first."""
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
    image), swaps (as many images of a batch as there are views exchange theirs: with two views,
    pairs, in one of them)."""
    background_probability: float = 0.2
    """With which an image's background is changed in a view, or a pair exchanges theirs."""

    def __post_init__(self) -> None:
        for name in ("blur", "solarize"):
            if isinstance(chances := getattr(self, name), list):
                object.__setattr__(self, name, tuple(chances))
        if self.size < 1 or self.size != int(self.size):
            raise IclmsrError(f"views.size must be whole pixels, > 0, got {self.size}")
        for name, most in (("crop_scale", 1.0), ("crop_ratio", MOST), ("blur_sigma", MOST)):
            low, high = getattr(self, name)
            if not LEAST <= low <= high <= most:
                raise IclmsrError(
                    f"{_option(name)} must have {LEAST:g} <= low <= high <= {most:g}, "
                    f"got {low} {high}"
                )
        choices = {"interpolation": tuple(KERNELS), "background": get_args(Background)}
        for name, known in choices.items():
            value = getattr(self, name)
            if value not in known:
                raise IclmsrError(f"unknown {_option(name)} {value!r}: {nearest(value, known)}")
        for name in CHANCES:
            chances = getattr(self, name)
            each = chances if isinstance(chances, tuple) else (chances,)
            if not each or not all(0 <= chance <= 1 for chance in each):
                raise IclmsrError(f"{_option(name)} must be in [0, 1], got {chances}")
        if len(self.jitter) != 4 or not all(0 <= strength < math.inf for strength in self.jitter):
            raise IclmsrError(f"views.jitter must be 4 numbers >= 0, got {self.jitter}")
        if self.jitter[HUE] > 0.5:
            raise IclmsrError(
                f"views.jitter's hue must be in [0, 0.5] turns, got {self.jitter[HUE]}"
            )
        if not all(index >= 0 for index in self.weak):
            raise IclmsrError(f"views.weak must be indices >= 0, got {self.weak}")

    def check_count(self, count: int) -> None:
        """Raises where a value is for a view that there is not.

        Args:
            count: Views, V.

        Raises:
            IclmsrError: There are fewer views than ``blur``, ``solarize`` or ``weak`` speak of.
        """
        for name in ("blur", "solarize"):
            chances = getattr(self, name)
            if isinstance(chances, tuple) and len(chances) > count:
                raise IclmsrError(
                    f"views.{name} has {len(chances)} values for {count} views: "
                    "leave out those that no view has, or pass a larger --view-count"
                )
        for view in self.weak:
            if view >= count:
                raise IclmsrError(
                    f"views.weak {view} is not one of the {count} views, 0 to {count - 1}"
                )

    def for_view(self, index: int) -> "ViewConfig":
        """The config of view ``index``: its own blur and solarize; when weak, crop and flip alone.

        >>> ViewConfig(blur=(1.0, 0.1)).for_view(2).blur
        0.1
        """
        if index in self.weak:
            plain = replace(self, jitter_probability=0.0, grayscale=0.0, blur=0.0, solarize=0.0)
            return replace(plain, background="keep")
        blur, solarize = of_view(self.blur, index), of_view(self.solarize, index)
        if (blur, solarize) == (self.blur, self.solarize):
            return self
        return replace(self, blur=blur, solarize=solarize)


def of_view(chances: float | tuple[float, ...], index: int) -> float:
    """One view's probability: the last one given is that of all further views."""
    return chances[min(index, len(chances) - 1)] if isinstance(chances, tuple) else chances


def _option(name: str) -> str:
    """As it is called on the command line."""
    return f"views.{name.replace('_', '-')}"
