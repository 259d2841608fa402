# SPDX-License-Identifier: Apache-2.0
"""Devices by name, and how this process holds a CPU's memory."""

import contextlib
import ctypes

import torch

from iclmsr.errors import IclmsrError

TRIM, MAPPED = -1, -3
"""mallopt's M_TRIM_THRESHOLD and M_MMAP_THRESHOLD."""


def choose_device(name: str) -> torch.device:
    """The device that ``name`` means here.

    Args:
        name: ``cpu``, ``cuda``, ``cuda:1``, ...; ``auto`` takes a GPU where there is one.

    Raises:
        IclmsrError: No such device on this machine.

    >>> choose_device("cpu")
    device(type='cpu')
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise IclmsrError(f"device {name!r} is not to be had here: use cpu or auto") from error
    return device


def keep_freed_memory() -> None:
    """Makes this process keep the memory it frees, for its next tensors; changes no number.

    By default glibc hands large blocks back to the system, and every step of a training on a CPU
    begins by getting thousands of empty pages anew. Without glibc nothing happens.
    """
    with contextlib.suppress(OSError, AttributeError):
        allocator = ctypes.CDLL("libc.so.6")
        if not allocator.mallopt(MAPPED, 2**30):
            allocator.mallopt(MAPPED, 2**25)  # the most that older versions take
        allocator.mallopt(TRIM, 2**31 - 1)
