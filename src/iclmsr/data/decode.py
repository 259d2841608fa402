# SPDX-License-Identifier: Apache-2.0
"""One image file as pixels, and one mask."""

import contextlib
import io
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import (
    BITSPERSAMPLE,
    PHOTOMETRIC_INTERPRETATION,
    SAMPLEFORMAT,
    TiffImageFile,
)

from iclmsr.data.jpeg import Decoder, by_torchvision, is_plain
from iclmsr.data.trees import Content

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000")
"""What a file may be, whatever it is called; Pillow's others are rare, or run other programs."""
FOREGROUND = 128
"""Mask pixels from this value on are foreground; of 16 bits, from 32,768 on."""

UNSIGNED, SIGNED, WHITE_IS_ZERO = 1, 2, 0
"""What numbers and black are in a TIFF, by its specification."""


class Unusable(Exception):
    """Says what is the matter with a file, in the words that follow its name."""


class FaintMask(UserWarning):
    """A mask that has values, but none that counts as foreground."""


class Picture(NamedTuple):
    """An image as its file has it.

    Attributes:
        image: RGB, upright, in full size.
        format: Of the file, as Pillow calls it.
        mode: Of its pixels, as Pillow calls it, before they became RGB.
    """

    image: Image.Image
    format: str
    mode: str


@contextlib.contextmanager
def careful(*shown: type[Warning]) -> Iterator[None]:
    """Within it, images of absurd size are errors; other remarks on files are passed over.

    Args:
        shown: Remarks that are not, each of them once.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # files that Pillow reads all the same
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for kind in shown:
            warnings.simplefilter("default", kind)
        yield


def open_image(content: Content) -> Picture:
    """An image file whatever its format, mode and orientation.

    Args:
        content: The file, or why it could not be read.

    Raises:
        Unusable: The file is not an image, is damaged or too large (see :func:`careful`).
    """
    try:
        with _opened(content) as file:
            kind, mode = file.format or "", file.mode
            return Picture(upright(file), kind, mode)
    except Exception as error:  # PIL lets through whatever its decoders stumble over
        raise Unusable(f"does not decode ({_reason(error)})") from error


def plain_size(content: Content) -> tuple[int, int] | None:
    """Width and height of a JPEG that needs no more than decoding; None of other files.

    Args:
        content: The file, or why it could not be read.

    Raises:
        Unusable: As :func:`open_image`, of what shows before pixels are decoded.
    """
    try:
        with _opened(content) as file:
            assert isinstance(content, bytes), "it has been opened"
            return file.size if is_plain(file, content) else None
    except Exception as error:  # as above
        raise Unusable(f"does not decode ({_reason(error)})") from error


def upright(image: Image.Image) -> Image.Image:
    """An image of any mode and orientation in RGB, turned as its EXIF data say.

    Raises:
        ValueError: Its pixels are floating-point numbers.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers of no known range")
    if image.mode.startswith("I"):  # 16 bits of gray, which convert would clip
        image = Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
    return image.convert("RGB")


def fitted(
    image: Image.Image,
    image_size: int,
    decoder: Decoder = "pillow",
    resampling: Image.Resampling = Image.Resampling.BICUBIC,
) -> Image.Image:
    """An image resized by its short side and cropped at the centre.

    Args:
        image: Of any size.
        image_size: S, pixels, > 0; antialiased. An image of this size stays as it is.
        decoder: All but Pillow crop at whole pixels, it at halves, too.
        resampling: Pillow's filter.
    """
    if image.size == (image_size, image_size):
        return image
    side = min(image.size)
    left, top = ((length - side) / 2 for length in image.size)
    if decoder != "pillow":
        left, top = left // 1, top // 1
    box = (left, top, left + side, top + side)
    return image.resize((image_size, image_size), resampling, box=box)


def pixels_of(image: Image.Image) -> NDArray[np.uint8]:
    """The pixels (3, H, W) of an RGB image."""
    return np.asarray(image).transpose(2, 0, 1)


