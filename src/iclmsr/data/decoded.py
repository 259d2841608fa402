# SPDX-License-Identifier: Apache-2.0
"""Some of the files of a set decoded, in whatever process; a GPU may do its part afterwards."""

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from iclmsr.data.decode import FaintMask, Unusable, careful, decode_image, decode_mask, plain_size
from iclmsr.data.jpeg import Decoder, by_nvjpeg, gpu_for
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
        packed: JPEGs that are left to the GPU, by their row; of these only the mask is there.
        faint: What the first mask that seems to be empty by mistake has; empty if none does.
    """

    planes: Tensor
    failed: dict[int, str]
    packed: dict[int, bytes]
    faint: str = ""


def decode(
    tasks: Sequence[Task], image_size: int, decoder: Decoder = "pillow", *, shared: bool = False
) -> Decoded:
    """Reads and decodes files, whatever becomes of each.

    Args:
        tasks: B files, all with a mask or all without.
        image_size: S, height and width of the result, pixels, > 0.
        decoder: Of JPEGs; nvjpeg leaves them to :func:`finish`.
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
    rows, failed, packed = planes.numpy(), dict[int, str](), dict[int, bytes]()
    with warnings.catch_warnings(record=True) as remarks, careful(FaintMask):
        for row, task in enumerate(tasks):
            try:
                content = task.image()
                size = plain_size(content) if decoder == "nvjpeg" else None
                if size is not None:
                    assert isinstance(content, bytes), "it has been opened"
                    packed[row] = content
                else:
                    rows[row, :3], size = decode_image(content, image_size, decoder)
                if task.mask is not None:
                    mask = task.mask(), task.mask_name, image_size, size, decoder
                    rows[row, 3] = decode_mask(*mask)
            except Unusable as error:
                failed[row] = str(error)
                packed.pop(row, None)
            except IclmsrError as error:  # of the place that many files are in
                raise Unreadable(str(error)) from error
    return Decoded(planes, failed, packed, str(remarks[0].message) if remarks else "")


def finish(decoded: Decoded, device: torch.device) -> Decoded:
    """Does the GPU's part, where there is one; what nvJPEG refuses is Pillow's.

    Args:
        decoded: What :func:`decode` made.
        device: Where the images are needed; another GPU decodes if it is none.

    Returns:
        The same with nothing left to do; on the GPU if that had a part.
    """
    if not decoded.packed:
        return decoded
    device = gpu_for(device)
    planes, failed = decoded.planes.to(device), dict(decoded.failed)
    made = by_nvjpeg(list(decoded.packed.values()), planes.shape[-1], device)
    with careful():
        for (row, content), pixels in zip(decoded.packed.items(), made, strict=True):
            try:
                if pixels is None:
                    host, _ = decode_image(content, planes.shape[-1], "nvjpeg")
                    pixels = torch.from_numpy(host.copy())
                planes[row, :3] = pixels
            except Unusable as error:
                failed[row] = str(error)
    return Decoded(planes, failed, {}, decoded.faint)
