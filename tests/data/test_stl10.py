# SPDX-License-Identifier: Apache-2.0
import dataclasses
import gzip
import hashlib
import io
import re
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from iclmsr.data import stl10
from iclmsr.data.check import check
from iclmsr.data.config import DataConfig
from iclmsr.data.draw import Draw
from iclmsr.data.resize import centre_view, resized
from iclmsr.data.sample import draw_sample
from iclmsr.data.sources import load
from iclmsr.data.stl10 import CLASSES, STL10, holds_stl10, read_folds, read_stl10
from iclmsr.data.synthetic import SyntheticConfig, make_synthetic
from iclmsr.errors import IclmsrError

COUNTS = {"train": 7, "unlabeled": 12, "test": 5}
LABELS = {"train": [1, 10, 3, 3, 5, 9, 2], "test": [10, 9, 8, 7, 6]}
FOLDS = [[0, 2, 5], [1, 6, 3]]
ALL = Draw()


@pytest.fixture(scope="module")
def pixels():
    """Drawn shapes on textures, no two of which are alike, nor symmetric."""
    count = sum(COUNTS.values())
    images = make_synthetic(SyntheticConfig(train=count), "train", seed=0, image_size=96).images
    return dict(zip(COUNTS, images.split(list(COUNTS.values())), strict=True))


@pytest.fixture
def files(pixels):
    """The files of the official layout, written value by value where that says the most."""
    found = {
        f"{split}_X.bin": images.transpose(2, 3).contiguous().numpy().tobytes()
        for split, images in pixels.items()
    }
    found |= {f"{split}_y.bin": bytes(labels) for split, labels in LABELS.items()}
    folds = "".join(" ".join(map(str, fold)) + " \n" for fold in FOLDS)
    return found | {
        "class_names.txt": "\n".join(CLASSES).encode(),
        "fold_indices.txt": folds.encode(),
    }


