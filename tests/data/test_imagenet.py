# SPDX-License-Identifier: Apache-2.0
import hashlib
import tarfile
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from iclmsr.data import imagenet
from iclmsr.data.imagenet import TINY
from iclmsr.data.single import Plain
from iclmsr.data.sources import DataConfig, load
from iclmsr.data.synthetic import SyntheticConfig, make_synthetic
from iclmsr.errors import IclmsrError

WNIDS = ("n01443537", "n01629819", "n02002724")
SIZE = 64
pytestmark = pytest.mark.filterwarnings("ignore:.*is not of the official size")


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(path, "png")  # as .JPEG: no loss


@pytest.fixture
def official(tmp_path):
    """The official layout: 4 training and 3 validation images a class, and unlabelled ones."""
    root = tmp_path / "tiny-imagenet-200"
    count = 8 * len(WNIDS)
    images = iter(
        make_synthetic(SyntheticConfig(train=count), "train", seed=0, image_size=SIZE).images
    )
    lines = []
    for place, wnid in enumerate(WNIDS):
        for number in range(4):
            save(root / "train" / wnid / "images" / f"{wnid}_{number}.JPEG", next(images))
        (root / "train" / wnid / f"{wnid}_boxes.txt").write_text(f"{wnid}_0.JPEG\t0\t0\t62\t62\n")
        for number in range(3):
            name = f"val_{number * 7 + 5 * place}.JPEG"
            save(root / "val" / "images" / name, next(images))
            lines.append(f"{name}\t{wnid}\t0\t32\t44\t62\n")
        save(root / "test" / "images" / f"test_{place}.JPEG", next(images))
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    (root / "wnids.txt").write_text("\n".join(reversed(WNIDS)) + "\n")
    (root / "words.txt").write_text(f"{WNIDS[0]}\tgoldfish, Carassius auratus\n")
    return root


def read(root, split="train", *, source="tiny-imagenet", **options):
    return load(DataConfig(source=source, root=root, image_size=SIZE, **options), split)


def fails(message, root, split="train", **options):
    with pytest.raises(IclmsrError, match=f"^{message}$"):
        read(root, split, **options)


def refile(root, *, into="val", sub=""):
    """Validation images in one folder per class."""
    for line in (root / "val" / "val_annotations.txt").read_text().splitlines():
        name, wnid, *_ = line.split("\t")
        (root / into / wnid / sub).mkdir(parents=True, exist_ok=True)
        (root / "val" / "images" / name).rename(root / into / wnid / sub / name)
    (root / "val" / "images").rmdir()


def test_official_layout(official):
    train, test = read(official), read(official, "test")
    assert train.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert test.labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    assert train.classes == test.classes == WNIDS
    for path, image in zip(sorted((official / "train").rglob("*.JPEG")), train.images, strict=True):
        with Image.open(path) as file:
            assert np.array_equal(np.asarray(file), image.permute(1, 2, 0).numpy())
    for root in (official.parent, official):
        assert read(root, "test").fingerprint() == test.fingerprint()
        assert read(root, "pretrain").fingerprint() == train.fingerprint()


def test_labels_of_the_validation_images_are_those_of_their_lines(official):
    seen = {}
    for line in (official / "val" / "val_annotations.txt").read_text().splitlines():
        name, wnid, *_ = line.split("\t")
        with Image.open(official / "val" / "images" / name) as file:
            seen[file.tobytes()] = wnid
    test = read(official, "test")
    assert len(seen) == len(test) == 9
    for image, label in zip(test.images, test.labels, strict=True):
        pixels = image.permute(1, 2, 0).contiguous().numpy().tobytes()
        assert seen[pixels] == test.classes[label]


