# SPDX-License-Identifier: Apache-2.0
"""What is handed on: an encoder's weights with all that must be said beside them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from iclmsr.config import decode
from iclmsr.encoders import LoadedEncoder, Preprocessing, load_encoder
from iclmsr.errors import IclmsrError
from iclmsr.networks import Encoder, EncoderConfig
from iclmsr.networks.encoder import RESNETS
from iclmsr.seeds import generator

TOLERANCE = 1e-5
"""Features of the exported encoder differ by this at most, relative to the largest, or 1."""
UNKNOWN_SIZE = 32
"""Height and width of the images that an encoder is tried on that does not say what it takes."""


@dataclass(frozen=True)
class Parcel:
    """An encoder that is to be handed on.

    Attributes:
        encoder: It, in evaluation mode.
        config: Its architecture.
        loaded: Where it came from and how images are prepared.
    """

    encoder: Encoder
    config: EncoderConfig
    loaded: LoadedEncoder

    @classmethod
    def of(cls, source: str | Path) -> "Parcel":
        """The encoder at ``source``, see :func:`load_encoder`.

        Raises:
            IclmsrError: There is none, or it is an ONNX file, which is handed on as it is.
        """
        loaded = load_encoder(source)
        if not isinstance(loaded.network, Encoder):
            raise IclmsrError(
                f"{source} has no weights in torch: an ONNX file is handed on as it is"
            )
        return cls(loaded.network, decode(EncoderConfig, loaded.metadata["encoder"]), loaded)

    @property
    def preprocessing(self) -> Preprocessing:
        """How images are prepared."""
        return self.loaded.preprocessing

    @property
    def size(self) -> int:
        """Height and width of an image, pixels."""
        return self.preprocessing.seen or UNKNOWN_SIZE

    def about(self) -> dict[str, Any]:
        """What our metadata say, with which :func:`load_encoder` takes the file back."""
        return {
            **self.loaded.metadata,
            "name": self.loaded.name,
            "preprocessing": self.preprocessing.to_json(),
        }

    def stem(self) -> str:
        """Whose it is, for messages: ``resnet18 with stem cifar and width 16``."""
        config = self.config
        if config.name not in RESNETS:
            return config.name
        return f"{config.name} with stem {config.stem} and width {config.width}"

    def standard(self) -> bool:
        """Whether it is a ResNet as other libraries build it."""
        config = self.config
        return config.name in RESNETS and config.stem == "imagenet" and config.width == 64

    def probe(self) -> Tensor:
        """Normalized noise to compare features on, (3, 3, H, W)."""
        source = generator(0, "parity")
        return torch.randn(3, 3, self.size, self.size, generator=source)

    @torch.no_grad()
    def difference(self, features: Tensor) -> float:
        """How far features of :meth:`probe` by another library are from the encoder's own.

        Returns:
            The largest difference, relative to the largest feature if that is above 1.

        Raises:
            IclmsrError: It is above :data:`TOLERANCE`.
        """
        own = self.encoder(self.probe())
        if own.shape != features.shape:
            raise IclmsrError(
                f"the exported encoder of {self.stem()} gives features {tuple(features.shape)}, "
                f"not {tuple(own.shape)}: nothing was written"
            )
        found = float((own - features).abs().max() / own.abs().max().clamp(min=1))
        if not found <= TOLERANCE:
            raise IclmsrError(
                f"the exported encoder of {self.stem()} gives features that differ by {found:.2g}, "
                f"more than {TOLERANCE:g}: nothing was written"
            )
        return found
