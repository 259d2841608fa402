# SPDX-License-Identifier: Apache-2.0
"""Which image files belong to a split, and what their classes are."""

from dataclasses import dataclass

from iclmsr.data.backgrounds import Backgrounds
from iclmsr.data.classes import check_same, choose, shown
from iclmsr.data.doubts import (
    LOOSE,
    check_case,
    check_masks,
    check_sorted,
    check_train,
    warn_of_loose,
)
from iclmsr.data.names import printable
from iclmsr.data.rules import FOLDERS, MASKS, SPLITS, SUFFIXES, Rules
from iclmsr.data.trees import Archive, Tree
from iclmsr.errors import IclmsrError

__all__ = [
    "FOLDERS",
    "LOOSE",
    "MASKS",
    "SUFFIXES",
    "Listing",
    "Rules",
    "check_case",
    "check_sorted",
    "classes_of",
    "images_in",
    "list_classes",
    "list_folder",
    "top",
]


@dataclass(frozen=True)
class Listing:
    """The image files of a split in their order, none of them read yet.

    Attributes:
        tree: Where the files are.
        files: (N,) paths in the tree.
        labels: (N,) in [0, C), or -1 where there is none.
        classes: The C class names, in the order of the labels.
        backgrounds: The files' backgrounds, if they are known.
    """

    tree: Tree
    files: tuple[str, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    backgrounds: Backgrounds | None = None


def top(tree: Tree) -> Tree:
    """The tree from where its splits or classes are.

    An archive of a folder often has that folder as its one and only entry: it is passed through, as
    it is where a text lies beside a folder of splits.
    On disk, ``root`` is what the user says it is.
    """
    while isinstance(tree, Archive) and (folder := _only_folder(tree)):
        tree = tree.below(folder)
    return tree


def _only_folder(tree: Tree) -> str:
    """The one folder that all files are in, if it is neither a split nor a class; else empty."""
    paths = [name.split("/") for name in tree.files()]
    folders = {path[0] for path in paths if len(path) > 1}
    inside = {path[1].lower() for path in paths if len(path) > 2}
    beside = [path[0].lower() for path in paths if len(path) == 1]
    if "train" in inside:
        beside = [name for name in beside if name.endswith(SUFFIXES)]
    if len(folders) != 1 or not inside or beside:
        return ""
    (folder,) = folders
    return "" if folder.lower() in SPLITS else folder


def list_folder(tree: Tree, split: str, rules: Rules) -> Listing:
    """The images below ``SPLIT/CLASS/``, in the order of class and path.

    Without split folders, ``CLASS/`` or images directly in the root serve as training images; the
    latter have no labels. A folder ``masks`` beside them is no class; a class of that name needs
    ``train/masks/``. Hidden files and folders and files that are no images are passed over.

    Args:
        tree: The data set.
        split: ``"train"``, ``"test"`` or the name of another split's folder.
        rules: How to read it.

    Raises:
        IclmsrError: A folder is missing or empty, or has other classes than the training images;
            or it is not clear whether it is a split or a class.
    """
    folder = _split_folder(tree, split, rules)
    if folder:
        warn_of_loose(tree, "")
    if not rules.labels:
        check_train(tree, folder, rules)
    classes = classes_of(tree, folder, rules) if rules.labels else ()
    if not classes:
        files = images_in(tree, folder, rules)
        if rules.labels and split != "train":
            place = tree.where(folder)
            raise IclmsrError(f"{place} has images but no classes: move them to {place}/CLASS/")
        return Listing(tree, files, (-1,) * len(files), ())
    _check_classes(tree, split, folder, classes, rules)
    return list_classes(tree, folder, classes, rules)


def list_classes(tree: Tree, folder: str, classes: tuple[str, ...], rules: Rules) -> Listing:
    """The images in the class folders of a split's folder, in the order of class and path.

    Args:
        tree: The data set.
        folder: The split's.
        classes: The folders in it to read.
        rules: How to read them.

    Raises:
        IclmsrError: Classes are empty; all of them are named.
    """
    groups = [rules.images(tree, _join(folder, name)) for name in classes]
    empty = [name for name, group in zip(classes, groups, strict=True) if not group]
    if empty:
        several = f"{len(empty):,} classes of {tree.where(folder)}: {shown(empty)}"
        raise _no_images(tree.where(_join(folder, empty[0])) if len(empty) == 1 else several)
    warn_of_loose(tree, folder)
    labels = tuple(label for label, group in enumerate(groups) for _ in group)
    return Listing(tree, tuple(path for group in groups for path in group), labels, classes)


def classes_of(tree: Tree, folder: str, rules: Rules) -> tuple[str, ...]:
    """The class folders in a split's folder, sorted, or those of them that the list names.

    Raises:
        IclmsrError: The list cannot be read, or names no class here; ``train`` may be a class.
    """
    check_train(tree, folder, rules)
    found = [name for name in tree.folders(folder) if _join(folder, name) not in rules.apart]
    return choose(found, rules.class_list, tree.where(folder))


def _split_folder(tree: Tree, split: str, rules: Rules) -> str:
    """Where the split's class folders are: a folder named after it, or the root itself."""
    inside = tree.folders()
    check_case(tree, inside)
    there = {
        name: [folder for folder in folders if folder in inside]
        for name, folders in rules.folders.items()
    }
    if split not in there:
        return split
    if there[split]:
        return there[split][0]
    if split == "train" and not there["test"]:
        check_masks(tree, rules)
        return ""
    names = rules.folders[split]
    raise IclmsrError(
        f"no {split} images in {tree.where('')}: looked for a folder {' or '.join(names)}; "
        f"put the images into {tree.where(names[0])}/CLASS/"
    )


def _check_classes(
    tree: Tree, split: str, folder: str, classes: tuple[str, ...], rules: Rules
) -> None:
    """Raises where class folders are none, or are not those of the training images."""
    for name in classes:
        if not folder and "train" in tree.folders(name):
            root, nested = tree.where(""), tree.where(name)
            advice = f"pass --data.root {nested}"
            if isinstance(tree, Archive):
                advice = f"unpack it, or pack folder {printable(name)} alone"
            raise IclmsrError(f"{root} has no folder train, but {nested} has: {advice}")
    check_sorted(tree, folder, classes)
    if split != "train" and "train" in tree.folders():
        train = classes_of(tree, "train", rules)
        check_same(classes, tree.where(folder), train, tree.where("train"), split=split)


def images_in(tree: Tree, folder: str, rules: Rules) -> tuple[str, ...]:
    """All image files at any depth below ``folder``, sorted.

    Raises:
        IclmsrError: There is none.
    """
    files = rules.images(tree, folder)
    if not files:
        raise _no_images(tree.where(folder))
    return files


def _no_images(where: str) -> IclmsrError:
    """The error of a place without images."""
    return IclmsrError(
        f"no images in {where}: looked for files named *{', *'.join(SUFFIXES)}; put some there, or "
        "remove what is empty"
    )


def _join(folder: str, name: str) -> str:
    """The path of ``name`` in ``folder``."""
    return f"{folder}/{name}" if folder else name
