# SPDX-License-Identifier: Apache-2.0
"""How folders of images are read: what files and folders are called, and what a user chose."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from iclmsr.data.trees import Tree

SUFFIXES = tuple(
    ".png .jpg .jpeg .jfif .webp .bmp .gif .tif .tiff .ppm .pgm .pbm .pnm .jp2".split()  # noqa: SIM905
)
MASKS = "masks"
"""The folder beside splits or classes that holds masks; nothing in it is an image."""
FOLDERS = {"train": ("train",), "test": ("test", "val", "valid", "validation")}
CALLED = {"training": "train", "testing": "test"}
"""What folders of splits are called elsewhere, and here."""
SPLITS = {name for names in FOLDERS.values() for name in names}


@dataclass(frozen=True)
class Rules:
    """How folders are read.

    Attributes:
        folders: Names that a split's folder may have; the first one that is there counts.
        labels: Whether the folders in it are classes; if not, no image has a label.
        class_list: The text file that names the classes to use; None uses all.
        apart: Folders in the tree that hold no images, but masks.
    """

    folders: Mapping[str, tuple[str, ...]]
    labels: bool = True
    class_list: Path | None = None
    apart: tuple[str, ...] = (MASKS,)

    def sets_apart(self, name: str) -> bool:
        """Whether a file is a mask.

        >>> Rules({}).sets_apart("masks/a/0.png"), Rules({}).sets_apart("train/masks/0.png")
        (True, False)
        """
        return name.startswith(tuple(f"{folder}/" for folder in self.apart))

    def images(self, tree: Tree, folder: str) -> tuple[str, ...]:
        """All image files at any depth below a folder, sorted; masks are none."""
        return tuple(
            name
            for name in tree.files(folder)
            if name.lower().endswith(SUFFIXES) and not self.sets_apart(name)
        )
