# SPDX-License-Identifier: Apache-2.0
"""How worker processes live: deaf to Ctrl-C, and no longer than the process they work for."""

import contextlib
import os
import select
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess


def begin(employer: int, _: int) -> None:
    """What a worker does first.

    Args:
        employer: The process it works for, which is not its parent: a server forks it, and torch
            looks after parents only.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the employer answers it
    threading.Thread(target=_end_with, args=(employer,), daemon=True).start()


def _end_with(employer: int) -> None:
    """Ends this process when another one has ended, however it did."""
    try:
        select.select([os.pidfd_open(employer)], [], [])
    except ProcessLookupError:
        pass
    except OSError:  # a system that cannot tell
        return
    os._exit(1)


def end(workers: Sequence[BaseProcess], *, grace: float) -> None:
    """Ends workers; Python waits at its exit for every one that does not react, for ever.

    Args:
        workers: The processes.
        grace: How long all together have until they are killed, seconds.
    """
    for worker in workers:
        worker.terminate()
    last = time.monotonic() + grace
    for worker in workers:
        worker.join(max(last - time.monotonic(), 0))
        worker.kill()


@contextlib.contextmanager
def without_interrupts() -> Iterator[None]:
    """SIGINT is held back here; processes that are started meanwhile never get it."""
    resource_tracker.ensure_running()  # whoever starts it lets SIGINT through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
