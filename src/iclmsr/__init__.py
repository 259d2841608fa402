# SPDX-License-Identifier: Apache-2.0
"""Self-supervised pretraining of image encoders that do not lean on the background."""

__version__ = "0.1.0"
