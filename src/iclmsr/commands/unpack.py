# SPDX-License-Identifier: Apache-2.0
"""``iclmsr data unpack``: images of large files, as files of their own."""

from dataclasses import replace

from iclmsr.data.names import at_home, printable
from iclmsr.errors import IclmsrError
from iclmsr.options import parse_options


def unpack_command(words: list[str]) -> None:
    """Write the images of official CIFAR or STL-10 files, or of columns, as PNG files.

    usage: iclmsr data unpack ROOT OUT [--data.image-size N] [--data.NAME ...]

    ROOT is guessed as `iclmsr data check` guesses it, or `synthetic`. Writes OUT/SPLIT/CLASS/N.png,
    N being the image's number in its split, for whatever needs files, and the masks in OUT/masks;
    where there are none, `iclmsr masks OUT OUT/masks` makes some. Train and test are written,
    STL-10's unlabeled images are not. OUT lies outside ROOT, and is there whole or not at all. The
    same --data.source reads it, or folder.
    """
    if any(word.startswith("-") for word in words[:2]) or len(words) < 2:
        raise IclmsrError("unpack begins with two places: iclmsr data unpack ROOT OUT")

    from iclmsr.config import PretrainConfig
    from iclmsr.data.found import guess
    from iclmsr.data.sources import DataConfig
    from iclmsr.data.unpack import unpack

    root, out = (at_home(word) for word in words[:2])
    synthetic = words[0] == "synthetic" and not root.exists()
    data = DataConfig("synthetic") if synthetic else guess(root)
    data = parse_options(PretrainConfig, replace(PretrainConfig(), data=data), words[2:]).data
    place = printable(out)
    masks = f" --data.masks {place}" if unpack(data, out, print) else ""
    print(f"read it: --data.source folder --data.root {place}{masks}")
