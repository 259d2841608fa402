# SPDX-License-Identifier: Apache-2.0
"""An encoder as a step of a scikit-learn pipeline; the only module that needs scikit-learn."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iclmsr.embed.embedder import Embedder, load
from iclmsr.errors import IclmsrError

try:
    from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
except ImportError as error:
    raise IclmsrError(
        f"EncoderTransformer needs scikit-learn ({error}): pip install 'iclmsr[scikit-learn]'"
    ) from error


class EncoderTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Images in, features out; ``fit`` learns nothing.

    It is pickled without the encoder. When it is used, it loads it from ``encoder``, again if a
    parameter has changed since. Features are called ``encodertransformer0`` and so on, in
    ``set_output(transform="pandas")``, too.

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
        self._fitted_with = self._needs()
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Features (N, F) of N images, in any form that :meth:`Embedder.embed` takes."""
        return self._ready().embed(X, batch_size=self.batch_size)

    @property
    def _n_features_out(self) -> int:
        """F, by which scikit-learn makes the names of the features."""
        embedder = self._ready()
        blank = np.zeros((1, 3, embedder.size, embedder.size), np.uint8)
        return len(embedder.features(blank)[0])

    def _ready(self) -> Embedder:
        """The encoder that the parameters name now."""
        if not hasattr(self, "embedder_") or self._fitted_with != self._needs():
            self.fit(None)
        embedder: Embedder = self.embedder_
        return embedder

    def _needs(self) -> tuple[str | Path, int | None, str]:
        """The parameters that the loaded encoder depends on."""
        return self.encoder, self.image_size, self.device

    def __sklearn_is_fitted__(self) -> bool:
        """It is from the beginning: there is nothing to learn."""
        return True

    def __getstate__(self) -> dict[str, Any]:
        """All but the encoder."""
        state: dict[str, Any] = super().__getstate__()
        loaded = ("embedder_", "_fitted_with")
        return {name: value for name, value in state.items() if name not in loaded}
