# SPDX-License-Identifier: Apache-2.0
"""Pictures to embed."""

import numpy as np
from PIL import Image


def picture(number, size=(40, 28)):
    """A picture that differs from all others."""
    pixels = np.random.default_rng(number).integers(0, 256, (6, 8, 3), np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)
