# SPDX-License-Identifier: Apache-2.0
import re
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from iclmsr.data.found import has_split
from iclmsr.data.sources import DataConfig, load, prepare
from iclmsr.errors import IclmsrError

PATHS = [
    *("train/cat/0.png", "train/cat/1.png", "train/dog/0.png"),
    *("test/cat/0.png", "test/dog/0.png"),
    *("val/cat/0.png", "val/dog/0.png", "test-swapped/cat/0.png", "test-swapped/dog/0.png"),
]
NAMES = ["sea", "alp", "sea", "lake", "alp", "alp", "lake", "sea", "sea"]


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Nine images, each of its number, and their backgrounds."""
    monkeypatch.setenv("ICLMSR_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "set"
    for number, path in enumerate(PATHS):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(root / path)
    write(root, *zip(PATHS, NAMES, strict=True))
    return root


def write(root, *rows, head="path,background"):
    text = "\n".join([head, *(",".join(row) for row in rows)])
    (root / "backgrounds.csv").write_text(text + "\n")


def config(root, **options):
    return DataConfig(source="folder", root=root, image_size=8, **options)


def fails(message, root, split="train", **options):
    with pytest.raises(IclmsrError, match=f"^{message}"):
        load(config(root, **options), split)


def test_names_are_kept_as_they_are_written(root):
    write(
        root, *zip(PATHS, [name.title() if name == "sea" else name for name in NAMES], strict=True)
    )
    found = load(config(root), "train")
    assert found.background_names == ("Sea", "alp", "lake")
    assert found.backgrounds.tolist() == [0, 1, 0]
    write(root, *zip(PATHS, ["sea", "Sea", *NAMES[2:]], strict=True))
    assert load(config(root), "train").backgrounds.tolist() == [3, 0, 3]


@pytest.mark.parametrize(
    ("split", "numbers", "backgrounds"),
    [
        ("pretrain", [0, 1, 2], [2, 0, 2]),
        ("train", [0, 1, 2], [2, 0, 2]),
        ("test", [3, 4], [1, 0]),
        ("val", [5, 6], [0, 1]),
        ("test-swapped", [7, 8], [2, 2]),
    ],
)
@pytest.mark.parametrize("packed", ["folder", "tar", "zip", "prepared"])
def test_splits_and_their_backgrounds(root, tmp_path, packed, split, numbers, backgrounds):
    place = root
    if packed == "tar":
        place = tmp_path / "set.tar"
        with tarfile.open(place, "w") as archive:
            archive.add(root, "set")
    if packed == "zip":
        place = tmp_path / "set.zip"
        with zipfile.ZipFile(place, "w") as archive:
            for file in sorted(root.rglob("*.*")):
                archive.write(file, file.relative_to(root))
    if packed == "prepared":
        prepare(config(place), split)
    assert has_split(config(place), split) == (split not in ("pretrain", "train"))
    found = load(config(place), split)
    assert found.images[:, 0, 0, 0].tolist() == numbers
    assert found.backgrounds.tolist() == backgrounds
    assert found.background_names == ("alp", "lake", "sea")
    assert found.classes == ("cat", "dog")


def test_backgrounds_follow_their_images(root):
    drawn = load(config(root, limit=2), "train")
    names = [drawn.background_names[number] for number in drawn.backgrounds]
    assert names == [NAMES[number] for number in drawn.images[:, 0, 0, 0].tolist()]
    (root / PATHS[0]).write_text("no image")
    kept = load(config(root, on_corrupt="skip"), "train")
    assert kept.images[:, 0, 0, 0].tolist() == [1, 2]
    assert kept.backgrounds.tolist() == [0, 2]


def test_without_the_file_there_are_none(root):
    (root / "backgrounds.csv").unlink()
    found = load(config(root), "train")
    assert found.backgrounds is None
    assert found.background_names == ()


def test_a_prepared_split_sees_that_the_file_has_changed(root):
    prepare(config(root), "train")
    write(root, *((path, "moor") for path in PATHS))
    with pytest.warns(UserWarning, match="have changed since"):
        assert load(config(root), "train").background_names == ("moor",)


def test_lines_that_are_missing_or_wrong(root):
    where = re.escape(f"{root}/backgrounds.csv")
    rows = list(zip(PATHS, NAMES, strict=True))
    write(root, *rows[1:])
    message = f"{where} has no line for train/cat/0.png: write one for every image, or remove"
    fails(message, root)
    assert load(config(root), "test").backgrounds.tolist() == [1, 0]  # its own lines are there
    write(root, *rows, rows[3])
    fails(rf"{where}, line 11: a second one for 'test/cat/0\.png'", root)
    write(root, *rows, ("train/cat/9.png",))
    fails(rf"{where}, line 11: expected path,background, got 'train/cat/9\.png'", root)
    write(root, *rows, ("train/cat/9.png", ""))
    fails(rf"{where}, line 11: expected path,background, got", root)
    write(root, *rows, ("x" * 101,))
    fails(rf"{where}, line 11: expected path,background, got '{'x' * 100}\.\.\.'$", root)
    write(root, *rows[1:], head=",".join(rows[0]))  # a header is not needed
    assert load(config(root), "train").backgrounds.tolist() == [2, 0, 2]


def test_a_quote_that_is_not_closed(root):
    write(root, ('"train/cat/0.png', "sea"), *((path, "alp") for path in PATHS * 1000))
    where = re.escape(f"{root}/backgrounds.csv")
    fails(rf"cannot read {where}, line \d+: field larger than .*: close every quote$", root)


def test_val_serves_as_test_where_there_is_no_other(root):
    for path in PATHS[3:5]:
        (root / path).unlink()
        (root / path).parent.rmdir()
    (root / "test").rmdir()
    for split in ("test", "val"):
        assert load(config(root), split).images[:, 0, 0, 0].tolist() == [5, 6]


def test_a_split_has_the_classes_of_train(root):
    (root / "val" / "dog").rename(root / "val" / "fox")
    message = "val and train have different classes; only in .*/val: fox; only in .*/train: dog"
    fails(message, root, "val")


@pytest.mark.parametrize("split", ["masks", "nowhere", "cat", "train/cat", ""])
def test_what_is_no_split(root, split):
    (root / "masks" / "train").mkdir(parents=True)
    assert not has_split(config(root), split)
    message = rf"data\.source 'folder' has no split '{split}': choose pretrain, train or test"
    fails(message, root, split)


def test_class_folders_are_no_splits(tmp_path):
    for name in ("cat", "val"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / name / "0.png")
    with pytest.raises(IclmsrError, match="has no split 'cat'"):
        load(config(tmp_path), "cat")
