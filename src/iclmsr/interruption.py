# SPDX-License-Identifier: Apache-2.0
"""Stopping politely: SIGTERM and SIGINT as a request that the run answers between two updates."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import NoReturn

from iclmsr.errors import IclmsrError


class Interrupted(IclmsrError):
    """The run was asked to stop, wrote a checkpoint and can go on.

    Args:
        number: The signal.
        message: What to say.
    """

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = 128 + number


class Stopped(BaseException):
    """A request to stop came while data were waited for; no library takes it for a fault."""


class Requests(list[int]):
    """The signals received."""

    waiting = False

    @contextlib.contextmanager
    def cut_short(self) -> Iterator[None]:
        """Within it, a request that has come or comes raises :class:`Stopped`."""
        self.waiting = True
        try:
            if self:
                raise Stopped
            yield
        finally:
            self.waiting = False


@contextlib.contextmanager
def stop_requests() -> Iterator[Requests]:
    """A list that receives the first SIGTERM or SIGINT; a second one acts at once."""
    received = Requests()
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.getsignal(number) for number in numbers}

    def note(number: int, _: object) -> None:
        received.append(number)
        for each, handler in before.items():
            signal.signal(each, handler)
        if received.waiting:
            raise Stopped

    for number in numbers:
        signal.signal(number, note)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def stop_at_once() -> Iterator[None]:
    """SIGTERM raises :class:`Interrupted` where it comes, as SIGINT raises KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _: object) -> NoReturn:
        raise Interrupted(number, f"stopped by {signal.Signals(number).name}")

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
