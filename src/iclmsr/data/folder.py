# SPDX-License-Identifier: Apache-2.0
"""Image files in one folder per class."""

import os
import warnings
from pathlib import Path
from typing import Literal, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from iclmsr.data.images import ImageSet
from iclmsr.errors import IclmsrError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm")
FOLDERS = {"train": ("train",), "test": ("test", "val", "valid", "validation")}
SHOWN = 5


def read_folder(
    root: Path,
    split: Literal["train", "test"],
    *,
    image_size: int,
    on_corrupt: Literal["error", "skip"],
) -> ImageSet:
    """The images below ``root/SPLIT/CLASS/``, in the order of class and path.

    Without split folders, ``root/CLASS/`` or images directly in ``root`` serve as training
    images; the latter have no labels. ``val``, ``valid`` and ``validation`` stand in for
    ``test``. Hidden files and folders and files that are no images are passed over.

    Args:
        root: The data set's folder.
        split: Which of its parts.
        image_size: Height and width of the result, pixels, > 0. Images of another size are
            resized by their short side (bicubic, antialiased) and cropped at the centre.
        on_corrupt: What to do about an image that does not decode: raise, or leave it out and
            name it in ``skipped``.

    Raises:
        IclmsrError: A folder is missing or empty, test and train have different classes, or an
            image does not decode.
    """
    folder = _split_folder(root, split)
    classes = _class_names(folder)
    files, labels = _list_images(root, folder, classes, split)
    images = np.empty((len(files), 3, image_size, image_size), np.uint8)
    kept: list[int] = []
    skipped: list[str] = []
    # One thread: on CIFAR-10's files two are slower, an image takes less time than its hand-over.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PIL's remarks on files that it reads all the same
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for path, label in zip(files, labels, strict=True):
            try:
                images[len(kept)] = _decode(path, image_size)
            except Exception as error:  # PIL lets through whatever its decoders stumble over
                if on_corrupt == "error":
                    reason = " ".join(f"{type(error).__name__}: {error}".split())
                    raise IclmsrError(
                        f"{path} does not decode ({reason}): mend it, or "
                        "pass --data.on-corrupt skip to leave such files out"
                    ) from error
                skipped.append(str(path))
            else:
                kept.append(label)
    for label in sorted(set(labels) - set(kept)):
        place = folder / classes[label] if classes else folder
        raise IclmsrError(f"not one image in {place} decodes: all {labels.count(label):,} left out")
    return ImageSet(
        torch.from_numpy(images[: len(kept)]),
        torch.tensor(kept),
        classes,
        skipped=tuple(skipped),
    )


def _split_folder(root: Path, split: str) -> Path:
    """Where the split's class folders are: a folder named after it, or ``root`` itself."""
    if not root.is_dir():
        raise IclmsrError(f"there is no folder {root}")
    there = {
        name: [root / folder for folder in folders if (root / folder).is_dir()]
        for name, folders in FOLDERS.items()
    }
    if there[split]:
        return there[split][0]
    if split == "train" and not there["test"]:
        return root
    names = FOLDERS[split]
    raise IclmsrError(
        f"no {split} images in {root}: looked for a folder {' or '.join(names)}; "
        f"put the images into {root / names[0]}/CLASS/"
    )


def _class_names(folder: Path) -> tuple[str, ...]:
    """The visible folders in ``folder``."""
    names = (entry.name for entry in folder.iterdir() if entry.is_dir())
    return tuple(sorted(name for name in names if not name.startswith(".")))


def _list_images(
    root: Path, folder: Path, classes: tuple[str, ...], split: str
) -> tuple[list[Path], list[int]]:
    """All image files and their labels; raises where a class or its counterpart is missing."""
    if not classes:
        files = _image_files(folder)
        if split == "test" and files:
            raise IclmsrError(f"{folder} has images but no classes: move them to {folder}/CLASS/")
        return files, [-1] * len(files)
    for name in classes:
        if folder == root and (root / name / "train").is_dir():
            raise IclmsrError(
                f"{root} has no folder train, but {root / name} has: pass --data.root {root / name}"
            )
    if split == "test" and (root / "train").is_dir():
        _check_same(folder, set(classes), root / "train", set(_class_names(root / "train")))
    groups = [_image_files(folder / name) for name in classes]
    labels = [label for label, group in enumerate(groups) for _ in group]
    return [path for group in groups for path in group], labels


def _check_same(test: Path, found: set[str], train: Path, expected: set[str]) -> None:
    """Raises unless the class names are the same."""
    differ = []
    for place, names in ((test, sorted(found - expected)), (train, sorted(expected - found))):
        if names:
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            differ.append(f"only in {place}: {', '.join(names[:SHOWN])}{more}")
    if differ:
        raise IclmsrError(f"test and train have different classes; {'; '.join(differ)}")


def _image_files(folder: Path) -> list[Path]:
    """All image files at any depth below ``folder``, at least one, sorted."""
    files: list[Path] = []
    for parent, folders, names in os.walk(folder, onerror=_fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        files += [
            Path(parent, name)
            for name in names
            if name.lower().endswith(SUFFIXES) and not name.startswith(".")
        ]
    if not files:
        raise IclmsrError(f"no images in {folder}: looked for files named *{', *'.join(SUFFIXES)}")
    return sorted(files, key=Path.as_posix)


def _fail(error: OSError) -> NoReturn:
    """A folder that cannot be listed is not an empty one."""
    raise IclmsrError(f"cannot list {error.filename}: {error.strerror}") from error


def _decode(path: Path, image_size: int) -> NDArray[np.uint8]:
    """One image (3, H, W); raises anything if the file is not one."""
    with Image.open(path) as file:
        image = ImageOps.exif_transpose(file)
        if image.mode == "F":
            raise ValueError("its pixels are floating-point numbers of no known range")
        if image.mode.startswith("I"):  # 16 bits of gray, which convert would clip
            image = Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
        image = image.convert("RGB")
        if image.size != (image_size, image_size):
            image = ImageOps.fit(image, (image_size, image_size), Image.Resampling.BICUBIC)
        return np.asarray(image).transpose(2, 0, 1)
