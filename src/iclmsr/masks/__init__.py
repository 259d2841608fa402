# SPDX-License-Identifier: Apache-2.0
"""Foreground masks for images that have none."""
