# SPDX-License-Identifier: Apache-2.0
"""Devices by name."""

import torch

from iclmsr.errors import IclmsrError


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
