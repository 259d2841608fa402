# SPDX-License-Identifier: Apache-2.0
"""How well each mask maker does against true masks: prints the tables of docs/how-to/masks.md.

    python benchmarks/masks.py                                  # the embedded data only
    python benchmarks/masks.py --root eth80                     # SPLIT/CLASS/NAME.jpg, masks/...
    python benchmarks/masks.py --root eth80 --photographs tiny-imagenet
    python benchmarks/masks.py --photographs tiny-imagenet --boxes boxes.csv
    python benchmarks/masks.py --root eth80 --limit 200         # so many images of each set, drawn

IoU is the area that true mask and mask have in common, as a share of what either covers. With
``--photographs`` the objects of the test images are also pasted on photographs drawn from that
folder: backgrounds that are not of one colour. With ``--boxes``, as `iclmsr masks` reads them, a
second table has the photographs themselves: as they have no true masks, it compares the box
around the mask with the true one. Milliseconds are CPU time in one thread. The true
box is the true mask's own, which users rarely have that good.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from iclmsr.data.decode import open_image
from iclmsr.data.images import ImageSet
from iclmsr.data.sources import DataConfig, load
from iclmsr.data.synthetic import SyntheticConfig
from iclmsr.data.trees import open_tree
from iclmsr.masks.boxes import read_boxes
from iclmsr.masks.makers import Box, Image, Mask, centred_ellipse, grabcut, saliency

MAKERS: dict[str, Callable[[Image, Box], Mask]] = {
    "everything": lambda image, box: np.ones(image.shape[:2], np.bool_),
    "centred ellipse, half of the area": lambda image, box: centred_ellipse(*image.shape[:2]),
    "the true box": lambda image, box: filled(image, box),
    "`saliency`": lambda image, box: saliency(image),
    "`grabcut`": lambda image, box: grabcut(image),
    "`grabcut --boxes`, the true box": grabcut,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, help="a folder of images with a folder masks")
    parser.add_argument("--image-size", type=int, default=96, help="of those images, pixels")
    parser.add_argument("--photographs", type=Path, help="a folder of photographs")
    parser.add_argument("--boxes", type=Path, help="a CSV file of boxes in those photographs")
    parser.add_argument("--limit", type=int, help="images of each set")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    sets = {}
    if args.root is not None:
        for split in ("train", "test"):
            config = DataConfig("folder", args.root, args.image_size, masks=args.root)
            images = sets[f"{args.root.name} {split}"] = load(config, split)
        if args.photographs is not None:
            config = DataConfig("folder", args.photographs, args.image_size)
            sets[f"{args.root.name} test on photographs"] = pasted(images, load(config, "train"))
    for size in (32, 96):
        config = DataConfig("synthetic", image_size=size, synthetic=SyntheticConfig(test=1000))
        sets[f"embedded test, {size} x {size}"] = load(config, "test")
    against_masks(sets, args.limit)
    if args.boxes is not None:
        against_boxes(args.photographs, args.boxes, args.limit)


def against_masks(sets: dict[str, ImageSet], limit: int | None) -> None:
    print("| data | maker | mean IoU | median IoU | images with IoU >= 0.5 | CPU ms / image |")
    print("|---|---|---|---|---|---|")
    for name, images in sets.items():
        chosen = np.random.default_rng(0).permutation(len(images))[:limit]
        for maker, make in MAKERS.items():
            overlap, seconds = measure(images, chosen, make)
            print(
                f"| {name} ({len(chosen)}) | {maker} | {overlap.mean():.3f} | "
                f"{np.median(overlap):.3f} | {100 * (overlap >= 0.5).mean():.0f} % | "
                f"{1000 * seconds / len(chosen):.1f} |",
                flush=True,
            )


def against_boxes(root: Path, file: Path, limit: int | None) -> None:
    boxes = read_boxes(file, open_tree(root).files(), str(root))
    names = sorted(boxes)
    chosen = [names[index] for index in np.random.default_rng(0).permutation(len(names))[:limit]]
    print(f"\n| {len(chosen)} photographs | IoU of the boxes | >= 0.5 | masks without foreground |")
    print("|---|---|---|---|")
    for maker, make in MAKERS.items():
        overlap, empty = [], 0
        for name in chosen:
            pixels = np.asarray(open_image((root / name).read_bytes()).image)
            mask = make(pixels, boxes[name])
            true = filled(pixels, boxes[name])
            found = filled(pixels, box_of(mask)) if mask.any() else mask
            empty += not mask.any()
            overlap.append((found & true).sum() / (found | true).sum())
        good = np.mean(np.array(overlap) >= 0.5)
        print(
            f"| {maker} | {np.mean(overlap):.3f} | {100 * good:.0f} % | "
            f"{100 * empty / len(chosen):.0f} % |",
            flush=True,
        )


def pasted(images: ImageSet, photographs: ImageSet) -> ImageSet:
    """The images' objects, each on a photograph drawn for it."""
    assert images.masks is not None
    draw = np.random.default_rng(1).integers(len(photographs), size=len(images))
    behind = photographs.images[torch.from_numpy(draw)]
    return replace(images, images=torch.where(images.masks[:, None], images.images, behind))


def measure(
    images: ImageSet, chosen: NDArray[np.int64], make: Callable[[Image, Box], Mask]
) -> tuple[NDArray[np.float64], float]:
    """IoU of each chosen image, and the seconds that all of them took."""
    assert images.masks is not None
    overlap, seconds = [], 0.0
    for index in chosen:
        pixels = images.images[index].numpy().transpose(1, 2, 0).copy()
        truth = images.masks[index].numpy()
        box = box_of(truth)
        began = time.thread_time()
        mask = make(pixels, box)
        seconds += time.thread_time() - began
        overlap.append((mask & truth).sum() / (mask | truth).sum())
    return np.array(overlap), seconds


def box_of(mask: Mask) -> Box:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def filled(image: Image, box: Box) -> Mask:
    mask = np.zeros(image.shape[:2], np.bool_)
    mask[box[1] : box[3], box[0] : box[2]] = True
    return mask


if __name__ == "__main__":
    main()
