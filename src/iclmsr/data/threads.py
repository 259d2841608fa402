# SPDX-License-Identifier: Apache-2.0
"""Files worked on in threads while the next ones are read."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Iterator[Result]:
    """``map(function, items)`` in threads, in order; at most ``2 * workers`` items are held.

    Args:
        function: What to do with an item; should release Python's lock for most of its time.
        items: Taken from in the calling thread.
        workers: Threads, >= 1.

    >>> list(in_threads(str.upper, "abc", 2))
    ['A', 'B', 'C']
    """
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for item in items:
            if len(waiting) >= 2 * workers:
                yield waiting.popleft().result()
            waiting.append(pool.submit(function, item))
        while waiting:
            yield waiting.popleft().result()
