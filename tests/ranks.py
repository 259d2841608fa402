# SPDX-License-Identifier: Apache-2.0
"""Runs a function of a test file on several ranks: processes that meet as torchrun's do."""

import multiprocessing
import os
import runpy
import time
import traceback
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.distributed as dist

from iclmsr.distributed import join

# Ranks are forked from one process that has imported everything, and never computed.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["ranks", "pytest", "iclmsr.losses", "iclmsr.networks"])


def on_ranks(job, size, *arguments, timeout=60):
    """What ``job(world, *arguments)`` returned on each of ``size`` ranks, in their order.

    A rank that fails or is not done after ``timeout`` seconds is an AssertionError with the
    tracebacks of all that failed.
    """
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    file, name = job.__code__.co_filename, job.__name__
    with TemporaryDirectory() as folder:
        results = [Path(folder, str(rank)) for rank in range(size)]
        ranks = [
            CONTEXT.Process(
                target=_rank, args=(file, name, arguments, rank, size, store.port, path)
            )
            for rank, path in enumerate(results)
        ]
        for process in ranks:
            process.start()
        deadline = time.monotonic() + timeout
        for process in ranks:
            process.join(max(deadline - time.monotonic(), 0))
        late = f"was not done after {timeout} s"
        reports = [
            torch.load(path) if path.exists() else (late if process.is_alive() else "died", None)
            for process, path in zip(ranks, results, strict=True)
        ]
        for process in ranks:
            process.kill()
            process.join()
            process.close()
    failures = [f"rank {rank}: {failure}" for rank, (failure, _) in enumerate(reports) if failure]
    assert not failures, "\n".join(failures)
    return [result for _, result in reports]


def _rank(file, name, arguments, rank, size, port, path):
    """One rank's process: writes the traceback of its failure, and its result."""
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # the parent's store
    }
    torch.set_num_threads(1)
    failure, result = "", None
    try:
        with join("cpu", timeout=60) as world:
            result = runpy.run_path(file)[name](world, *arguments)
        assert not dist.is_initialized()
    except Exception:
        failure = traceback.format_exc()
    torch.save((failure, result), path)
