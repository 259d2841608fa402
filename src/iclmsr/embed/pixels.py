# SPDX-License-Identifier: Apache-2.0
"""Images in whatever form somebody has them, one after the other as RGB."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from iclmsr.data.decode import Unusable, careful, open_image, upright
from iclmsr.data.names import printable
from iclmsr.data.single import Plain
from iclmsr.errors import IclmsrError

FORMS = (
    "a path, a PIL image, an array (H, W, 3) or (N, H, W, 3) uint8, a tensor (3, H, W) or "
    "(N, 3, H, W) uint8 or float in [0, 1], or a list of such"
)


def as_images(images: Any) -> Iterator[Image.Image]:
    """Each image in RGB, upright.

    Args:
        images: A path; a PIL image of any mode; an array (H, W, 3) or (N, H, W, 3) uint8; a
            tensor (3, H, W) or (N, 3, H, W), uint8 or float in [0, 1], which is rounded to 1/255;
            or an iterable of such.

    Raises:
        IclmsrError: Something else, or a file that does not decode.

    >>> [image.size for image in as_images(np.zeros((2, 4, 6, 3), np.uint8))]
    [(6, 4), (6, 4)]
    """
    if isinstance(images, (str, Path)):
        yield read_image(Path(images))
    elif isinstance(images, Image.Image):
        try:
            yield upright(images)
        except ValueError as error:
            raise IclmsrError(f"an image of mode {images.mode} cannot be used: {error}") from error
    elif isinstance(images, Tensor):
        yield from map(Image.fromarray, _of_tensor(images))
    elif isinstance(images, np.ndarray) and images.dtype != object and images.dtype.kind != "U":
        yield from map(Image.fromarray, _of_array(images))
    elif isinstance(images, Iterable) and not isinstance(images, (bytes, dict)):
        for one in images:
            yield from as_images(one)
    else:
        raise IclmsrError(f"{type(images).__name__} is no image: pass {FORMS}")


def read_image(path: Path) -> Image.Image:
    """The image in a file.

    Raises:
        IclmsrError: It does not decode.
    """
    if path.is_dir():
        raise IclmsrError(f"{printable(path)} is a folder: pass its files, or use `iclmsr embed`")
    try:
        with careful():
            return open_image(Plain(str(path))()).image
    except Unusable as error:
        raise IclmsrError(f"{printable(path)} {error}") from error


def _of_array(images: NDArray[Any]) -> NDArray[np.uint8]:
    """(N, H, W, 3) uint8."""
    if images.ndim not in (3, 4) or images.shape[-1] != 3 or images.dtype != np.uint8:
        raise IclmsrError(
            f"an array of images must be (H, W, 3) or (N, H, W, 3) uint8, got {images.shape} "
            f"{images.dtype}"
        )
    return np.ascontiguousarray(images if images.ndim == 4 else images[None])


def _of_tensor(images: Tensor) -> NDArray[np.uint8]:
    """(N, H, W, 3) uint8."""
    got = f"{tuple(images.shape)} {str(images.dtype).removeprefix('torch.')}"
    if images.ndim not in (3, 4) or images.shape[-3] != 3:
        raise IclmsrError(f"a tensor of images must be (3, H, W) or (N, 3, H, W), got {got}")
    images = images.detach().cpu()
    if images.is_floating_point():
        low, high = (float(end) for end in torch.aminmax(images)) if images.numel() else (0, 0)
        if not (low >= 0 and high <= 1):
            raise IclmsrError(
                f"a tensor of images must be in [0, 1], got {low:.3g} to {high:.3g}: pass pixels "
                "before they are normalized, the encoder does that itself"
            )
        images = images.float().mul(255).round().to(torch.uint8)
    elif images.dtype != torch.uint8:
        raise IclmsrError(f"a tensor of images must be uint8 or float in [0, 1], got {got}")
    batch = images if images.ndim == 4 else images[None]
    return batch.permute(0, 2, 3, 1).contiguous().numpy()