def decode_image(
    content: Content, image_size: int, decoder: Decoder = "pillow"
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """The pixels of an image file, whatever its format, mode and orientation.

    Args:
        content: The file, or why it could not be read.
        image_size: Height and width of the result, pixels, > 0. An image of another size is
            resized by its short side (bicubic, antialiased) and cropped at the centre.
        decoder: Of JPEGs, on the processor; Pillow decodes what another one refuses.

    Returns:
        The image (3, image_size, image_size), and the width and height that it had, upright.

    Raises:
        Unusable: The file is not an image, is damaged or too large.
    """
    size = None if decoder == "pillow" else plain_size(content)
    if size is not None:
        assert isinstance(content, bytes), "it has been opened"
        pixels = by_torchvision(content, image_size)
        if pixels is not None:
            return pixels.numpy(), size
    image = open_image(content).image
    return pixels_of(fitted(image, image_size, decoder)), image.size


def decode_mask(
    content: Content,
    name: str,
    image_size: int,
    size: tuple[int, int],
    decoder: Decoder = "pillow",
) -> NDArray[np.bool_]:
    """The foreground of an image, resized and cropped as :func:`decode_image` does.

    Args:
        content: The mask file, or why it could not be read.
        name: Its name, for messages.
        image_size: Height and width of the result, pixels, > 0.
        size: Width and height of the image file, upright; the mask has the same.
        decoder: Of the image.

    Returns:
        (image_size, image_size); a pixel is foreground if half of its area is.

    Raises:
        Unusable: As :func:`foreground_of`.
    """
    mask = Image.fromarray(foreground_of(content, name, size).astype(np.uint8) * 255)
    mask = fitted(mask, image_size, decoder, Image.Resampling.BOX)
    return np.asarray(mask) >= FOREGROUND


def foreground_of(content: Content, name: str, size: tuple[int, int]) -> NDArray[np.bool_]:
    """The foreground of an image in full size.

    Args:
        content: The mask file, or why it could not be read.
        name: Its name, for messages.
        size: Width and height of the image file, upright; the mask has the same.

    Returns:
        (height, width).

    Raises:
        Unusable: The file is missing, not an image, damaged, in color or with transparency, or of
            another size. FaintMask, a warning: no pixel is foreground, yet not all of them are 0.
    """
    if isinstance(content, FileNotFoundError):
        raise Unusable(f"has no mask {name}")
    try:
        with _opened(content) as file:
            found, levels = file.size, _levels(file)
    except Unusable as error:
        raise Unusable(f"has a mask {name} {error}") from error
    except Exception as error:  # as above
        raise Unusable(f"has a mask {name} that does not decode ({_reason(error)})") from error
    if found != size:
        raise Unusable(
            f"is {size[0]} x {size[1]} pixels, but its mask {name} {found[0]} x {found[1]}"
        )
    foreground, most = (FOREGROUND, 255) if levels.dtype == np.uint8 else (FOREGROUND << 8, 65535)
    largest = int(levels.max())
    if 0 < largest < foreground:
        warnings.warn(
            f"a mask has no value above {largest}: {foreground} and more is foreground, write "
            f"{most} for it",
            FaintMask,
            stacklevel=2,
        )
    return np.asarray(levels >= foreground)


def _levels(mask: Image.Image) -> NDArray[Any]:
    """The grey levels (H, W) of a mask, uint8, or as they are where they have 16 bits.

    Raises:
        Unusable: It has colors or is transparent somewhere, so that they are not what it says.
    """
    if mask.mode == "F":
        raise ValueError("its pixels are floating-point numbers of no known range")
    if mask.mode.startswith("I"):
        return np.asarray(mask)
    if mask.has_transparency_data and np.asarray(mask.convert("RGBA"))[..., 3].min() < 255:
        raise Unusable("that is transparent in places: write it in gray, 255 for the foreground")
    if mask.mode not in ("1", "L", "LA"):
        red, green, blue = mask.convert("RGB").split()
        if not red.tobytes() == green.tobytes() == blue.tobytes():
            raise Unusable("in color: write it in gray, 255 for the foreground and 0 for the rest")
    return np.asarray(mask.convert("L"))


def _opened(content: Content) -> Image.Image:
    """The image in a file; raises what was raised when the file was read.

    Raises:
        ValueError: Pillow would not read its pixels as they are meant.
    """
    if isinstance(content, OSError):
        raise content
    if not content:
        raise ValueError("the file is empty")
    image = Image.open(io.BytesIO(content), formats=FORMATS)
    if isinstance(image, TiffImageFile):
        _check_tiff(image.tag_v2)
    return image


def _check_tiff(tags: Mapping[int, Any]) -> None:
    """Raises for numbers that Pillow cuts off, wraps round or takes for others."""
    bits, kind = max(tags.get(BITSPERSAMPLE, (1,))), max(tags.get(SAMPLEFORMAT, (UNSIGNED,)))
    if kind in (UNSIGNED, SIGNED) and bits not in (1, 2, 4, 8, 16):
        raise ValueError(f"its pixels have {bits} bits: save it with 8 or 16")
    if kind == SIGNED:
        raise ValueError("its pixels are signed numbers: save it with unsigned ones")
    if bits == 16 and tags.get(PHOTOMETRIC_INTERPRETATION) == WHITE_IS_ZERO:
        raise ValueError("its white is 0, in 16 bits: save it with 0 for black")


def _reason(error: Exception) -> str:
    """An exception in one line."""
    if isinstance(error, UnidentifiedImageError):
        return "no image of a known format"
    return " ".join(f"{type(error).__name__}: {error}".split())
