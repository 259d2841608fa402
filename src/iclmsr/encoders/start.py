# SPDX-License-Identifier: Apache-2.0
"""The encoder that a run starts with."""

from collections.abc import Mapping
from typing import Any

from iclmsr.config import PretrainConfig
from iclmsr.encoders.loaded import load_encoder
from iclmsr.encoders.weights import put
from iclmsr.errors import IclmsrError
from iclmsr.networks import Encoder, EncoderConfig, initial_encoder
from iclmsr.networks.encoder import RESNETS


def starting_encoder(config: EncoderConfig, seed: int, init: str | None = None) -> Encoder:
    """The encoder as a run starts it: random weights of its seed, or those of another encoder.

    Args:
        config: Its architecture.
        seed: Of the random weights; where ``init`` gives all of them it makes no difference.
        init: An encoder as :func:`load_encoder` takes it, but for ONNX; None is none.

    Raises:
        IclmsrError: There is no such encoder, or it is of another architecture: the message lists
            the keys that do not match.

    >>> starting_encoder(EncoderConfig(width=2), seed=0).feature_dim
    16
    """
    encoder = initial_encoder(config, seed)
    if init is None:
        return encoder
    loaded = load_encoder(init)
    if not isinstance(loaded.network, Encoder):
        raise IclmsrError(f"init {init} has no weights that could be trained: pass those in torch")
    try:
        put(encoder.network, loaded.network.network.state_dict(), init)
    except IclmsrError as error:
        own = ", ".join(f"{name} {value}" for name, value in loaded.metadata["encoder"].items())
        raise IclmsrError(f"{error}; encoder.* must describe it, it is: {own}") from error
    stem = loaded.metadata["encoder"]["stem"]  # max-pool has no weights that could differ
    if config.name in RESNETS and stem != config.stem and "assumed" not in loaded.metadata:
        raise IclmsrError(
            f"init {init} has stem {stem}, not {config.stem}: pass --encoder.stem {stem}"
        )
    return encoder


def origin(config: PretrainConfig, *, aloud: bool = False) -> dict[str, Any]:
    """What environment.json says of ``init``, after a look at whether it fits; empty without.

    Args:
        config: The run's.
        aloud: Whether to print what was left out or assumed of it.

    Raises:
        IclmsrError: As :func:`starting_encoder`.
    """
    if config.init is None:
        return {}
    starting_encoder(config.encoder, config.seed, config.init)
    loaded = load_encoder(config.init)
    if aloud:
        for line in loaded.remarks():
            print(line)
    return {"init": {"source": config.init, **loaded.described()}}


def check_origin(config: PretrainConfig, environment: Mapping[str, Any]) -> None:
    """Raises where a run that has no checkpoint yet would start anew from other weights."""
    if config.init is None:
        return
    now, then = load_encoder(config.init).sha256, environment["init"]["sha256"]
    if now != then:
        raise IclmsrError(
            f"init {config.init} has changed since the run began (SHA-256 {now[:12]}..., then "
            f"{then[:12]}...) and there is no checkpoint: start a run in another folder"
        )
