# SPDX-License-Identifier: Apache-2.0
"""The embedded data set: shapes on textures, with exact masks and a known confounder.

The class of an image is its shape. Each class has a texture of its own, which most training
images wear: an encoder may learn the texture instead. The split ``test-swapped`` shows the
shapes of ``test``, pixel for pixel, on textures that say nothing about the class; and
``val-swapped`` those of ``val``, to make choices on.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from iclmsr.data.images import ImageSet
from iclmsr.errors import IclmsrError, nearest
from iclmsr.seeds import generator

SWAPPED = "-swapped"
SPLITS = ("train", "val", "val-swapped", "test", "test-swapped")
SMALLEST_SIZE = 16
CHUNK_PIXELS = 2**19  # rendered at a time to bound the memory; part of what the data set is
Shape = Callable[[Tensor, Tensor], Tensor]
Texture = Callable[[Tensor, Tensor, torch.Generator], Tensor]


@dataclass(frozen=True)
class SyntheticConfig:
    """How many images, and how much their background says about their class.

    Raises:
        IclmsrError: A value is outside its range.
    """

    classes: int = 8
    """Number of shapes, and of textures, K, in [2, 8]."""
    train: int = 4000
    """Images of the split train, > 0."""
    val: int = 500
    """Images of the splits val and val-swapped, > 0."""
    test: int = 1000
    """Images of the splits test and test-swapped, > 0."""
    rho: float = 0.9
    """Strength of the confounding, in [0, 1]: with probability rho an image has the texture of
    its class, else a uniform one of all K."""
    variety: float = 1.0
    """How much place and turn of shapes and textures vary, in [0, 1]; the less, the easier."""

    def __post_init__(self) -> None:
        if not 2 <= self.classes <= len(SHAPES):
            raise IclmsrError(f"classes must be in [2, {len(SHAPES)}], got {self.classes}")
        for name in ("train", "val", "test"):
            if getattr(self, name) < 1:
                raise IclmsrError(f"{name} must be > 0 images, got {getattr(self, name)}")
        for name in ("rho", "variety"):
            if not 0 <= getattr(self, name) <= 1:
                raise IclmsrError(f"{name} must be in [0, 1], got {getattr(self, name)}")


def make_synthetic(config: SyntheticConfig, split: str, *, seed: int, image_size: int) -> ImageSet:
    """One split, the same on every call.

    Args:
        config: What to make.
        split: ``train``, ``val`` or ``test``; ``val-swapped`` or ``test-swapped``: the
            foregrounds of ``val`` or ``test`` on backgrounds drawn with rho = 0.
        seed: Any integer.
        image_size: Height and width, pixels, >= 16.

    Returns:
        Images with labels, masks and backgrounds; classes as equal in number as possible.

    Raises:
        IclmsrError: There is no such split, or the images are too small to show a shape.

    Source: ours; it puts the ICL-MSR paper's background study into a small box.

    >>> images = make_synthetic(SyntheticConfig(train=16), "train", seed=0, image_size=32)
    >>> images.images.shape, images.labels.bincount().tolist()
    (torch.Size([16, 3, 32, 32]), [2, 2, 2, 2, 2, 2, 2, 2])
    """
    if split not in SPLITS:
        raise IclmsrError(f"no split {split!r} in the synthetic data; {nearest(split, SPLITS)}")
    if image_size < SMALLEST_SIZE:
        raise IclmsrError(f"image_size must be >= {SMALLEST_SIZE} pixels, got {image_size}")
    front, rho = split.removesuffix(SWAPPED), 0.0 if split.endswith(SWAPPED) else config.rho
    count = {"train": config.train, "val": config.val, "test": config.test}[front]
    classes = config.classes
    order = torch.randperm(count, generator=generator(seed, "synthetic", front, "labels"))
    labels = order % classes
    draw = generator(seed, "synthetic", split, "backgrounds")
    own = torch.rand(count, generator=draw, dtype=torch.float64) < rho
    backgrounds = torch.where(own, labels, torch.randint(classes, (count,), generator=draw))

    images = torch.empty(count, 3, image_size, image_size, dtype=torch.uint8)
    masks = torch.empty(count, image_size, image_size, dtype=torch.bool)
    step = max(1, CHUNK_PIXELS // image_size**2)
    for begin in range(0, count, step):
        part = slice(begin, begin + step)
        ahead = generator(seed, "synthetic", front, "foreground", begin)
        behind = generator(seed, "synthetic", split, "background", begin)
        mask, colour, shade = _foreground(labels[part], image_size, config.variety, ahead)
        background = _background(backgrounds[part], colour, image_size, config.variety, behind)
        foreground = (colour[:, :, None, None] + shade).clamp(0, 1)
        pixels = torch.where(mask[:, None], foreground, background)
        images[part] = (pixels * 255).round().to(torch.uint8)
        masks[part] = mask
    return ImageSet(images, labels, tuple(SHAPES)[:classes], masks, backgrounds)


def _foreground(
    labels: Tensor, size: int, variety: float, draw: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Masks (B, S, S), colours (B, 3) and shading (B, 1, S, S) to add to them."""
    count = len(labels)
    radius = 0.22 + 0.08 * _uniform(draw, count, 1, 1)  # of the image's side
    centre = radius + (1 - 2 * radius) * _varied(variety, draw, count, 1, 2)
    x, y = _plane(size, centre, _varied(variety, draw, count, 1, 1) * math.tau, radius)
    mask = torch.empty(count, size, size, dtype=torch.bool)
    for label, inside in enumerate(SHAPES.values()):
        rows = labels == label
        mask[rows] = inside(x[rows], y[rows])
    shade = 0.12 * x + _grain(draw, count, size)
    return mask, _uniform(draw, count, 3), shade[:, None]


