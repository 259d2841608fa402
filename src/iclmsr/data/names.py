# SPDX-License-Identifier: Apache-2.0
"""File names that can be printed."""

import os
from pathlib import Path


def printable(path: Path | str) -> str:
    r"""A path on one line, whatever bytes it has: others than printable text are escaped.

    Args:
        path: As the operating system gives it, bytes that are no UTF-8 as lone surrogates.

    >>> printable("caf\udce9/a\nb.png")
    'caf\\xe9/a\\nb.png'
    """
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)
