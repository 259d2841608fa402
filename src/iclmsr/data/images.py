# SPDX-License-Identifier: Apache-2.0
"""A set of images in memory."""

import hashlib
from dataclasses import dataclass, replace

import torch  # noqa: F401 - the doctest uses it
from torch import Tensor


@dataclass(frozen=True)
class ImageSet:
    """Images of one size, held as bytes.

    Attributes:
        images: (N, 3, H, W) uint8.
        labels: (N,) int64 in [0, C), or -1 where there is none.
        classes: The C class names, in the order of the labels.
        masks: (N, H, W) bool, true on the foreground, or None.
        backgrounds: (N,) int64, which background each image has, or None.
        skipped: Files that did not decode and were left out.
        background_names: What the backgrounds are called, by their number; empty if nothing.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    masks: Tensor | None = None
    backgrounds: Tensor | None = None
    skipped: tuple[str, ...] = ()
    background_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    def take(self, index: Tensor) -> "ImageSet":
        """The images at ``index`` (M,) int64, in that order."""
        return replace(
            self,
            images=self.images[index],
            labels=self.labels[index],
            masks=None if self.masks is None else self.masks[index],
            backgrounds=None if self.backgrounds is None else self.backgrounds[index],
        )

    def fingerprint(self) -> str:
        """SHA-256 of images and labels: equal exactly when the pixels, labels and order are.

        >>> black = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
        >>> one = ImageSet(black, torch.tensor([0, 1]), ("a", "b"))
        >>> one.fingerprint() == one.take(torch.tensor([1, 0])).fingerprint()
        False
        """
        digest = hashlib.sha256(repr(tuple(self.images.shape)).encode())
        for tensor in (self.images, self.labels):
            digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()

    def mask_fingerprint(self) -> str:
        """SHA-256 of the masks, which there are."""
        assert self.masks is not None, "the set has masks"
        return hashlib.sha256(self.masks.contiguous().numpy().data).hexdigest()
