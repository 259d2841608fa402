# SPDX-License-Identifier: Apache-2.0
"""Foreground masks for images that have none: guesses, without a trained model.

How far to trust which one is measured in ``docs/how-to/masks.md``.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iclmsr.errors import IclmsrError

Image = NDArray[np.uint8]
"""Upright, (H, W, 3)."""
Mask = NDArray[np.bool_]
Maker = Callable[[Image], NDArray[Any]]
"""From an image to its foreground (H, W): bool, or a probability."""
Box = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels; right and bottom are the first ones outside."""

CENTRE = 0.5
"""Share of the image's area that the centred ellipse covers."""
HEART, LOST = 0.1, 0.03
"""Shares of the box, or of the image: of its middle that is foreground where all else fails, and
below which a mask is a failure."""
BACKGROUND, FOREGROUND, PERHAPS_BACKGROUND, PERHAPS_FOREGROUND = range(4)  # as OpenCV has them
GRABCUT_SIDE, GRABCUT_ROUNDS = 256, 5
SALIENCY_SIDE, SALIENCY_BLUR = 64, 8.0  # the paper's, pixels


def centred_ellipse(height: int, width: int, share: float = CENTRE) -> Mask:
    """The ellipse (H, W) in the middle of an image, of the image's own proportions.

    Args:
        height: Pixels.
        width: Pixels.
        share: Of the image's area that it covers, in (0, pi / 4].

    >>> centred_ellipse(3, 5).astype(int).tolist()
    [[0, 1, 1, 1, 0], [0, 1, 1, 1, 0], [0, 1, 1, 1, 0]]
    """
    y = (np.arange(height)[:, None] + 0.5) / height - 0.5
    x = (np.arange(width) + 0.5) / width - 0.5
    inside: Mask = x**2 + y**2 <= share / math.pi
    return inside


def grabcut(image: Image, box: Box | None = None) -> Mask:
    """What has the colours of the middle of the image rather than of its rim.

    Two mixtures of five Gaussians, for the colours of foreground and background, and a cut
    between them along edges, in turns. Where that leaves next to nothing, it is done again with
    the very middle as foreground for sure. An image with a side above 256 pixels is scaled down
    for it, and its mask up again.

    Args:
        image: (H, W, 3) uint8.
        box: The object's, if known: all outside is background. Without one the image's rim is
            background, and the centred ellipse the first guess.

    Returns:
        (H, W); the same on every call. A box of the whole image is all foreground, for there is
        no background to learn from; an image of less than 3 pixels a side is all rim.

    Raises:
        IclmsrError: OpenCV is not installed.

    Source: Rother, Kolmogorov and Blake 2004, by OpenCV. Departure: the start without a box, and
    the second attempt.
    """
    small = _shrunk(image, GRABCUT_SIDE)
    start: NDArray[np.uint8] = np.full(small.shape[:2], BACKGROUND, np.uint8)
    if box is None:
        part = start
        inside = centred_ellipse(*start.shape)
        start[1:-1, 1:-1] = np.where(inside, PERHAPS_FOREGROUND, PERHAPS_BACKGROUND)[1:-1, 1:-1]
    else:
        part = start[_scaled_box(box, image, small)]
        part[:] = PERHAPS_FOREGROUND
    mask = _cut(small, start)
    if mask.sum() < LOST * part.size:
        middle = centred_ellipse(len(part), len(part.T), HEART)
        part[middle & (part != BACKGROUND)] = FOREGROUND
        mask = _cut(small, start)
    mask = _enlarged(mask, image)
    if box is not None:  # which scaling has rounded outwards
        left, top, right, bottom = box
        mask[:top] = mask[bottom:] = False
        mask[:, :left] = mask[:, right:] = False
    return mask


def _cut(image: Image, start: NDArray[np.uint8]) -> Mask:
    """GrabCut's foreground (H, W), from what is known (H, W) at its start."""
    cv2 = _opencv()
    state = start.copy()
    if (state == BACKGROUND).any() and (state == PERHAPS_FOREGROUND).any():
        cv2.setRNGSeed(0)  # of this thread: the mixtures begin with random clusters
        models = np.zeros((2, 1, 65))
        mode = cv2.GC_INIT_WITH_MASK
        cv2.grabCut(image, state, None, models[0], models[1], GRABCUT_ROUNDS, mode)
    foreground: Mask = (state == FOREGROUND) | (state == PERHAPS_FOREGROUND)
    return foreground


def _scaled_box(box: Box, image: Image, small: Image) -> tuple[slice, slice]:
    """Rows and columns of a box in an image that is scaled down, outwards, so never none."""
    (tall, wide), (height, width) = image.shape[:2], small.shape[:2]
    left, top, right, bottom = box
    rows = slice(top * height // tall, -(-bottom * height // tall))
    return rows, slice(left * width // wide, -(-right * width // wide))


def saliency(image: Image) -> Mask:
    """What stands out from the regular part of the image's spectrum.

    The spectral residuals of lightness and two colours at 64 pixels, added and smoothed; what
    Otsu's threshold parts off.

    Args:
        image: (H, W, 3) uint8.

    Returns:
        (H, W); nothing of an image of one colour.

    Raises:
        IclmsrError: OpenCV is not installed.

    Source: Hou and Zhang 2007; Otsu 1979. Departure: colours, not only gray; they threshold at
    three times the mean.
    """
    cv2 = _opencv()
    small = _shrunk(image, SALIENCY_SIDE)
    planes = cv2.cvtColor(small, cv2.COLOR_RGB2LAB).transpose(2, 0, 1)
    seen = np.sum([_residual(plane) for plane in planes], axis=0)
    blur = SALIENCY_BLUR * max(small.shape[:2]) / SALIENCY_SIDE
    levels = cv2.normalize(cv2.GaussianBlur(seen, (0, 0), blur), None, 0, 255, cv2.NORM_MINMAX)
    _, parted = cv2.threshold(levels.astype(np.uint8), 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    return _enlarged(parted > 0, image)


def _residual(plane: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The part (h, w) of a plane whose amplitudes differ from their neighbours' in the spectrum."""
    cv2 = _opencv()
    if plane.min() == plane.max():
        return np.zeros(plane.shape)
    spectrum = np.fft.fft2(plane.astype(np.float64))
    log_amplitude = np.log(np.abs(spectrum) + 1e-9)
    residual = log_amplitude - cv2.blur(log_amplitude, (3, 3), borderType=cv2.BORDER_WRAP)
    energy: NDArray[np.float64] = np.abs(np.fft.ifft2(np.exp(residual + 1j * np.angle(spectrum))))
    return energy**2


def _shrunk(image: Image, side: int) -> Image:
    """The image, scaled down where its longer side has more than ``side`` pixels."""
    height, width = image.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return image
    cv2 = _opencv()
    size = max(1, round(width * scale)), max(1, round(height * scale))
    shrunk: Image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return shrunk


def _enlarged(mask: Mask, image: Image) -> Mask:
    """A mask (h, w) in the size of its image, linear between pixels."""
    if mask.shape == image.shape[:2]:
        return mask
    cv2 = _opencv()
    size = image.shape[1], image.shape[0]
    scaled = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    enlarged: Mask = scaled >= 0.5
    return enlarged


def _opencv() -> Any:
    """OpenCV, if it is installed."""
    try:
        import cv2
    except ImportError as error:
        raise IclmsrError(
            f"mask makers grabcut and saliency need OpenCV ({error}): pip install 'iclmsr[masks]'"
        ) from error
    return cv2
