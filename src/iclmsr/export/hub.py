# SPDX-License-Identifier: Apache-2.0
"""An encoder as Hugging Face's hub keeps modules; the only module that needs its package."""

from typing import Any

from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from iclmsr.config import decode
from iclmsr.encoders import Preprocessing
from iclmsr.networks import EncoderConfig, initial_encoder


class HubEncoder(nn.Module, PyTorchModelHubMixin, library_name="iclmsr", license="apache-2.0"):
    """The encoder f with ``from_pretrained`` and ``push_to_hub``: (B, 3, H, W) -> (B, F).

    Images are normalized by ``preprocessing``'s mean and std before; :func:`iclmsr.load` takes a
    folder of such an encoder, too, and prepares them itself.

    Args:
        encoder: The architecture, an :class:`EncoderConfig` as JSON.
        preprocessing: How images are prepared, a :class:`Preprocessing` as JSON.

    >>> images = {"mean": [0.5] * 3, "std": [0.25] * 3, "image_size": 32}
    >>> HubEncoder({"name": "resnet18", "width": 2}, images).preprocessing.image_size
    32
    """

    def __init__(self, encoder: dict[str, Any], preprocessing: dict[str, Any]) -> None:
        super().__init__()
        self.network = initial_encoder(decode(EncoderConfig, encoder), seed=0).network
        self.preprocessing = Preprocessing.from_json(preprocessing)

    def forward(self, images: Tensor) -> Tensor:
        """Features (B, F) of normalized images (B, 3, H, W)."""
        features: Tensor = self.network(images)
        return features
