# SPDX-License-Identifier: Apache-2.0
"""One thread: the networks here are tiny, and two threads on a busy machine wait for each other."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
