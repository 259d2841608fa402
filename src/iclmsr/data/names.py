# SPDX-License-Identifier: Apache-2.0
"""Paths as users write them, and as they are printed; numbers of things."""

import os
from pathlib import Path

LINE = 100
"""Characters that are shown of a line."""


def printable(path: Path | str) -> str:
    r"""A path on one line, whatever bytes it has: others than printable text are escaped.

    Args:
        path: As the operating system gives it, bytes that are no UTF-8 as lone surrogates.

    >>> printable("caf\udce9/a\nb.png")
    'caf\\xe9/a\\nb.png'
    """
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


def excerpt(line: str) -> str:
    """What is shown of a line of a file: :func:`printable`, and 100 characters at most.

    >>> excerpt("a" * 1000) == "a" * 100 + "..."
    True
    """
    text = printable(line[: LINE + 1])
    return text if len(text) <= LINE else f"{text[:LINE]}..."


def at_home(path: Path | str) -> Path:
    """A path with ``~`` replaced; as it is where there is no such user, or one without a home.

    >>> at_home("~nobody-of-this-name/a.png").as_posix()
    '~nobody-of-this-name/a.png'
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def counted(number: int, one: str, many: str | None = None) -> str:
    """A number and what it counts, in words that agree with it.

    Args:
        number: How many, >= 0.
        one: What follows 1.
        many: What follows any other number; None is ``one`` with an s.

    >>> counted(1, "image"), counted(1200, "image"), counted(2, "image is", "images are")
    ('1 image', '1,200 images', '2 images are')
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"
