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
GRABCUT_SIDE, GRABCUT_ROUNDS = 256, 5
SALIENCY_SIDE, SALIENCY_BLUR = 64, 8.0


def centred_ellipse(height: int, width: int, share: float = CENTRE) -> Mask:
    """The ellipse (H, W) in the middle of an image, of the image's own proportions.

    Args:
        height: Pixels.
        width: Pixels.
        share: Of the image's area that it covers, in (0, pi / 4].

    >>> centred_ellipse(3, 5).astype(int).tolist()
    [[0, 0, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 0, 0]]
    """
    y = (np.arange(height)[:, None] + 0.5) / height - 0.5
    x = (np.arange(width) + 0.5) / width - 0.5
    inside: Mask = x**2 + y**2 <= share / math.pi
    return inside


def grabcut(image: Image, box: Box | None = None) -> Mask:
    """What has the colours of the middle of the image rather than of its rim.

    Two mixtures of five Gaussians, for the colours of foreground and background, and a cut
    between them along edges, in turns. An image with a side above 256 pixels is scaled down for
    it, and its mask up again.

    Args:
        image: (H, W, 3) uint8.
        box: The object's, if known: all outside is background. Without one the image's rim is
            background, and the centred ellipse the first guess.

    Returns:
        (H, W); the same on every call. A box of the whole image is all foreground.

    Raises:
        IclmsrError: OpenCV is not installed.

    Source: Rother, Kolmogorov and Blake 2004, by OpenCV. Departure: the start without a box.
    """
    cv2 = _opencv()
    height, width = image.shape[:2]
    start = _start(height, width, box)
    scale = GRABCUT_SIDE / max(height, width)
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        start = cv2.resize(start, size, interpolation=cv2.INTER_NEAREST)
    sure = start == cv2.GC_BGD
    if sure.any() and (start == cv2.GC_PR_FGD).any():
        cv2.setRNGSeed(0)  # of this thread: the mixtures begin with random clusters
        models = np.zeros((2, 1, 65))
        mode = cv2.GC_INIT_WITH_MASK
        cv2.grabCut(image, start, None, models[0], models[1], GRABCUT_ROUNDS, mode)
    mask = (start == cv2.GC_FGD) | (start == cv2.GC_PR_FGD)
    return _scaled(mask.astype(np.float32), height, width) >= 0.5


def _start(height: int, width: int, box: Box | None) -> NDArray[np.uint8]:
    """What GrabCut is told (H, W), in its own numbers: 0 background, 2 and 3 perhaps so."""
    if box is None:
        start = np.where(centred_ellipse(height, width), 3, 2).astype(np.uint8)
        start[[0, -1]] = 0
        start[:, [0, -1]] = 0
        return start
    left, top, right, bottom = box
    start = np.zeros((height, width), np.uint8)
    start[top:bottom, left:right] = 3
    return start


def saliency(image: Image) -> Mask:
    """What stands out from the regular part of the image's spectrum, in one piece.

    The spectral residual of the gray image at 64 pixels, smoothed; what Otsu's threshold parts
    off; its largest connected piece.

    Args:
        image: (H, W, 3) uint8.

    Returns:
        (H, W).

    Raises:
        IclmsrError: OpenCV is not installed.

    Source: Hou and Zhang 2007; Otsu 1979. Departure: they threshold at three times the mean and
    keep all pieces.
    """
    cv2 = _opencv()
    height, width = image.shape[:2]
    longest = max(height, width)
    scale = min(1, SALIENCY_SIDE / longest)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    spectrum = np.fft.fft2(cv2.resize(gray, size, interpolation=cv2.INTER_AREA).astype(np.float64))
    log_amplitude = np.log(np.abs(spectrum) + 1e-9)
    residual = log_amplitude - cv2.blur(log_amplitude, (3, 3), borderType=cv2.BORDER_WRAP)
    seen = np.abs(np.fft.ifft2(np.exp(residual + 1j * np.angle(spectrum)))) ** 2
    blur = SALIENCY_BLUR * min(1, longest / SALIENCY_SIDE)
    seen = cv2.GaussianBlur(seen, (0, 0), blur)
    levels = cv2.normalize(seen, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    _, parted = cv2.threshold(levels, 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    _, pieces, stats, _ = cv2.connectedComponentsWithStats(parted)
    largest = 1 + stats[1:, cv2.CC_STAT_AREA].argmax() if len(stats) > 1 else 0
    piece = (pieces == largest) & (parted > 0)
    return _scaled(piece.astype(np.float32), height, width) >= 0.5


def _scaled(mask: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """A mask (h, w) of numbers in another size, linear between pixels."""
    if mask.shape == (height, width):
        return mask
    cv2 = _opencv()
    scaled: NDArray[np.float32] = cv2.resize(mask, (width, height), interpolation=cv2.INTER_LINEAR)
    return scaled


def _opencv() -> Any:
    """OpenCV, if it is installed."""
    try:
        import cv2
    except ImportError as error:
        raise IclmsrError(
            f"mask makers grabcut and saliency need OpenCV ({error}): pip install 'iclmsr[masks]'"
        ) from error
    return cv2
