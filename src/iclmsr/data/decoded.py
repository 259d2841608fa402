# SPDX-License-Identifier: Apache-2.0
"""Some of the files of a set decoded, in whatever process."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from iclmsr.data.decode import Unusable, careful, decode_image, decode_mask
from iclmsr.data.single import Reader
from iclmsr.errors import IclmsrError


class Unreadable(IclmsrError):
    """An image, or the processes that decode them, failed in the middle of the work.

    Args:
        message: What happened and what to do.
        options: Options that a run needs to go on all the same.
    """

    def __init__(self, message: str, options: str = "") -> None:
        super().__init__(message)
        self.options = options


class Task(NamedTuple):
    """One image to decode, small enough to be sent to another process.

    Attributes:
        image: Its file.
        mask: The file of its foreground mask; None if none is asked for.
        mask_name: What that is called, for messages.
    """

    image: Reader
    mask: Reader | None = None
    mask_name: str = ""


class Decoded(NamedTuple):
    """What became of some files.

    Attributes:
        planes: (B, P, S, S) uint8: red, green, blue, and with masks a fourth of 0 and 1, which
            is 1 on the foreground. The rows in ``failed`` hold nothing.
        failed: What is the matter with each file that does not decode, by its row.
    """

    planes: Tensor
    failed: dict[int, str]


def decode(tasks: Sequence[Task], image_size: int, *, shared: bool = False) -> Decoded:
    """Reads and decodes files, whatever becomes of each.

    Args:
        tasks: B files, all with a mask or all without.
        image_size: S, height and width of the result, pixels, > 0.
        shared: Whether the result lies in memory that another process can see.

    Raises:
        Unreadable: A shard cannot be fetched.

    Source: :func:`iclmsr.data.decode.decode_image`, bit for bit. Departure: none.
    """
    planes = torch.empty(
        len(tasks), 3 if tasks[0].mask is None else 4, image_size, image_size, dtype=torch.uint8
    )
    if shared:
        planes.share_memory_()  # type: ignore[no-untyped-call]
    rows, failed = planes.numpy(), dict[int, str]()
    with careful():
        for row, task in enumerate(tasks):
            try:
                rows[row, :3], size = decode_image(task.image(), image_size)
                if task.mask is not None:
                    rows[row, 3] = decode_mask(task.mask(), task.mask_name, image_size, size)
            except Unusable as error:
                failed[row] = str(error)
            except IclmsrError as error:  # of the place that many files are in
                raise Unreadable(str(error)) from error
    return Decoded(planes, failed)
