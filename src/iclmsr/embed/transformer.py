# SPDX-License-Identifier: Apache-2.0
"""An encoder as a step of a scikit-learn pipeline; the only module that needs scikit-learn."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iclmsr.embed.embedder import Embedder, load
from iclmsr.errors import IclmsrError

try:
    from sklearn.base import BaseEstimator, TransformerMixin
except ImportError as error:
    raise IclmsrError(
        f"EncoderTransformer needs scikit-learn ({error}): pip install 'iclmsr[scikit-learn]'"
    ) from error


class EncoderTransformer(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Images in, features out; ``fit`` learns nothing.

    It is pickled without the encoder, and loads it from ``encoder`` again when it is used.

    Args:
        encoder: As for :func:`iclmsr.load`.
        image_size: Height and width that images are resized to, pixels; None: as the encoder says.
        batch_size: Images that the encoder sees at a time, >= 1.
        device: cpu, cuda, ...; auto takes a GPU where there is one.
    """

    def __init__(
        self,
        encoder: str | Path,
        *,
        image_size: int | None = None,
        batch_size: int = 64,
        device: str = "auto",
    ) -> None:
        self.encoder = encoder
        self.image_size = image_size
        self.batch_size = batch_size
        self.device = device

    def fit(self, X: Any, y: Any = None) -> "EncoderTransformer":  # noqa: ARG002
        """Loads the encoder; neither images nor labels count.

        Raises:
            IclmsrError: As :func:`iclmsr.load`.
        """
        self.embedder_ = load(self.encoder, device=self.device, image_size=self.image_size)
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Features (N, F) of N images, in any form that :meth:`Embedder.embed` takes."""
        if not hasattr(self, "embedder_"):
            self.fit(X)
        embedder: Embedder = self.embedder_
        return embedder.embed(X, batch_size=self.batch_size)

    def __sklearn_is_fitted__(self) -> bool:
        """It is from the beginning: there is nothing to learn."""
        return True

    def __getstate__(self) -> dict[str, Any]:
        """All but the encoder."""
        state: dict[str, Any] = super().__getstate__()
        return {name: value for name, value in state.items() if name != "embedder_"}
