# SPDX-License-Identifier: Apache-2.0
"""Masks of a folder of images, as a parallel tree of PNG files."""

import io
import statistics
from collections.abc import Iterable, Mapping, Sequence
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
from iclmsr.data.listing import FOLDERS, MASKS, Rules, images_in, top
from iclmsr.data.names import printable
from iclmsr.data.threads import in_threads
from iclmsr.data.trees import Content, Folder, Tree, open_tree
from iclmsr.errors import IclmsrError
from iclmsr.files import remove_scraps, unwritable, write_atomic
from iclmsr.masks.boxes import check_box, read_boxes
from iclmsr.masks.makers import Box, Image, Maker, Mask
from iclmsr.masks.named import MaskConfig, mask_maker

SHOWN = 20
"""So many images that failed are named."""


@dataclass(frozen=True)
class Masked:
    """What :func:`make_masks` did.

    Attributes:
        shares: Of each mask that it made, the share of foreground, in [0, 1], by the image's path.
        kept: How many were there already.
        failed: Why an image has no new mask, by its path.
    """

    shares: Mapping[str, float]
    kept: int
    failed: Mapping[str, str]

    def describe(self) -> str:
        """A few lines for a person.

        >>> print(Masked({"0.jpg": 0.25, "1.jpg": 0}, 3, {"2.jpg": "does not decode"}).describe())
        masks: 2 made, 3 kept, 1 failed
        foreground: 12.5 % on average; 1 of the new masks have none, 0 have nothing else
          2.jpg does not decode
        """
        shares = list(self.shares.values())
        lines = [f"masks: {len(shares):,} made, {self.kept:,} kept, {len(self.failed):,} failed"]
        if shares:
            none, all_of_it = (sum(share == end for share in shares) for end in (0, 1))
            lines.append(
                f"foreground: {100 * statistics.fmean(shares):.1f} % on average; "
                f"{none:,} of the new masks have none, {all_of_it:,} have nothing else"
            )
        failed = [f"  {printable(name)} {printable(why)}" for name, why in self.failed.items()]
        if len(failed) > SHOWN:
            failed[SHOWN:] = [f"  and {len(failed) - SHOWN:,} more"]
        return "\n".join(lines + failed)


def make_masks(images: Path, out: Path, config: MaskConfig) -> Masked:
    """Writes a mask for every image, each whole or not at all; goes on where it was stopped.

    Args:
        images: A folder, or an archive of one, with images at any depth. Its folder ``masks`` is
            passed over.
        out: The folder for the masks: under an image's own path, but as .png; 255 is foreground.
            They have the image's upright size. It is outside ``images``, or its folder ``masks``.
        config: How they are made. Masks that are there already stay, unless it overwrites.

    Returns:
        What it did. An image that does not decode, or that the maker raises an exception for,
        has failed; its mask, if there was one, stays.

    Raises:
        IclmsrError: There are no images, a mask cannot be written, or the maker or its boxes are
            not what they should be. What is done by then stays.
    """
    maker = mask_maker(config)
    tree = top(open_tree(images))
    _check_apart(tree, out)
    names = images_in(tree, "", Rules(FOLDERS))
    boxes = {} if config.boxes is None else read_boxes(config.boxes, names, tree.where(""))
    paths, failed = _paths(names, out)
    try:
        todo = {name: path for name, path in paths.items() if config.overwrite or not path.exists()}
        remove_scraps(paths.values())
    except OSError as error:
        raise unwritable(printable(out), error) from error
    shares: dict[str, float] = {}

    def one(file: tuple[str, Content]) -> tuple[str, float | str]:
        name, content = file
        try:
            mask = _made(maker, content, boxes.get(name))
        except Unusable as error:
            return name, str(error)
        _write(todo[name], mask)
        return name, float(mask.mean())

    with careful():
        work = in_threads(one, tree.contents(todo), config.workers)
        for name, found in _tracked(work, len(todo)):
            if isinstance(found, str):
                failed[name] = found
            else:
                shares[name] = found
    return Masked(shares, len(paths) - len(todo), failed)


def _check_apart(tree: Tree, out: Path) -> None:
    """Raises where masks would lie between the images, or could even take their places."""
    if not isinstance(tree, Folder):
        return
    place, there = out.resolve(), tree.place.resolve()
    between = place.is_relative_to(there) and not place.is_relative_to(there / MASKS)
    if between or there.is_relative_to(place):
        raise IclmsrError(
            f"masks in {printable(out)} would lie between the images of {tree.where('')}: name a "
            f"folder outside, or {tree.where(MASKS)}"
        )


def _paths(names: Sequence[str], out: Path) -> tuple[dict[str, Path], dict[str, str]]:
    """Where each image's mask goes, and why some have none."""
    first: dict[str, str] = {}
    failed: dict[str, str] = {}
    for name in names:
        taken = first.setdefault(mask_name(name), name)
        if taken != name:
            failed[name] = f"would have the same mask as {taken}: give it another name"
    return {name: out / mask for mask, name in first.items()}, failed


def _tracked(
    work: Iterable[tuple[str, float | str]], count: int
) -> Iterable[tuple[str, float | str]]:
    """The same, with a bar on a terminal."""
    console = Console(stderr=True)
    return track(
        work,
        description="masks",
        total=count,
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


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
    except (Exception, SystemExit) as error:  # somebody's function, or OpenCV
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
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(printable(path.parent), error) from error
    write_atomic(path, buffer.getvalue())
