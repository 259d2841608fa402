# SPDX-License-Identifier: Apache-2.0
"""``iclmsr masks``: foreground masks for a folder of images."""

from pathlib import Path

from iclmsr.data.names import counted
from iclmsr.errors import IclmsrError
from iclmsr.options import asks_help, parse_options, usage


def mask_command(words: list[str]) -> None:
    """Make foreground masks for images that have none.

    usage: iclmsr masks IMAGES OUT [options below]

    Writes a PNG for every image in IMAGES, a folder or an archive of one, at any depth: in OUT
    under the image's own path, of the image's size, 255 on the foreground and 0 elsewhere, for
    `iclmsr pretrain ... --data.masks OUT`. OUT lies outside IMAGES, or is IMAGES/masks. Started
    again, it goes on: masks that are there are kept. Images that fail are named at the end, and
    the exit code is then 2. The makers guess; docs/how-to/masks.md says how badly. They need
    pip install 'iclmsr[masks]', or 'iclmsr[onnx]' for models.
    """
    if asks_help(words):
        print(usage(mask_command))
    from iclmsr.masks.files import make_masks
    from iclmsr.masks.named import MaskConfig

    if asks_help(words):
        parse_options(MaskConfig, MaskConfig(), words)
    if any(word.startswith("-") for word in words[:2]) or len(words) < 2:
        raise IclmsrError("masks begins with two folders: iclmsr masks IMAGES OUT [options]")
    config = parse_options(MaskConfig, MaskConfig(), words[2:])
    masked = make_masks(Path(words[0]), Path(words[1]), config)
    print(masked.describe())
    if masked.failed:
        images = counted(len(masked.failed), "image has", "images have")
        raise IclmsrError(f"{images} no mask: mend or remove what failed, and run it again")