def _background(
    kinds: Tensor, avoid: Tensor, size: int, variety: float, draw: torch.Generator
) -> Tensor:
    """Textures (B, 3, S, S) in [0, 1] whose two colours differ from ``avoid`` (B, 3)."""
    count = len(kinds)
    # Of 16 pairs of colours the one that shows both shape and texture best. Weak textures are
    # among them, lest the shape never pays.
    pairs = _uniform(draw, count, 16, 2, 3)
    strength = 0.15 + 0.35 * _uniform(draw, count, 1, 1)
    pairs[:, :, 1] = pairs[:, :, 0].lerp(pairs[:, :, 1], strength)
    between = torch.cat([pairs, pairs.mean(dim=2, keepdim=True)], dim=2)  # clouds show it too
    apart = (between - avoid[:, None, None]).norm(dim=3).amin(dim=2)
    contrast = (pairs[:, :, 0] - pairs[:, :, 1]).norm(dim=2)
    best = torch.minimum(apart, contrast).argmax(dim=1)
    low, high = pairs[torch.arange(count), best].unbind(1)

    period = 1 / (3 + 2 * _uniform(draw, count, 1, 1))  # of the image's side
    start = _varied(variety, draw, count, 1, 2)
    u, v = _plane(size, start, _varied(variety, draw, count, 1, 1) * math.tau, period)
    share = torch.empty(count, size, size, dtype=torch.float64)
    for kind, texture in enumerate(TEXTURES.values()):
        rows = kinds == kind
        share[rows] = texture(u[rows], v[rows], draw).to(share.dtype)
    colours = low[:, :, None, None].lerp(high[:, :, None, None], share[:, None])
    return (colours + _grain(draw, count, size)[:, None]).clamp(0, 1)


def _uniform(draw: torch.Generator, *shape: int) -> Tensor:
    """Uniform numbers in [0, 1); float64, so that rounding to bytes hides a sine's last bit."""
    return torch.rand(*shape, generator=draw, dtype=torch.float64)


def _varied(variety: float, draw: torch.Generator, *shape: int) -> Tensor:
    """Uniform numbers within ``variety`` / 2 of 1/2."""
    free = _uniform(draw, *shape)
    return torch.full_like(free, 0.5).lerp(free, variety)


def _grain(draw: torch.Generator, count: int, size: int) -> Tensor:
    """The camera's noise (B, S, S), the same on shapes and textures."""
    return 0.1 * (_uniform(draw, count, size, size) - 0.5)


def _plane(size: int, centre: Tensor, angle: Tensor, unit: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates (B, S, S) twice: origin (B, 1, 2), turned by and in units of (B, 1, 1)."""
    side = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    x, y = (side - centre[..., :1]) / unit, ((side - centre[..., 1:]) / unit).mT
    return angle.cos() * x + angle.sin() * y, angle.cos() * y - angle.sin() * x


def _star(x: Tensor, y: Tensor) -> Tensor:
    """Five points: folded to one tenth, the edge is a line from (1, 0) to the inner corner."""
    turn = math.tau / 5
    angle = turn / 2 - (torch.atan2(y, x).remainder(turn) - turn / 2).abs()
    across, up = 0.42 * math.cos(turn / 2), 0.42 * math.sin(turn / 2)
    return torch.hypot(x, y) * (angle.cos() * up + angle.sin() * (1 - across)) < up


SHAPES: dict[str, Shape] = {
    "circle": lambda x, y: torch.hypot(x, y) < 0.85,
    "square": lambda x, y: torch.maximum(x.abs(), y.abs()) < 0.72,
    "triangle": lambda x, y: torch.maximum(0.866 * x.abs() + 0.5 * y, -y) < 0.5,
    "star": _star,
    "cross": lambda x, y: (
        (torch.minimum(x.abs(), y.abs()) < 0.27) & (torch.maximum(x.abs(), y.abs()) < 0.9)
    ),
    "ring": lambda x, y: (torch.hypot(x, y) - 0.72).abs() < 0.23,
    "crescent": lambda x, y: (torch.hypot(x, y) < 0.95) & (torch.hypot(x - 0.5, y) > 0.75),
    "bow tie": lambda x, y: (y.abs() < 0.85 * x.abs() + 0.05) & (x.abs() < 0.8),
}

TEXTURES: dict[str, Texture] = {
    "stripes": lambda u, v, draw: u % 1 < 0.5,
    "checks": lambda u, v, draw: (u % 1 < 0.5) ^ (v % 1 < 0.5),
    "dots": lambda u, v, draw: torch.hypot(u % 1 - 0.5, v % 1 - 0.5) < 0.32,
    "waves": lambda u, v, draw: (u + 0.3 * (math.tau * v / 2).sin()) % 1 < 0.5,
    "grid": lambda u, v, draw: (u % 1 < 0.25) | (v % 1 < 0.25),
    "mosaic": lambda u, v, draw: _field(u, draw, 16, "nearest"),
    "ripples": lambda u, v, draw: torch.hypot(u, v) % 1 < 0.5,
    "clouds": lambda u, v, draw: _field(u, draw, 5, "bicubic"),
}
BACKGROUNDS = tuple(TEXTURES)


def _field(like: Tensor, draw: torch.Generator, cells: int, mode: str) -> Tensor:
    """A random field of ``cells`` x ``cells`` values, in the shape (B, S, S) of ``like``."""
    values = _uniform(draw, len(like), 1, cells, cells)
    return interpolate(values, like.shape[1:], mode=mode).squeeze(1).clamp(0, 1)
