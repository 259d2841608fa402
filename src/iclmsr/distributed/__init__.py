# SPDX-License-Identifier: Apache-2.0
"""Several processes (ranks) that train one network on parts of one batch.

Every rank embeds its own rows, gathers the embeddings of all ranks and computes the same loss of
the whole batch. A loss, a method and a regularizer therefore never know of ranks: see
:func:`gather` for what its gradient means. In a world of one rank nothing here does anything.

Objects travel pickled among the ranks of one run; hand over plain data.
"""

from iclmsr.distributed.agreement import max_over_ranks, together
from iclmsr.distributed.collectives import (
    all_agree,
    any_rank,
    barrier,
    broadcast_object,
    gather,
    gather_object,
    gather_outputs,
    sum_over_ranks,
    sum_over_ranks_,
    world_size,
)
from iclmsr.distributed.world import World, device_of, join, speaks

__all__ = [
    "World",
    "all_agree",
    "any_rank",
    "barrier",
    "broadcast_object",
    "device_of",
    "gather",
    "gather_object",
    "gather_outputs",
    "join",
    "max_over_ranks",
    "speaks",
    "sum_over_ranks",
    "sum_over_ranks_",
    "together",
    "world_size",
]