def unpack(root, files):
    folder = root / "stl10_binary"
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def pack(root, files):
    root.mkdir(exist_ok=True)
    path = root / "stl10_binary.tar.gz"
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for name, content in reversed(files.items()):
            member = tarfile.TarInfo(f"stl10_binary/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def read(root, split="train", *, size=96, draw=ALL):
    with pytest.warns(UserWarning, match="is not of the official size: [0-9]+ images in"):
        return read_stl10(root, split, image_size=size, draw=draw)


def fails(message, root, split="train"):
    with pytest.raises(IclmsrError, match=f"^{message}$"):
        read_stl10(root, split, image_size=96, draw=ALL)


@pytest.mark.filterwarnings("ignore:.*official size")
def test_every_place_gives_the_written_pixels(tmp_path, pixels, files):
    archive = pack(tmp_path / "packed", files)
    folder = unpack(tmp_path / "unpacked", files)
    renamed = archive.with_name("mine.tar.gz")
    renamed.write_bytes(archive.read_bytes())
    for root in (archive, archive.parent, renamed, folder, folder.parent):
        assert holds_stl10(root)
        for split in ("train", "test"):
            found = read_stl10(root, split, image_size=96, draw=ALL)
            assert torch.equal(found.images, pixels[split])
            assert found.labels.tolist() == [label - 1 for label in LABELS[split]]
            assert found.labels.dtype == torch.int64
            assert found.classes == CLASSES
        found = read_stl10(root, "pretrain", image_size=96, draw=ALL)
        assert torch.equal(found.images, torch.cat([pixels["train"], pixels["unlabeled"]]))
        assert found.labels.tolist() == [label - 1 for label in LABELS["train"]] + [-1] * 12
        assert [fold.tolist() for fold in read_folds(root)] == FOLDS


def test_planes_run_down_the_columns(tmp_path, files):
    record = np.zeros((3, 96 * 96), np.uint8)
    record[0, 1] = 10  # the second value lies below the first
    record[1, 96] = 20  # the 97th is the top of the second column
    record[2, 95 * 96] = 30  # the last column begins here
    files |= {"test_X.bin": record.tobytes(), "test_y.bin": bytes([1])}
    found = read(unpack(tmp_path, files), "test").images[0]
    assert found[0, 1, 0] == 10
    assert found[1, 0, 1] == 20
    assert found[2, 0, 95] == 30
    assert found.sum() == 60


@pytest.mark.parametrize("chunk", [1, 4, 5, 1000])
@pytest.mark.parametrize("limit", [1, 6, 19])
@pytest.mark.parametrize("packed", [False, True])
def test_drawn_images_are_those_of_the_whole(tmp_path, monkeypatch, files, chunk, limit, packed):
    monkeypatch.setattr(stl10, "CHUNK", chunk)
    place = (pack if packed else unpack)(tmp_path / "data", files)
    draw = Draw(limit=limit, seed=2)
    found = read(place, "pretrain", draw=draw)
    assert found.fingerprint() == draw.of(read(place, "pretrain")).fingerprint()


def test_another_size(tmp_path, pixels, files):
    found = read(unpack(tmp_path, files), size=40)
    assert torch.equal(found.images, resized(pixels["train"], 40))


def test_evaluation_sees_what_the_protocol_says(tmp_path, pixels, files):
    """Resize(70, bicubic) and CenterCrop(64) of each image by Pillow, to a grey level."""
    found = centre_view(read(unpack(tmp_path, files)), resize=70, crop=64).images
    for image, seen in zip(pixels["train"], found, strict=True):
        whole = Image.fromarray(image.permute(1, 2, 0).numpy())
        centre = whole.resize((70, 70), Image.Resampling.BICUBIC).crop((3, 3, 67, 67))
        expected = torch.from_numpy(np.array(centre)).permute(2, 0, 1)
        assert (seen.int() - expected.int()).abs().max() <= 1


def test_a_sheet_shows_images_to_pretrain_on(tmp_path, files):
    unpack(tmp_path, files)
    config = DataConfig("stl10", tmp_path, 96)
    with pytest.warns(UserWarning, match="not of the official size"):
        sample = draw_sample(check(config), 64, seed=0)
    with pytest.warns(UserWarning, match="not of the official size"):
        expected = load(config, "pretrain").images
    assert len(expected) == COUNTS["train"] + COUNTS["unlabeled"]
    found = {image.numpy().tobytes() for image in sample.images.images}
    assert found == {image.numpy().tobytes() for image in expected}


def test_official_numbers():
    assert (STL10.size, STL10.md5) == (2_640_397_119, "91f7769df0f17e558f3565bffb0c7dfb")
    assert stl10.COUNTS == {"train_X.bin": 5000, "unlabeled_X.bin": 100_000, "test_X.bin": 8000}


def test_checksum(tmp_path, monkeypatch, files):
    path = pack(tmp_path, files)
    monkeypatch.setattr(stl10, "STL10", dataclasses.replace(STL10, size=path.stat().st_size))
    found = hashlib.md5(path.read_bytes()).hexdigest()
    fails(f"{path}: corrupt archive: the official md5 is {STL10.md5}, found {found}; .*", path)


def test_official_size_does_not_warn(tmp_path, monkeypatch, files):
    counts = {f"{split}_X.bin": count for split, count in COUNTS.items()}
    monkeypatch.setattr(stl10, "COUNTS", counts)
    assert len(read_stl10(unpack(tmp_path, files), "pretrain", image_size=96, draw=ALL)) == 19


@pytest.mark.filterwarnings("ignore:.*official size")
def test_truncated_archive(tmp_path, files):
    path = pack(tmp_path, files)
    content = path.read_bytes()
    for length in (0, 100, len(content) // 2, len(content) - 9):
        path.write_bytes(content[:length])
        fails(rf"{path}: truncated or corrupt archive \(.*\): found .* md5 {STL10.md5}; .*", path)
    path.write_bytes(gzip.compress(bytes(5)))
    fails(rf"{path}: truncated or corrupt archive .*", path)


@pytest.mark.filterwarnings("ignore:.*official size")
@pytest.mark.parametrize("packed", [False, True])
def test_missing_files(tmp_path, files, packed):
    for number, name in enumerate(["train_X.bin", "train_y.bin", "unlabeled_X.bin"]):
        rest = {other: content for other, content in files.items() if other != name}
        place = (pack if packed else unpack)(tmp_path / str(number), rest)
        where = f"{place}, folder stl10_binary" if packed else place
        fails(f"{name} is missing: looked in {where}", place, "pretrain")
        assert len(read_stl10(place, "test", image_size=96, draw=ALL)) == 5
    folder = unpack(tmp_path / "folds", {"train_X.bin": b""})
    with pytest.raises(IclmsrError, match=rf"^fold_indices\.txt is missing: looked in {folder}$"):
        read_folds(folder)


@pytest.mark.filterwarnings("ignore:.*official size")
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train_X.bin", bytes(27_649), "expected a multiple of 27,648 bytes, found 27,649"),
        ("train_X.bin", b"", "expected a multiple of 27,648 bytes, found 0"),
        ("train_y.bin", bytes(6), "6 labels, but train_X.bin has 7 images"),
        ("train_y.bin", bytes([1, 0, 1, 1, 1, 1, 1]), "labels must be in 1..10, found 0"),
        ("train_y.bin", bytes([1, 11, 1, 1, 1, 1, 1]), "labels must be in 1..10, found 11"),
        ("class_names.txt", b"cat dog", "expected 10 class names, found 2"),
    ],
)
def test_wrong_content(tmp_path, files, name, content, message):
    folder = unpack(tmp_path, files | {name: content})
    fails(re.escape(f"{folder}/{name}: {message}"), folder)


def test_folds_that_are_no_numbers(tmp_path, files):
    folder = unpack(tmp_path, files | {"fold_indices.txt": b"1 2\nthree"})
    with pytest.raises(IclmsrError, match=rf"^{folder}/fold_indices\.txt: expected lines of int"):
        read_folds(folder)


@pytest.mark.parametrize(
    ("content", "found"), [("0 1 7", "7"), ("0 1\n-1 0", "-1"), ("", "none"), (" \n", "none")]
)
def test_folds_that_are_no_places(tmp_path, files, content, found):
    folder = unpack(tmp_path, files | {"fold_indices.txt": content.encode()})
    message = f"{folder}/fold_indices.txt: expected lines of places in 0..6, found {found}"
    with pytest.raises(IclmsrError, match=f"^{re.escape(message)}$"):
        read_folds(folder)


def test_nothing_there(tmp_path):
    assert not holds_stl10(tmp_path)
    fails(rf"no STL-10 in {tmp_path}: looked for stl10_binary, stl10_binary\.tar\.gz", tmp_path)
