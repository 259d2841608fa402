# SPDX-License-Identifier: Apache-2.0
"""Encoders, wherever they come from, and how to feed them."""

from iclmsr.encoders.loaded import LoadedEncoder, absolute_source, load_encoder
from iclmsr.encoders.preprocessing import Preprocessing

__all__ = ["LoadedEncoder", "Preprocessing", "absolute_source", "load_encoder"]
