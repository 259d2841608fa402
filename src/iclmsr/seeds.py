# SPDX-License-Identifier: Apache-2.0
"""Random numbers named by what they are for, so that nothing depends on what was drawn before.

Every random decision of a run draws from ``generator(seed, *purpose)``. A resumed run, a run
split over other batches or an extra evaluation in between therefore sees the same numbers.
"""

import hashlib

import torch


def derive(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for one purpose, the same on every machine.

    Args:
        seed: The run's seed, any integer.
        purpose: What the numbers are for, e.g. ``"views", epoch``.

    Returns:
        An integer in [0, 2^63).

    >>> derive(0, "views", 3) == derive(0, "views", 3) != derive(0, "views", 4)
    True
    """
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU generator seeded for one purpose (see :func:`derive`).

    >>> a, b = generator(0, "order", 1), generator(0, "order", 1)
    >>> bool((torch.rand(4, generator=a) == torch.rand(4, generator=b)).all())
    True
    """
    return torch.Generator().manual_seed(derive(seed, *purpose))
