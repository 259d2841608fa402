# SPDX-License-Identifier: Apache-2.0
"""Folders whose names leave it open whether they are splits, classes or masks."""

import contextlib
import warnings

from iclmsr.data.classes import shown
from iclmsr.data.names import counted, printable
from iclmsr.data.rules import CALLED, MASKS, SPLITS, SUFFIXES, Rules
from iclmsr.data.trees import Tree
from iclmsr.errors import IclmsrError

LOOSE = "beside the class folders will not be read"


def check_case(tree: Tree, folders: list[str]) -> None:
    """Raises where a folder is called almost like that of a split, and none is a class."""
    meant = {name: CALLED.get(name.lower(), name.lower()) for name in folders}
    if not set(meant.values()) <= {*SPLITS, MASKS}:
        return  # a class may be called Train
    for name, known in meant.items():
        if known in SPLITS and name != known:
            why = ", as its name is not in lower case" if name.lower() == known else ""
            raise IclmsrError(
                f"{tree.where(name)} is no split{why}: call it {known}, or {_as_class(tree, name)}"
            )


def check_masks(tree: Tree, rules: Rules) -> None:
    """Raises where a folder beside classes is called like that of the masks and is a class."""
    if MASKS not in rules.apart:
        return
    for name in tree.folders():
        if name.lower() == MASKS and name not in rules.apart:
            raise IclmsrError(
                f"{tree.where(name)} holds no masks, as its name is not in lower case: call it "
                f"{MASKS}, or {_as_class(tree, name)}"
            )
    for name in tree.files(MASKS) if MASKS in tree.folders() else []:
        if name.lower().endswith(SUFFIXES[1:]):
            raise IclmsrError(
                f"{tree.where(name)} is no PNG, but the folder {MASKS} beside classes holds masks "
                f"as PNG files: {_as_class(tree, MASKS)}"
            )


def check_train(tree: Tree, folder: str, rules: Rules) -> None:
    """Raises, or warns, where ``train`` may be a class beside others, which nothing would read.

    Args:
        tree: The data set.
        folder: Of the split that is read.
        rules: How to read it.

    Raises:
        IclmsrError: It has images and no folders. Where it has folders, and there is no split to
            test on, it is a warning.
    """
    if folder != "train":
        return
    flat, inside = not tree.folders(folder), tree.folders()
    if not flat and not SPLITS.isdisjoint({*inside} - {folder}):
        return
    beside = [name for name in inside if name not in SPLITS and _has_images(tree, name, rules)]
    if not beside:
        return
    as_class = _as_class(tree, folder)
    if flat:
        raise IclmsrError(
            f"{tree.where(folder)} has images but no classes, and beside it there are images in "
            f"{shown(beside)}: if these are classes, {as_class}; if not, move them elsewhere"
        )
    warnings.warn(
        f"images in {shown(beside)} beside {tree.where(folder)} are not read: if these are "
        f"classes, {as_class}",
        stacklevel=3,
    )


def _has_images(tree: Tree, folder: str, rules: Rules) -> bool:
    """Whether there are images below a folder; none are in one that cannot be listed."""
    with contextlib.suppress(IclmsrError):
        return bool(rules.images(tree, folder))
    return False


def _as_class(tree: Tree, name: str) -> str:
    """What to do about a class whose name says that it is none, in words that end a message."""
    return (
        f"move a class of that name to {tree.where('train')}/{printable(name)}/, and all others "
        "with it"
    )


def warn_of_loose(tree: Tree, folder: str) -> None:
    """Says which images beside folders that are read are not."""
    loose = [name for name in tree.files_in(folder) if name.lower().endswith(SUFFIXES)]
    if loose:
        warnings.warn(f"{counted(len(loose), 'image')} {LOOSE}: {shown(loose)}", stacklevel=3)


def check_sorted(tree: Tree, folder: str, classes: tuple[str, ...]) -> None:
    """Raises where the only class is a folder that has images of all classes.

    Args:
        tree: The data set.
        folder: A split's.
        classes: The folders in it.

    Raises:
        IclmsrError: It is so: an accuracy on one class would be 100 %.
    """
    if classes == ("images",):
        start = f"{folder}/" if folder else ""
        raise IclmsrError(
            f"{tree.where(f'{start}images')} is no class but a folder of unsorted images, as Tiny "
            "ImageNet's val and test have: pass --data.source tiny-imagenet and the folder that "
            "val lies in as --data.root, or --data.no-labels, or sort them into "
            f"{tree.where(f'{start}CLASS')}/"
        )
