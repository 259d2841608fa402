# SPDX-License-Identifier: Apache-2.0
"""An encoder that takes images as people have them."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from iclmsr.data.decode import fitted, pixels_of
from iclmsr.data.resize import centre_pixels
from iclmsr.devices import choose_device
from iclmsr.embed.pixels import as_images
from iclmsr.encoders import LoadedEncoder, Preprocessing, load_encoder
from iclmsr.encoders.preprocessing import Triple
from iclmsr.errors import IclmsrError


class Embedder:
    """An encoder f with all that happens to an image before.

    Args:
        loaded: The encoder.
        device: Where it runs: cpu, cuda, ...; auto takes a GPU where there is one.
        images: How images are prepared.

    Attributes:
        loaded: The encoder as it was loaded.
        images: How images are prepared.

    Raises:
        IclmsrError: Its images' size is not known, or there is no such device.
    """

    def __init__(self, loaded: LoadedEncoder, images: Preprocessing, device: str = "auto") -> None:
        if images.image_size is None:
            raise IclmsrError(
                f"{loaded.name} does not say how large its images are: pass image_size "
                "(--image-size), height and width in pixels"
            )
        self.loaded, self.images, self.size = loaded, images, images.image_size
        self.device = choose_device(device)
        self.network = loaded.network.to(self.device)
        self._mean, self._std = (
            torch.tensor(value, device=self.device).view(3, 1, 1)
            for value in (images.mean, images.std)
        )

    def embed(self, images: Any, *, batch_size: int = 64) -> NDArray[np.float32]:
        """Features of images, prepared as evaluation does it.

        Args:
            images: A path; a PIL image; an array (H, W, 3) or (N, H, W, 3) uint8; a tensor
                (3, H, W) or (N, 3, H, W), uint8 or float in [0, 1]; or an iterable of such, which
                may be mixed and of different sizes. One image is a batch of one.
            batch_size: Images that the encoder sees at a time, >= 1; no more are held.

        Returns:
            (N, F) float32, not normalized, in the order of the images.

        Raises:
            IclmsrError: No image, something that is none, or a file that does not decode.
        """
        if batch_size < 1:
            raise IclmsrError(f"batch_size must be >= 1, got {batch_size}")
        found = list(self._batches(iter(as_images(images)), batch_size))
        if not found:
            raise IclmsrError("embed needs at least one image, got none")
        return np.concatenate(found)

    def _batches(self, images: Iterator[Any], batch_size: int) -> Iterator[NDArray[np.float32]]:
        """Features of so many images at a time."""
        while batch := [
            pixels_of(fitted(image, self.size)) for image in islice(images, batch_size)
        ]:
            yield self.features(np.stack(batch))

    @torch.no_grad()
    def features(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Features (B, F) of images (B, 3, S, S) of the size that they are read in.

        Raises:
            IclmsrError: A feature is NaN or infinite, or they are not (B, F).
        """
        seen = centre_pixels(torch.from_numpy(pixels), self.images.resize, self.images.crop)
        images = seen.to(self.device).float().div_(255).sub_(self._mean).div_(self._std)
        with torch.autocast(self.device.type, enabled=False):
            features = self.network(images).float().cpu()
        if features.ndim != 2:
            raise IclmsrError(f"an encoder must give (B, F), got {tuple(features.shape)}")
        if not features.isfinite().all():
            raise IclmsrError(f"{self.loaded.name} gives features that are NaN or infinite")
        result: NDArray[np.float32] = features.numpy()
        return result


def load(
    path: str | Path,
    *,
    device: str = "auto",
    image_size: int | None = None,
    mean: Triple | None = None,
    std: Triple | None = None,
) -> Embedder:
    """An encoder to embed images with: ``iclmsr.load``.

    Args:
        path: A run folder, an exported folder, or any encoder that
            :func:`iclmsr.encoders.load_encoder` takes.
        device: Where it runs: cpu, cuda, ...; auto takes a GPU where there is one.
        image_size: Height and width that images are resized to, pixels, > 0, instead of what the
            encoder says; needed where it says nothing.
        mean: Of each channel, subtracted from pixels in [0, 1], instead of the encoder's.
        std: Of each channel, > 0, that they are divided by, instead of the encoder's.

    Raises:
        IclmsrError: There is no such encoder or device, or its images' size is not known.
    """
    loaded = load_encoder(path)
    images = loaded.preprocessing
    if image_size is not None:
        if image_size < 1:
            raise IclmsrError(f"image_size must be > 0 pixels, got {image_size}")
        images = replace(images, image_size=image_size, resize=None, crop=None)
    images = replace(images, mean=mean or images.mean, std=std or images.std)
    if not all(value > 0 for value in images.std):
        raise IclmsrError(f"std must be > 0, got {images.std}")
    return Embedder(loaded, images, device)
