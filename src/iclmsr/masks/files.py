# SPDX-License-Identifier: Apache-2.0
"""Masks of a folder of images, as a parallel tree of PNG files."""

import io
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from rich.console import Console
from rich.progress import track

from iclmsr.data.decode import Unusable, careful, open_image
from iclmsr.data.folder import mask_name
from iclmsr.data.listing import FOLDERS, Rules, images_in, top
from iclmsr.data.threads import in_threads
from iclmsr.data.trees import Content, Tree, open_tree
from iclmsr.errors import IclmsrError
from iclmsr.files import write_atomic
from iclmsr.masks.boxes import check_box, read_boxes
from iclmsr.masks.makers import Box, Image, Maker, Mask
from iclmsr.masks.named import MaskConfig, mask_maker

MASKS = "masks"
"""The folder in a data set that readers take for masks; nothing in it is an image to mask."""


@dataclass(frozen=True)
class Masked:
    """What :func:`make_masks` did.

    Attributes:
        shares: Of each mask that it made, the share of foreground, in [0, 1], by the image's path.
        kept: How many were there already.
        failed: Why an image has no mask, by its path.
    """

    shares: Mapping[str, float]
    kept: int
    failed: Mapping[str, str]

    def describe(self) -> str:
        """A few lines for a person."""
        shares = list(self.shares.values())
        lines = [f"masks: {len(shares):,} made, {self.kept:,} kept, {len(self.failed):,} failed"]
        if shares:
            blank = sum(share == 0 for share in shares), sum(share == 1 for share in shares)
            lines.append(
                f"foreground: {100 * statistics.fmean(shares):.1f} % on average; "
                f"{blank[0]:,} masks have none, {blank[1]:,} have nothing else"
            )
        return "\n".join(lines + [f"  {name} {why}" for name, why in self.failed.items()])


def make_masks(images: Path, out: Path, config: MaskConfig) -> Masked:
    """Writes a mask for every image, each whole or not at all; goes on where it was stopped.

    Args:
        images: A folder, or an archive of one, with images at any depth. Its folder ``masks`` is
            passed over, and ``out`` if that lies in it.
        out: The folder for the masks: under an image's own path, but as .png; 255 is foreground.
            They have the image's upright size.
        config: How they are made. Masks that are there already stay, unless it overwrites.

    Returns:
        What it did. An image that does not decode, or that the maker raises an exception for,
        has failed; its mask, if there was one, stays.

    Raises:
        IclmsrError: There are no images, a mask cannot be written, or the maker or its boxes are
            not what they should be.
    """
    maker = mask_maker(config)
    tree = top(open_tree(images))
    names = _names(tree, out)
    boxes = {} if config.boxes is None else read_boxes(config.boxes, names, tree.where(""))
    todo: dict[str, str] = {}  # image by mask
    failed: dict[str, str] = {}
    for name in names:
        first = todo.setdefault(mask_name(name), name)
        if first != name:
            failed[name] = f"would have the same mask as {first}: give it another name"
    masks = {image: mask for mask, image in todo.items()}
    if not config.overwrite:
        masks = {image: mask for image, mask in masks.items() if not (out / mask).exists()}
    kept, shares = len(todo) - len(masks), dict[str, float]()

    def one(file: tuple[str, Content]) -> tuple[str, float | str]:
        name, content = file
        try:
            mask = _made(maker, content, boxes.get(name))
        except Unusable as error:
            return name, str(error)
        _write(out / masks[name], mask)
        return name, float(mask.mean())

    console = Console(stderr=True)
    with careful():
        for name, found in track(
            in_threads(one, tree.contents(masks), config.workers),
            description="masks",
            total=len(masks),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        ):
            if isinstance(found, str):
                failed[name] = found
            else:
                shares[name] = found
    return Masked(shares, kept, failed)


def _names(tree: Tree, out: Path) -> list[str]:
    """The images to mask."""
    place, there = out.resolve(), tree.place.resolve()
    within = place.relative_to(there).as_posix() if place.is_relative_to(there) else "."
    names = images_in(tree, "", Rules(FOLDERS, apart=MASKS))
    kept = [name for name in names if within == "." or not name.startswith(f"{within}/")]
    if place == there:
        raise IclmsrError(f"masks would lie between the images in {out}: name another folder")
    if not kept:
        raise IclmsrError(f"no images in {tree.where('')} but those in {out}")
    return kept


def _made(maker: Maker, content: Content, box: Box | None) -> Mask:
    """The mask of an image file."""
    pixels = np.asarray(open_image(content).image)
    arguments: list[Any] = [pixels]
    if box is not None:
        check_box(box, pixels.shape[1], pixels.shape[0])
        arguments.append(box)
    try:
        found = maker(*arguments)
    except IclmsrError:
        raise
    except Exception as error:  # somebody's function, or OpenCV
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise Unusable(f"cannot be masked ({reason})") from error
    return as_mask(found, pixels)


def as_mask(found: NDArray[Any], image: Image) -> Mask:
    """What a maker returned, as a mask of its image: probabilities from 1/2 on are foreground.

    Args:
        found: (H, W), bool or a float in [0, 1].
        image: (H, W, 3).

    Raises:
        IclmsrError: It is something else.
    """
    array, size = np.asarray(found), image.shape[:2]
    got = f"{array.dtype} {array.shape}"
    if array.shape == size and array.dtype == np.bool_:
        return array
    if array.shape == size and np.issubdtype(array.dtype, np.floating):
        if array.min() >= 0 and array.max() <= 1:
            mask: Mask = array >= 0.5
            return mask
        got = f"{array.dtype} from {array.min():.3g} to {array.max():.3g}"
    raise IclmsrError(
        f"the mask maker returned {got} for an image {image.shape}: expected {size}, bool or a "
        "float in [0, 1]"
    )


def _write(path: Path, mask: Mask) -> None:
    """A mask as PNG."""
    buffer = io.BytesIO()
    Pillow.fromarray(mask.astype(np.uint8) * 255).save(buffer, "PNG")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, buffer.getvalue())
