# SPDX-License-Identifier: Apache-2.0
"""Images of large files, as files of their own."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from iclmsr.data.config import DataConfig
from iclmsr.data.found import Files, find_files
from iclmsr.data.images import ImageSet
from iclmsr.data.sources import load
from iclmsr.data.variant_files import splits_of
from iclmsr.errors import IclmsrError
from iclmsr.files import whole_folder


def unpack(config: DataConfig, out: Path, say: Callable[[str], None]) -> None:
    """Writes every image as ``SPLIT/CLASS/NUMBER.png``, all of them or none.

    Args:
        config: Images in large files or columns; all of train and test are written, whatever its
            ``limit``, in its ``image_size``.
        out: The folder to make.
        say: Told what was written.

    Raises:
        IclmsrError: The images are files already, cannot be read, or ``out`` cannot be written.
    """
    if isinstance(find_files(config), Files):
        raise IclmsrError(f"the images in {config.root} are files already: use them as they are")
    whole = replace(config, limit=None, evaluate_resize=None, evaluate_crop=None)
    with whole_folder(out) as folder:
        for split in splits_of(config):
            images = load(whole, split)
            _write(folder / split, images)
            say(f"{split}: {len(images):,} images")


def _write(folder: Path, images: ImageSet) -> None:
    """The images of a split, numbered in their order."""
    places = [folder / name for name in images.classes] or [folder]
    for place in places:
        place.mkdir(parents=True)
    pixels = images.images.permute(0, 2, 3, 1).numpy()
    for number, label in enumerate(images.labels.tolist()):
        path = places[max(label, 0)] / f"{number:06d}.png"
        Image.fromarray(np.ascontiguousarray(pixels[number])).save(path)
