# SPDX-License-Identifier: Apache-2.0
"""Images of large files, as files of their own."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from iclmsr.data.classes import shown
from iclmsr.data.config import DataConfig
from iclmsr.data.found import Files, find_files
from iclmsr.data.image_files import numbered, write_backgrounds, write_split
from iclmsr.data.images import ImageSet
from iclmsr.data.places import check_outside
from iclmsr.data.sources import load
from iclmsr.data.variant_files import splits_of
from iclmsr.errors import IclmsrError
from iclmsr.files import whole_folder


def unpack(config: DataConfig, out: Path, say: Callable[[str], None]) -> bool:
    """Writes every image as ``SPLIT/CLASS/NUMBER.png``, all of them or none.

    Args:
        config: Images in large files or columns; all of train and test are written, whatever its
            ``limit``, in its ``image_size``.
        out: The folder to make. It also gets ``masks/SPLIT/CLASS/NUMBER.png`` and
            ``backgrounds.csv`` where there are masks, and where backgrounds are known.
        say: Told what was written.

    Returns:
        Whether all images have masks.

    Raises:
        IclmsrError: The images are files already, cannot be read, some have no label, a class
            cannot be a folder, or ``out`` lies in the data or cannot be written.
    """
    if isinstance(find_files(config), Files):
        raise IclmsrError(f"the images in {config.root} are files already: use them as they are")
    check_outside(out, config.root)
    whole = replace(config, limit=None, evaluate_resize=None, evaluate_crop=None)
    rows: list[tuple[str, str]] = []
    masked = True
    with whole_folder(out) as folder:
        for split in splits_of(config):
            images = load(whole, split)
            rows += write_split(folder, split, images, numbered(images, split))
            masked = masked and images.masks is not None
            say(f"{split}: {_described(images)}")
        write_backgrounds(folder, rows)
    return masked


def _described(images: ImageSet) -> str:
    """How many images there are, whether with masks, and which classes have none."""
    there = set(images.labels.tolist())
    empty = [name for label, name in enumerate(images.classes) if label not in there]
    masks = " with masks" if images.masks is not None else ""
    none = f"; no images, so no folder, of {shown(empty)}" if empty else ""
    return f"{len(images):,} images{masks}{none}"
