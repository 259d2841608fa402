# SPDX-License-Identifier: Apache-2.0
"""The networks: encoder f, projector g, predictor q, target branch, queue."""

from iclmsr.networks.batch_norm import split_batch_norm
from iclmsr.networks.encoder import (
    Encoder,
    EncoderConfig,
    build_encoder,
    initial_encoder,
    read_encoder,
    write_encoder,
)
from iclmsr.networks.heads import FeatureQueue, Projector, TargetNetwork, target_decay
from iclmsr.networks.sync_batch_norm import SyncBatchNorm, sync_batch_norm

__all__ = [
    "Encoder",
    "EncoderConfig",
    "FeatureQueue",
    "Projector",
    "SyncBatchNorm",
    "TargetNetwork",
    "build_encoder",
    "initial_encoder",
    "read_encoder",
    "split_batch_norm",
    "sync_batch_norm",
    "target_decay",
    "write_encoder",
]
