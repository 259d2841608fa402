# SPDX-License-Identifier: Apache-2.0
"""How worker processes live: deaf to Ctrl-C, and no longer than the process they work for."""

import contextlib
import os
import select
import signal
import threading
from collections.abc import Iterator
from multiprocessing import resource_tracker


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


@contextlib.contextmanager
def without_interrupts() -> Iterator[None]:
    """SIGINT is held back here; processes that are started meanwhile never get it."""
    resource_tracker.ensure_running()  # whoever starts it lets SIGINT through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
