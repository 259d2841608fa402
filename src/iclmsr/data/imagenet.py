# SPDX-License-Identifier: Apache-2.0
"""Tiny ImageNet, as its authors hand it out or re-filed by class."""

from dataclasses import replace
from pathlib import Path

from iclmsr.data.archives import check_md5, find_official
from iclmsr.data.classes import check_same, choose, shown
from iclmsr.data.listing import Listing, Rules, classes_of, images_in, list_folder
from iclmsr.data.names import printable
from iclmsr.data.official import Official, warn_unless_official
from iclmsr.data.trees import Tree
from iclmsr.errors import IclmsrError

FOLDERS = {"train": ("train",), "test": ("val", "validation", "valid", "test")}
"""ImageNet's own test images have no labels: one tests on those for validation."""
TINY = Official(
    folder="tiny-imagenet-200",
    archive="tiny-imagenet-200.zip",
    size=248_100_043,
    md5="90528d7ca1a48142e341f4ef8d21d0de",
    parts={},
)
CLASSES = 200
COUNTS = {"train": 100_000, "test": 10_000}
ANNOTATIONS, WNIDS = "val/val_annotations.txt", "wnids.txt"


def find_tiny_imagenet(root: Path) -> Path:
    """The unpacked folder or the official archive in ``root``, or ``root`` itself.

    Raises:
        IclmsrError: The archive has the official name and size, but not its checksum.
    """
    found = find_official(root, [TINY])
    place = root if found is None else found[0]
    if place.is_file():
        check_md5(place, TINY)
    return place


def list_tiny_imagenet(tree: Tree, split: str, rules: Rules) -> Listing:
    """The images of a split, in the order of class (WordNet id) and path.

    The test images are the official ``val``: in one folder, with their classes in
    ``val_annotations.txt``, or re-filed as ``val/CLASS/`` or ``test/CLASS/``; the same images in
    the same order either way. The official ``test`` has no labels. Sets of another size are
    listed too, with a warning.

    Args:
        tree: The data set.
        split: ``"train"``, ``"test"`` or the name of another split's folder.
        rules: How to read it; its ``folders`` do not count.

    Raises:
        IclmsrError: Images are missing or have no class, or the classes are not those of the
            training images.

    Source: Stanford CS231n; layout of tiny-imagenet-200.zip. Departure: none.
    """
    rules = replace(rules, folders=FOLDERS)
    texts = {}
    for name, content in tree.contents([ANNOTATIONS, WNIDS]):
        if isinstance(content, bytes):
            texts[name] = content.decode("utf-8-sig", "replace")
        elif not isinstance(content, FileNotFoundError):
            raise IclmsrError(
                f"cannot read {tree.where(name)}: {content.strerror or content}: make it readable"
            )
    if WNIDS in texts and "train" in tree.folders():
        _check_complete(tree, set(texts[WNIDS].split()))
    here = next((name for name in FOLDERS["test"] if name in tree.folders()), "")
    if split != "test" or not here or tree.folders(here) != ["images"]:
        listing = list_folder(tree, split, rules)
    elif ANNOTATIONS in texts and here == "val":
        listing = _list_annotated(tree, texts[ANNOTATIONS], rules)
    else:
        raise IclmsrError(
            f"the images in {tree.where(here)}/images have no classes: Tiny ImageNet is tested on "
            f"its folder val, whose classes are in {ANNOTATIONS}"
        )
    if rules.labels and rules.class_list is None:
        sizes = [
            (len(listing.classes), CLASSES, "classes"),
            *((len(listing.files), count, "images") for count in [COUNTS.get(split)] if count),
        ]
        warn_unless_official(tree.place, TINY, sizes)
    return listing


def _check_complete(tree: Tree, expected: set[str]) -> None:
    """Raises unless the training classes are those that the data set lists."""
    missing = expected.difference(tree.folders("train"))
    if missing:
        raise IclmsrError(
            f"{tree.where('train')} lacks classes that {WNIDS} names: {shown(missing)}"
        )


def _list_annotated(tree: Tree, text: str, rules: Rules) -> Listing:
    """The official validation images, sorted by the class that their line names."""
    files = images_in(tree, "val/images", rules)
    if not rules.labels:
        return Listing(tree, files, (-1,) * len(files), ())
    where = tree.where(ANNOTATIONS)
    wnid_of: dict[str, str] = {}
    for line in filter(None, text.splitlines()):
        name, *rest = line.split("\t")
        if not rest:
            raise IclmsrError(f"{where}: expected file, class and box with tabs between: {line!r}")
        if wnid_of.setdefault(f"val/images/{name}", rest[0]) != rest[0]:
            raise IclmsrError(f"{where}: {printable(name)} has two classes: leave one line")
    for there, listed, what in (
        (set(files), wnid_of.keys(), "has no line for"),
        (wnid_of.keys(), set(files), "names images that are not there:"),
    ):
        if there - listed:
            raise IclmsrError(f"{where} {what} {shown(there - listed)}")
    if "train" in tree.folders():
        expected = tree.folders("train")
        check_same(set(wnid_of.values()), where, expected, tree.where("train"))
        classes = classes_of(tree, "train", rules)
    else:
        classes = choose(sorted(set(wnid_of.values())), rules.class_list, where)
    label_of = {name: label for label, name in enumerate(classes)}
    chosen = sorted((label_of[wnid], name) for name, wnid in wnid_of.items() if wnid in label_of)
    labels, names = zip(*chosen, strict=True)
    return Listing(tree, names, labels, classes)
