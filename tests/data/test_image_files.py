# SPDX-License-Identifier: Apache-2.0
import re

import numpy as np
import pytest
import torch
from PIL import Image

from iclmsr.data.image_files import kinds_of, numbered, write_backgrounds, write_split
from iclmsr.data.images import ImageSet
from iclmsr.errors import IclmsrError

PIXELS = torch.arange(3 * 3 * 4 * 4, dtype=torch.uint8).reshape(3, 3, 4, 4)
MASKS = PIXELS[:, 0] % 3 == 0


def images(labels, classes, **others):
    return ImageSet(PIXELS, torch.tensor(labels), classes, **others)


def tree(root):
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*"))


def test_the_class_of_every_image():
    assert kinds_of(images([1, 0, 1], ("a", "b c")), "test") == ["b c", "a", "b c"]
    assert numbered(images([1, 0, 1], ("a", "b")), "test") == [
        "b/000000.png",
        "a/000001.png",
        "b/000002.png",
    ]
    assert numbered(images([-1, -1, -1], ()), "test") == ["000000.png", "000001.png", "000002.png"]


def test_images_without_a_label_are_counted():
    message = "2 of 3 test images have no label: label them, or pass --data.no-labels"
    with pytest.raises(IclmsrError, match=f"^{message}"):
        numbered(images([-1, 0, -1], ("a",)), "test")


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hidden", "/etc", "animal/cat", "a\\b", "..\\up", "a\0"]
)
def test_names_that_no_folder_can_have(name):
    message = f"^class {re.escape(repr(name))} cannot be the name of a folder: rename it"
    with pytest.raises(IclmsrError, match=message):
        kinds_of(images([0, 1, 1], ("a", name)), "test")
    assert kinds_of(images([0, 0, 0], ("a", name)), "test") == ["a"] * 3  # nobody needs it


def test_images_and_masks_in_folders_of_classes_that_have_some(tmp_path):
    some = images([2, 0, 2], ("a", "b", "c"), masks=MASKS)
    assert list(write_split(tmp_path, "test", some, numbered(some, "test"))) == []
    files = [f"{place}/{name}" for place in ("masks/test", "test") for name in numbered(some, "")]
    assert [name for name in tree(tmp_path) if name.endswith(".png")] == sorted(files)
    assert not list(tmp_path.rglob("b"))
    for number, name in enumerate(numbered(some, "")):
        image = np.asarray(Image.open(tmp_path / "test" / name))
        assert (image == PIXELS[number].permute(1, 2, 0).numpy()).all()
        mask = np.asarray(Image.open(tmp_path / "masks" / "test" / name))
        assert (mask == MASKS[number].numpy() * 255).all()


def test_classes_in_one_folder(tmp_path):
    alike = images([0, 1, 1], ("a", "a"))
    with pytest.raises(IclmsrError, match="^class 'a' would be in one folder with another class"):
        list(write_split(tmp_path, "test", alike, numbered(alike, "test")))


@pytest.mark.parametrize(("names", "called"), [(("sea", "sky"), "sky"), ((), "0001")])
def test_backgrounds_where_they_are_known(tmp_path, names, called):
    some = images([0, 0, 0], ("a",), backgrounds=torch.ones(3).long(), background_names=names)
    rows = list(write_split(tmp_path, "test", some, ["a/2.png", "a/\udce9.png", "a/0.png"]))
    write_backgrounds(tmp_path, rows)
    lines = (tmp_path / "backgrounds.csv").read_bytes().splitlines()
    paths = (b"test/a/0.png", b"test/a/2.png", b"test/a/\xe9.png")
    assert lines == [b"path,background", *(path + b"," + called.encode() for path in paths)]


def test_no_backgrounds_no_file(tmp_path):
    write_backgrounds(tmp_path, [])
    assert tree(tmp_path) == []
