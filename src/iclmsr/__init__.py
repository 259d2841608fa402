# SPDX-License-Identifier: Apache-2.0
"""Self-supervised pretraining of image encoders that do not lean on the background."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    """``iclmsr.load``, see :func:`iclmsr.embed.load`; importing iclmsr itself needs no torch."""
    if name != "load":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module("iclmsr.embed").load
