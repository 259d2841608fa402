# SPDX-License-Identifier: Apache-2.0
"""Encoders, wherever they come from, and how to feed them."""

from iclmsr.encoders.loaded import LoadedEncoder, load_encoder

__all__ = ["LoadedEncoder", "load_encoder"]