@pytest.mark.parametrize("into", ["val", "test"])
@pytest.mark.parametrize("sub", ["", "images"])
def test_refiled_layouts_give_the_same_set(official, into, sub):
    expected = read(official, "test").fingerprint()
    if into == "test":
        for path in sorted((official / "test").rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
    refile(official, into=into, sub=sub)
    if into == "test":
        (official / "val" / "val_annotations.txt").unlink()
        (official / "val").rmdir()
    assert read(official, "test").fingerprint() == expected


@pytest.mark.parametrize("name", ["tiny-imagenet-200.zip", "tiny.zip", "tiny.tar.gz"])
def test_packed(official, tmp_path, name):
    expected = [read(official, split).fingerprint() for split in ("train", "test")]
    path = tmp_path / "packed" / name
    path.parent.mkdir()
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file in official.rglob("*"):
                archive.write(file, file.relative_to(tmp_path))
    else:
        with tarfile.open(path, "w:gz") as archive:
            archive.add(official, official.name)
    assert [read(path, split).fingerprint() for split in ("train", "test")] == expected
    if name == TINY.archive:
        assert read(path.parent).fingerprint() == expected[0]


def test_checksum_of_the_official_archive(official, tmp_path, monkeypatch):
    assert (TINY.size, TINY.md5) == (248_100_043, "90528d7ca1a48142e341f4ef8d21d0de")
    path = tmp_path / TINY.archive
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(official / "words.txt")
    monkeypatch.setattr(imagenet, "TINY", replace(TINY, size=path.stat().st_size))
    found = hashlib.md5(path.read_bytes()).hexdigest()
    fails(f"{path}: corrupt archive: the official md5 is {TINY.md5}, found {found}; .*", path)


def test_another_size_than_the_official_one_is_said(official, monkeypatch):
    with pytest.warns(UserWarning, match="3 classes .official 200., 12 images .official 100,000."):
        read(official)
    with pytest.warns(UserWarning, match="3 classes .official 200., 9 images .official 10,000."):
        read(official, "test")


@pytest.mark.filterwarnings("error")
def test_a_chosen_part_or_the_official_size_does_not_warn(official, monkeypatch, tmp_path):
    (tmp_path / "list.txt").write_text("\n".join(WNIDS[1:]))
    for split, count in (("train", 8), ("test", 6)):
        found = read(official, split, class_list=tmp_path / "list.txt")
        assert found.classes == WNIDS[1:]
        assert found.labels.bincount().tolist() == [count // 2] * 2
    assert read(official, labels=False).labels.tolist() == [-1] * 12
    assert read(official, "test", labels=False).labels.tolist() == [-1] * 9
    monkeypatch.setattr(imagenet, "CLASSES", 3)
    monkeypatch.setattr(imagenet, "COUNTS", {"train": 12, "test": 9})
    assert len(read(official)) == 12
    assert len(read(official, "test")) == 9


def test_unlabelled_test_images_are_not_a_test_set(official):
    (official / "val" / "val_annotations.txt").rename(official / "annotations.txt")
    message = (
        "have no classes: Tiny ImageNet is tested on its folder val, whose classes are in "
        "val/val_annotations.txt"
    )
    fails(f"the images in {official}/val/images {message}", official, "test")
    (official / "val").rename(official / "validated")
    fails(f"the images in {official}/test/images {message}", official, "test")


def test_annotations_that_do_not_fit(official):
    path = official / "val" / "val_annotations.txt"
    text = path.read_text()
    path.write_text(text.replace("val_0.JPEG", "val_99.JPEG"))
    fails(rf"{path} has no line for val/images/val_0\.JPEG", official, "test")
    path.write_text(text + f"val_99.JPEG\t{WNIDS[0]}\t0\t0\t1\t1\n")
    fails(rf"{path} names images that are not there: val/images/val_99\.JPEG", official, "test")
    path.write_text(text.replace("\t", " "))
    fails(
        rf"{path}: expected file, class and box with tabs between: 'val_0\.JPEG .*",
        official,
        "test",
    )
    path.write_text(text.replace(WNIDS[2], WNIDS[0]))
    fails(
        f"test and train have different classes; only in {official}/train: {WNIDS[2]}: give both "
        "the same",
        official,
        "test",
    )
    path.write_text(text.replace(WNIDS[2], "n09999999"))
    fails(
        f".*; only in {path}: n09999999; only in {official}/train: {WNIDS[2]}: give both the same",
        official,
        "test",
    )


@pytest.mark.parametrize("name", ["wnids.txt", "val/val_annotations.txt"])
def test_lists_that_cannot_be_read_are_not_taken_for_missing(official, name, monkeypatch):
    real = Plain.__call__

    def denied(self):
        return PermissionError(13, "Permission denied") if self.path.endswith(name) else real(self)

    monkeypatch.setattr("iclmsr.data.single.Plain.__call__", denied)
    for split in ("train", "test"):
        fails(rf"cannot read .*/{name}: Permission denied: make it readable", official, split)


def test_missing_training_classes(official):
    (official / "train" / WNIDS[1]).rename(official / "gone")
    message = f"{official}/train lacks classes that wnids.txt names: {WNIDS[1]}"
    fails(message, official)
    fails(message, official, "test")


def test_validation_images_without_training_images(official):
    (official / "train").rename(official / "gone")
    assert read(official, "test").labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    fails(f"no train images in {official}: .*", official)


def test_masks_follow_the_official_paths(official, tmp_path):
    for path in official.rglob("*.JPEG"):
        save(
            (tmp_path / "masks" / path.relative_to(official)).with_suffix(".png"),
            torch.eye(SIZE).mul(255).byte().expand(3, -1, -1),
        )
    for split in ("train", "test"):
        found = read(official, split, masks=tmp_path / "masks")
        assert torch.equal(found.masks, torch.eye(SIZE).bool().expand(len(found), -1, -1))


@pytest.mark.filterwarnings("error")
def test_imagenet_is_tested_on_its_validation_images(official, tmp_path):
    (tmp_path / "list.txt").write_text(f"{WNIDS[2]} black stork\n{WNIDS[0]}\n")
    expected = read(official, "test", class_list=tmp_path / "list.txt")
    refile(official)
    options = {"source": "imagenet", "class_list": tmp_path / "list.txt"}
    found = read(official, "test", **options)
    assert found.fingerprint() == expected.fingerprint()
    assert found.classes == read(official, **options).classes == (WNIDS[0], WNIDS[2])
    assert read(official, source="imagenet").classes == WNIDS


def test_imagenet_without_class_folders(official):
    images = official / "val" / "images"
    for path in images.iterdir():
        path.rename(official / "val" / path.name)
    images.rmdir()
    fails(
        f"{official}/val has images but no classes: move them to {official}/val/CLASS/",
        official,
        "test",
        source="imagenet",
    )


def test_two_classes_of_one_validation_image(official):
    path = official / "val" / "val_annotations.txt"
    text = path.read_text()
    path.write_text(f"{text}val_0.JPEG\t{WNIDS[1]}\t0\t0\t9\t9\n")
    fails(rf"{path}: val_0\.JPEG has two classes: leave one line", official, "test")
    path.write_text(f"{text}val_0.JPEG\t{WNIDS[0]}\t0\t0\t9\t9\n")  # another box
    assert len(read(official, "test")) == 9


def test_a_byte_order_mark_is_no_part_of_a_name(official, tmp_path):
    expected = read(official, "test").fingerprint()
    for path in (official / "val" / "val_annotations.txt", official / "wnids.txt"):
        path.write_text(path.read_text(), encoding="utf-8-sig")
    assert read(official, "test").fingerprint() == expected
    (tmp_path / "list.txt").write_text("\n".join(WNIDS[:2]), encoding="utf-8-sig")
    assert read(official, class_list=tmp_path / "list.txt").classes == WNIDS[:2]
