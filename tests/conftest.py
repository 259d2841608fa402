# SPDX-License-Identifier: Apache-2.0
"""One thread: the networks here are tiny, and two threads on a busy machine wait for each other."""

import atexit
import os
import shutil
import tempfile

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["ICLMSR_CACHE"] = tempfile.mkdtemp(prefix="iclmsr-cache-")  # nobody else's

import pytest
import torch

atexit.register(shutil.rmtree, os.environ["ICLMSR_CACHE"], ignore_errors=True)


@pytest.fixture
def waves():
    """A_k of shape (n, d) in float64: an input without random numbers, k counts views."""

    def waves(k, n=4, d=3):
        i = torch.arange(1, n + 1, dtype=torch.float64)[:, None]
        j = torch.arange(1, d + 1, dtype=torch.float64)[None]
        return torch.sin(0.7 * i + 1.3 * i * j + 0.25 * k * j)

    return waves
