# SPDX-License-Identifier: Apache-2.0
"""An encoder at work: images in, vectors out; in Python, in files, in a pipeline."""

from typing import TYPE_CHECKING, Any

from iclmsr.embed.embedder import Embedder, load

if TYPE_CHECKING:
    from iclmsr.embed.transformer import EncoderTransformer

__all__ = ["Embedder", "EncoderTransformer", "load"]


def __getattr__(name: str) -> Any:
    """The transformer, which needs scikit-learn, when it is asked for."""
    if name != "EncoderTransformer":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from iclmsr.embed.transformer import EncoderTransformer

    return EncoderTransformer
