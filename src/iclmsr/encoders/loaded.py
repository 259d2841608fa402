# SPDX-License-Identifier: Apache-2.0
"""An encoder that is to be used, not trained."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from iclmsr.config import PretrainConfig, decode
from iclmsr.errors import IclmsrError
from iclmsr.networks import read_encoder
from iclmsr.runs import RunFolder

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class LoadedEncoder:
    """An encoder f and how its images are prepared.

    Attributes:
        network: (B, 3, H, W) float32, normalized -> (B, F); in evaluation mode.
        name: What to call it, as its recipe or its file.
        mean: Of each channel, subtracted from pixels in [0, 1].
        std: Of each channel, > 0, that they are divided by.
        image_size: Height and width of the images that it was trained on, pixels; None if it is
            not known.
        sha256: Of its weights' file.
        metadata: What else its file says.
    """

    network: nn.Module
    name: str
    mean: Triple
    std: Triple
    image_size: int | None
    sha256: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


def load_encoder(source: str | Path) -> LoadedEncoder:
    """The encoder at ``source``: a run folder.

    Raises:
        IclmsrError: There is none.
    """
    path = Path(source)
    if not path.is_dir():
        raise IclmsrError(f"no encoder at {source}: pass a run folder")
    folder = RunFolder.open(path)
    config = decode(PretrainConfig, folder.config())
    network, metadata = read_encoder(folder.encoder)
    return LoadedEncoder(
        network,
        config.recipe or path.name,
        config.data.mean,
        config.data.std,
        config.data.image_size,
        hashlib.sha256(folder.encoder.read_bytes()).hexdigest(),
        metadata,
    )
