# SPDX-License-Identifier: Apache-2.0
"""The one error that a user is meant to read."""

from collections.abc import Iterable
from difflib import get_close_matches


class IclmsrError(Exception):
    """Something the user can mend: one line that quotes the value and says what to do.

    The command line prints it without a traceback and exits with ``exit_code``.
    """

    exit_code = 2


class Diverged(IclmsrError):
    """What one run learns is of no use: its numbers are not finite, or it has collapsed.

    It alone is at fault, not the data, the machine or the user's other runs.
    """


class Damaged(IclmsrError):
    """A file is cut off, changed or another one; fetched again from a URL it may be right."""


class Elsewhere(IclmsrError):
    """Another process of the run says what is wrong; this one ends without a word.

    Args:
        exit_code: The process's exit code.
    """

    def __init__(self, exit_code: int = 2) -> None:
        super().__init__("stopped by another process of the run")
        self.exit_code = exit_code


def nearest(name: str, known: Iterable[str], *, most: int | None = None) -> str:
    """The names closest to ``name``, ready to end an error message.

    Args:
        name: What the user wrote.
        known: Every name there is.
        most: How many of them are listed at most, >= 1; None lists all.

    Returns:
        ``"did you mean 'a' or 'b'?"``, or ``"choose from a, b, c"`` when nothing is close.

    >>> nearest("simclr-cifar", ["simclr-cifar10", "scm"])
    "did you mean 'simclr-cifar10'?"
    >>> nearest("x", ["a", "b", "c", "d"], most=2)
    'choose from a, b and 2 more'
    """
    names = sorted(known)
    close = get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(repr(match) for match in close) + "?"
    more = "" if most is None or len(names) <= most else f" and {len(names) - most:,} more"
    return "choose from " + ", ".join(names[:most]) + more
