# SPDX-License-Identifier: Apache-2.0
import os
import re

import pytest

from iclmsr.data.listing import FOLDERS, Rules, list_folder
from iclmsr.data.shard_plan import listings_of
from iclmsr.data.trees import Folder, open_tree
from iclmsr.errors import IclmsrError


def make(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def listed(root, split="train", **rules):
    return list_folder(open_tree(root), split, Rules(FOLDERS, **rules))


def pack(root):
    return listings_of(open_tree(root), Rules(FOLDERS))


def fails(message, *arguments, **rules):
    with pytest.raises(IclmsrError, match=f"^{message}$"):
        listed(*arguments, **rules)


@pytest.fixture
def animals(tmp_path):
    for split in ("train", "test"):
        make(tmp_path / split, "cat/0.png", "cat/sub/1.png", "dog/0.png", "tree frog/0.png")
    return tmp_path


def test_images_below_a_class_belong_to_it(animals):
    found = listed(animals)
    assert found.files == (
        *("train/cat/0.png", "train/cat/sub/1.png", "train/dog/0.png"),
        "train/tree frog/0.png",
    )
    assert found.labels == (0, 0, 1, 2)
    assert found.classes == ("cat", "dog", "tree frog")


@pytest.mark.parametrize("split", ["train", "test"])
def test_without_labels_every_image_is_read_whatever_folder_it_lies_in(animals, split):
    make(animals / split, "0.png", "a/b/c/0.jpg")
    found = listed(animals, split, labels=False)
    assert found.files[:2] == (f"{split}/0.png", f"{split}/a/b/c/0.jpg")
    assert found.labels == (-1,) * 6
    assert found.classes == ()


def test_without_splits_and_labels(tmp_path):
    make(tmp_path, "2021/05/0.jpg", "2020/1.jpg", "2.jpg")
    assert listed(tmp_path, labels=False).files == ("2.jpg", "2020/1.jpg", "2021/05/0.jpg")
    fails(f"no test images in {tmp_path}: .*", tmp_path, "test", labels=False)


@pytest.mark.parametrize("labels", [True, False])
def test_masks_beside_the_images_are_no_class(tmp_path, labels):
    make(tmp_path, "a/0.png", "b/0.png", "masks/a/0.png", "masks/b/0.png", "outlines/a/0.png")
    found = listed(tmp_path, apart=("masks", "outlines"), labels=labels)
    assert found.files == ("a/0.png", "b/0.png")
    assert found.classes == (("a", "b") if labels else ())


@pytest.mark.parametrize("labels", [True, False])
@pytest.mark.parametrize("name", ["0.png", "cat/0.png"])
def test_a_folder_masks_holds_no_images_though_nobody_said_so(tmp_path, name, labels):
    make(tmp_path, name, f"masks/{name}")
    found = listed(tmp_path, labels=labels)
    assert found.files == (name,)
    assert found.classes == (("cat",) if labels and "/" in name else ())


def test_a_class_that_is_called_masks(animals, tmp_path):
    make(animals, "train/masks/0.png", "test/masks/0.png", "masks/train/masks/0.png")
    assert listed(animals).classes == ("cat", "dog", "masks", "tree frog")
    make(tmp_path / "set", "cat/0.jpg", "masks/0.png", "masks/1.jpg")
    fails(
        f"{tmp_path}/set/masks/1.jpg is no PNG, but the folder masks beside classes holds masks as "
        f"PNG files: move a class of that name to {tmp_path}/set/train/masks/, and all others .*",
        tmp_path / "set",
    )


@pytest.mark.parametrize(
    ("folders", "wrong"),
    [
        (("Test", "Train"), "Test"),
        (("TRAIN",), "TRAIN"),
        (("Val", "train"), "Val"),
        (("Test", "test", "train"), "Test"),
    ],
)
@pytest.mark.parametrize("labels", [True, False])
@pytest.mark.parametrize("split", ["train", "test"])
def test_split_folders_that_are_not_in_lower_case(tmp_path, folders, wrong, labels, split):
    make(tmp_path, *(f"{folder}/{name}/0.png" for folder in folders for name in ("cat", "dog")))
    fails(
        f"{tmp_path}/{wrong} is no split, as its name is not in lower case: call it "
        f"{wrong.lower()}, or move a class of that name to {tmp_path}/train/{wrong}/, and all .*",
        *(tmp_path, split),
        labels=labels,
    )


@pytest.mark.parametrize(
    ("folders", "wrong", "known"),
    [
        (("testing", "training"), "testing", "test"),
        (("Training",), "Training", "train"),
        (("Testing", "masks", "train"), "Testing", "test"),
    ],
)
@pytest.mark.parametrize("split", ["train", "test"])
def test_split_folders_by_other_names(tmp_path, folders, wrong, known, split):
    make(tmp_path, *(f"{folder}/{name}/0.png" for folder in folders for name in ("cat", "dog")))
    fails(
        f"{tmp_path}/{wrong} is no split: call it {known}, or move a class of that name to "
        f"{tmp_path}/train/{wrong}/, and all others with it",
        *(tmp_path, split),
    )
    make(tmp_path / "other", *(f"{name}/0.png" for name in ("training", "cooking")))
    assert listed(tmp_path / "other").classes == ("cooking", "training")


@pytest.mark.parametrize("labels", [True, False])
def test_a_folder_of_masks_that_is_not_in_lower_case(tmp_path, labels):
    make(tmp_path, "cat/0.png", "dog/0.png", "Masks/cat/0.png", "Masks/dog/0.png")
    fails(
        f"{tmp_path}/Masks holds no masks, as its name is not in lower case: call it masks, or "
        f"move a class of that name to {tmp_path}/train/Masks/, and all others with it",
        tmp_path,
        labels=labels,
    )
    assert len(listed(tmp_path, labels=labels, apart=("masks", "Masks")).files) == 2
    make(tmp_path / "sorted" / "train", "Masks/0.png", "cat/0.png")
    assert listed(tmp_path / "sorted", labels=labels).files[0] == "train/Masks/0.png"


@pytest.mark.parametrize("read", [listed, pack], ids=["read", "pack"])
def test_a_class_that_is_called_train(tmp_path, read):
    make(tmp_path, *(f"{name}/0.png" for name in ("aeroplane", "bicycle", "train", "masks")))
    with pytest.raises(IclmsrError) as raised:
        read(tmp_path)
    assert str(raised.value) == (
        f"{tmp_path}/train has images but no classes, and beside it there are images in aeroplane, "
        f"bicycle: if these are classes, move a class of that name to {tmp_path}/train/train/, "
        "and all others with it; if not, move them elsewhere"
    )
    fails(".*/train has images but no classes, and beside it .*", tmp_path, labels=False)


@pytest.mark.parametrize("read", [listed, pack], ids=["read", "pack"])
def test_a_class_that_is_called_train_and_has_folders(tmp_path, read):
    make(tmp_path, "car/2018/0.png", "plane/2019/0.png", "train/2019/0.png", "train/2020/0.png")
    message = (
        f"images in car, plane beside {tmp_path}/train are not read: if these are classes, move a "
        f"class of that name to {tmp_path}/train/train/, and all others with it"
    )
    with pytest.warns(UserWarning, match="not read") as caught:
        read(tmp_path)
    assert [str(one.message) for one in caught] == [message]
    make(tmp_path, "test/2019/0.png", "test/2020/0.png")  # then train is a split
    read(tmp_path)


def test_a_split_without_classes_beside_what_is_none(tmp_path):
    make(tmp_path, "train/0.png", "test/0.png", "val/0.png", "masks/train/0.png", "notes/0.txt")
    make(tmp_path, "outlines/train/0.png")
    for labels in (True, False):
        found = listed(tmp_path, labels=labels, apart=("masks", "outlines"))
        assert found.files == ("train/0.png",)
    make(tmp_path, "train/cat/0.png", "more/0.png")
    assert listed(tmp_path, "test", labels=False).files == ("test/0.png",)


def loose(root, split="train", **rules):
    """The one warning that is given."""
    with pytest.warns(UserWarning, match="beside") as caught:
        listed(root, split, **rules)
    (warning,) = caught
    return str(warning.message)


def test_images_beside_folders_that_are_read(animals, tmp_path):
    words = "images beside the class folders will not be read"
    make(animals, "train/1.png", "train/0.JPG", "train/readme.txt", "train/.hidden.png")
    assert loose(animals) == f"2 {words}: train/0.JPG, train/1.png"
    assert listed(animals, labels=False).files[0] == "train/0.JPG"
    make(tmp_path / "flat", *(f"{number}.png" for number in range(7)), "thumbs/0.png")
    assert loose(tmp_path / "flat") == f"7 {words}: 0.png, 1.png, 2.png, 3.png, 4.png and 2 more"
    (tmp_path / "flat" / "thumbs").rename(tmp_path / "flat" / "train")
    for labels in (True, False):
        assert loose(tmp_path / "flat", labels=labels).startswith(f"7 {words}: 0.png, ")


@pytest.mark.parametrize("split", ["train", "test"])
def test_class_list(animals, tmp_path, split):
    path = tmp_path / "list.txt"
    path.write_text("# two of three\n\n tree frog \ndog, the domestic one\n".replace(",", ""))
    found = listed(animals, split, class_list=path)
    assert found.classes == ("dog", "tree frog")  # sorted, whatever the order of the list
    assert found.labels == (0, 1)
    assert found.files == (f"{split}/dog/0.png", f"{split}/tree frog/0.png")


def test_class_list_with_unknown_names(animals, tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("cat\nunicorn\nyeti\n")
    fails(
        f"data.class-list {path} names classes, one a line, that are not in {animals}/train: "
        "unicorn, yeti: choose from cat, dog, tree frog",
        animals,
        class_list=path,
    )
    path.write_text("\n".join(f"n{number}" for number in range(9)))
    fails(r".*: n0, n1, n2, n3, n4 and 4 more: choose from .*", animals, class_list=path)
    for text in ("Cat", "cat,dog", "cot cat"):
        path.write_text(text)
        fails(rf".*/train: {text.split()[0]}: did you mean .*'cat'.*", animals, class_list=path)
    path.write_text("x\n")
    make(animals, *(f"train/{number}/0.png" for number in range(9)))
    fails(".*/train: x: choose from 0, 1, 2, 3, 4 and 7 more", animals, class_list=path)
    path.write_text("# nothing\n")
    fails(f"data.class-list {path} names no class: write one a line", animals, class_list=path)
    fails(
        f"cannot read data.class-list {path}x: No such file or directory",
        animals,
        class_list=tmp_path / "list.txtx",
    )


def test_listed_classes_that_only_the_training_images_have(animals, tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("cat\ndog\n")
    make(animals, "train/only/0.png")
    assert listed(animals, "test", class_list=path).classes == ("cat", "dog")
    path.write_text("cat\nonly\n")
    fails(
        f".* names classes, one a line, that are not in {animals}/test: only: choose from .*",
        *(animals, "test"),
        class_list=path,
    )


@pytest.mark.parametrize("train", [True, False])
def test_the_silent_trap_of_one_class_called_images(tmp_path, train):
    make(tmp_path, "val/images/val_0.JPEG")
    if train:
        make(tmp_path, "train/n1/images/n1_0.JPEG", "train/n2/images/n2_0.JPEG")
    trap = (
        "is no class but a folder of unsorted images, as Tiny ImageNet's val and test have: "
        "pass --data.source tiny-imagenet and the folder that val lies in as --data.root, or "
        "--data.no-labels, or sort them into"
    )
    fails(f"{tmp_path}/val/images {trap} {tmp_path}/val/CLASS/", tmp_path, "test")
    fails(f"{tmp_path}/val/images {trap} {tmp_path}/val/CLASS/", tmp_path / "val")
    assert listed(tmp_path / "val", labels=False).files == ("images/val_0.JPEG",)


def test_an_empty_class(animals):
    (animals / "train" / "newt" / "sub").mkdir(parents=True)
    fails(
        rf"no images in {animals}/train/newt: .* \*\.png, .*; put some there, or .*",
        animals,
    )

    (animals / "train" / "eel").mkdir()
    both = rf"no images in 2 classes of {animals}/train: eel, newt: looked for files named .*"
    fails(both, animals)


def test_linked_folders_are_followed_at_any_depth(tmp_path):
    make(tmp_path / "store", "deep/0.png")
    make(tmp_path / "set", "a/1.png")
    (tmp_path / "set" / "a" / "more").symlink_to(tmp_path / "store")
    assert listed(tmp_path / "set").files == ("a/1.png", "a/more/deep/0.png")


@pytest.mark.parametrize("target", ["set", "set/a", "set/a/sub"])
def test_a_link_that_leads_back_up_is_an_error(tmp_path, target):
    make(tmp_path / "set", "a/sub/0.png")
    (tmp_path / "set" / "a" / "sub" / "loop").symlink_to(tmp_path / target)
    message = "is a symbolic link to a folder that it lies in: remove it"
    fails(f"{tmp_path}/set/a/sub/loop {message}", tmp_path / "set")
    fails(f"{tmp_path}/set/a/sub/loop {message}", tmp_path / "set", labels=False)


def test_links_that_go_round_in_circles(tmp_path):
    make(tmp_path / "set", "a/0.png")
    make(tmp_path / "other", "0.png")
    (tmp_path / "set" / "a" / "out").symlink_to(tmp_path / "other")
    (tmp_path / "other" / "back").symlink_to(tmp_path / "set" / "a")
    fails(f"{tmp_path}/set/a/out/back is a symbolic link .*", tmp_path / "set")
    (tmp_path / "other" / "back").unlink()
    (tmp_path / "other" / "self").symlink_to("self")
    fails(
        f"cannot list {tmp_path}/set/a/out/self: Too many levels of symbolic links: make .*",
        tmp_path / "set",
    )


def test_what_cannot_be_listed_beside_train_is_none_of_its_business(tmp_path):
    make(tmp_path, "train/0.png", "lost+found/0.txt")
    (tmp_path / "lost+found" / "self").symlink_to("self")
    assert listed(tmp_path).files == ("train/0.png",)


def test_what_is_neither_a_folder_nor_an_archive(tmp_path):
    make(tmp_path, "set.rar")
    message = "is neither a folder nor an archive *.tar, *.tar.gz, *.tgz or *.zip"
    fails(re.escape(f"{tmp_path}/set.rar {message}"), tmp_path / "set.rar")
    fails(f"there is no folder {tmp_path}/absent", tmp_path / "absent")


def test_a_tree_from_within(tmp_path):
    make(tmp_path, "a/b/0.png", "a/c.txt")
    tree = Folder(tmp_path).below("a")
    assert tree.files() == ["b/0.png", "c.txt"]
    assert tree.folders() == ["b"]
    assert tree.where("b") == os.fspath(tmp_path / "a" / "b")
    found = dict(tree.contents(["c.txt", "gone.txt"]))
    assert found["c.txt"] == b""
    assert isinstance(found["gone.txt"], FileNotFoundError)
