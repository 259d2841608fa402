# SPDX-License-Identifier: Apache-2.0
"""JPEG files by decoders besides Pillow: torchvision's, and nvJPEG on a GPU.

Both are asked for JPEGs that need no more than decoding; all other files are Pillow's.
"""

import io
import warnings
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from PIL import Image, JpegImagePlugin
from torch import Tensor

from iclmsr.data.resize import resized
from iclmsr.errors import IclmsrError

Decoder = Literal["pillow", "torchvision", "nvjpeg"]
END = b"\xff\xd9"
ORIENTATION = 0x0112
"""EXIF's tag for how an image is turned."""


def is_plain(file: Image.Image, content: bytes) -> bool:
    """Whether an opened file is a whole JPEG of gray or RGB pixels, upright: not CMYK, not turned.

    Args:
        file: As Pillow opened it; its pixels are not decoded.
        content: The file itself.
    """
    plain = type(file) is JpegImagePlugin.JpegImageFile and file.mode in ("L", "RGB")
    whole = content.rstrip(b"\0").endswith(END)
    return plain and whole and file.getexif().get(ORIENTATION, 1) == 1


def by_torchvision(content: bytes, image_size: int) -> Tensor | None:
    """A plain JPEG resized by its short side and cropped at the centre, (3, S, S) uint8.

    Args:
        content: The file.
        image_size: S, pixels, > 0.

    Returns:
        None if it does not decode.
    """
    try:
        return middle(_decode([content], torch.device("cpu"))[0], image_size)
    except RuntimeError:
        return None


def by_nvjpeg(files: Sequence[bytes], image_size: int, device: torch.device) -> list[Tensor | None]:
    """As :func:`by_torchvision`, several files at once on a GPU.

    Args:
        files: JPEGs.
        image_size: S, height and width of a result, pixels, > 0.
        device: The GPU.

    Returns:
        Of each file its pixels (3, S, S) uint8 on the GPU, or None if it does not decode there.
    """
    try:
        decoded = _decode(files, device)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:  # of one of them
        if len(files) == 1:
            return [None]
        return [pixels for one in files for pixels in by_nvjpeg([one], image_size, device)]
    return [middle(pixels, image_size) for pixels in decoded]


def gpu_for(device: torch.device) -> torch.device:
    """The GPU that decodes what is needed on a device: that itself, or the current one."""
    return device if device.type == "cuda" else torch.device("cuda")


def middle(pixels: Tensor, image_size: int) -> Tensor:
    """An image (3, H, W) uint8 cropped to the square in its middle and resized, (3, S, S).

    Args:
        pixels: On any device; the square begins at a whole pixel.
        image_size: S, pixels, > 0; bicubic, antialiased.

    >>> middle(torch.arange(4, dtype=torch.uint8).expand(3, 1, 4), 1).flatten().tolist()
    [1, 1, 1]
    """
    height, width = pixels.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return resized(pixels[None, :, top : top + side, left : left + side], image_size)[0]


def check_decoder(decoder: Decoder, *, on_disk: bool) -> None:
    """Raises if a decoder cannot do what is asked of it.

    Args:
        decoder: The decoder.
        on_disk: Whether images stay in their files and are decoded batch by batch.

    Raises:
        IclmsrError: torchvision has no such decoder; nvJPEG is to decode into memory, or there
            is no GPU for it.
    """
    if decoder == "pillow":
        return
    if decoder == "nvjpeg" and not on_disk:
        raise IclmsrError(
            "data.decoder nvjpeg is for image files that stay on disk: pass --data.resident disk, "
            "or --data.decoder torchvision"
        )
    if decoder == "nvjpeg" and not torch.cuda.is_available():
        raise IclmsrError(
            "data.decoder nvjpeg needs an NVIDIA GPU that torch can use, there is none: pass "
            "--data.decoder torchvision"
        )
    import torchvision

    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG")
    try:
        _decode([buffer.getvalue()], torch.device("cpu"))
    except (AttributeError, RuntimeError) as error:
        raise IclmsrError(
            f"data.decoder {decoder} needs torchvision's JPEG decoder, which torchvision "
            f"{torchvision.__version__} at hand does not have: pass --data.decoder pillow"
        ) from error


def _decode(files: Sequence[bytes], device: torch.device) -> list[Tensor]:
    """The pixels (3, H, W) of JPEGs on a device; RuntimeError where one does not decode."""
    import torchvision  # it takes its time

    packed = [torch.from_numpy(np.frombuffer(content, np.uint8).copy()) for content in files]
    rgb = torchvision.io.ImageReadMode.RGB
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # for TorchCodec, from 0.29 on
        if device.type == "cpu":
            return [torchvision.io.decode_jpeg(one, rgb) for one in packed]
        return list(torchvision.io.decode_jpeg(packed, rgb, device=device))
