# SPDX-License-Identifier: Apache-2.0
"""One thread: the networks here are tiny, and two threads on a busy machine wait for each other."""

import os
import tempfile

os.environ.setdefault("OMP_NUM_THREADS", "1")
_cache = tempfile.TemporaryDirectory(prefix="iclmsr-cache-")
os.environ["ICLMSR_CACHE"] = _cache.name  # no test sees what another session has kept

import pytest
import torch


@pytest.fixture
def waves():
    """A_k of shape (n, d) in float64: an input without random numbers, k counts views."""

    def waves(k, n=4, d=3):
        i = torch.arange(1, n + 1, dtype=torch.float64)[:, None]
        j = torch.arange(1, d + 1, dtype=torch.float64)[None]
        return torch.sin(0.7 * i + 1.3 * i * j + 0.25 * k * j)

    return waves
