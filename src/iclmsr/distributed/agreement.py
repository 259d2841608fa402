# SPDX-License-Identifier: Apache-2.0
"""What ranks decide together, so that none waits for another that has given up."""

from collections.abc import Callable

import torch
import torch.distributed as dist

from iclmsr.distributed.collectives import broadcast_object, world_size
from iclmsr.errors import Elsewhere, IclmsrError


def together(action: Callable[[], object]) -> None:
    """Rank 0 acts and the others wait; where it fails, all of them fail.

    Raises:
        IclmsrError: Rank 0's own on rank 0, :class:`Elsewhere` on the others.
    """
    failure: IclmsrError | None = None
    if world_size() == 1 or dist.get_rank() == 0:
        try:
            action()
        except IclmsrError as error:
            failure = error
    exit_code = broadcast_object(None if failure is None else failure.exit_code)
    if failure is not None:
        raise failure
    if exit_code is not None:
        raise Elsewhere(exit_code)


def max_over_ranks(value: int) -> int:
    """The largest value of any rank; the same answer on all.

    >>> max_over_ranks(3)
    3
    """
    if world_size() == 1:
        return value
    votes = torch.tensor(value)
    dist.all_reduce(votes, dist.ReduceOp.MAX)
    return int(votes)
