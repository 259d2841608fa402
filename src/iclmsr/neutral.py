# SPDX-License-Identifier: Apache-2.0
"""Settings of a run that say where and how it is computed, not what."""

from collections.abc import Mapping
from typing import Any

NEUTRAL = frozenset(
    (
        *("recipe", "device", "log_every", "loggers"),
        *(f"data.{name}" for name in ("root", "workers", "cache", "shard_cache", "resident")),
        *(f"checkpoint.{name}" for name in ("every_epochs", "every_steps", "keep")),
        *(f"online.{name}" for name in ("every_epochs", "images")),
    )
)
"""Runs that differ in nothing else, as files spell it, are the same run."""


def flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The settings in config.json by their dotted names.

    >>> flat({"epochs": 2, "data": {"image_size": 32}})
    {'epochs': 2, 'data.image_size': 32}
    """
    found: dict[str, Any] = {}
    for name, item in value.items():
        nested = isinstance(item, Mapping) and item
        found |= flat(item, f"{prefix}{name}.") if nested else {prefix + name: item}
    return found


def telling(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings by which runs are told apart: all but :data:`NEUTRAL`.

    >>> telling({"epochs": 2, "device": "cpu", "data": {"root": "/x", "limit": None}})
    {'epochs': 2, 'data.limit': None}
    """
    return {name: value for name, value in flat(config).items() if name not in NEUTRAL}
