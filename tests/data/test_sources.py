# SPDX-License-Identifier: Apache-2.0
import dataclasses
import inspect
import re

import numpy as np
import pytest
import torch
from PIL import Image

from iclmsr.data import sources
from iclmsr.data.images import ImageSet
from iclmsr.data.sources import SOURCES, DataConfig, load
from iclmsr.data.synthetic import SyntheticConfig, make_synthetic
from iclmsr.errors import IclmsrError

COUNT = 4


def fails(message, config, split="train"):
    with pytest.raises(IclmsrError, match=f"^{message}$"):
        load(config, split)


def write_binary(folder):
    """Batches of records: label, then three planes of one gray level, the record's number."""
    folder.mkdir()
    for batch, name in enumerate(
        [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
    ):
        records = np.repeat(np.arange(COUNT, dtype=np.uint8)[:, None] + batch * COUNT, 3073, axis=1)
        records[:, 0] %= 10
        (folder / f"{name}.bin").write_bytes(records.tobytes())


def write_images(root, *paths, size=32):
    for number, path in enumerate(paths):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (size, size), (number, number, number)).save(root / path)


@pytest.fixture
def few(monkeypatch):
    """Twenty numbered images in place of the synthetic ones."""
    images = torch.arange(20, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 4, 4)
    numbered = ImageSet(images, torch.arange(20) % 2, ("a", "b"), backgrounds=torch.arange(20))
    monkeypatch.setitem(SOURCES, "synthetic", lambda config, split: numbered)
    return numbered


def test_cifar10_from_official_files(tmp_path):
    write_binary(tmp_path / "cifar-10-batches-bin")
    with pytest.warns(UserWarning, match="is not of the official size"):
        train = load(DataConfig(root=tmp_path), "train")
    assert train.images.shape == (5 * COUNT, 3, 32, 32)
    assert train.images[:, 0, 0, 0].tolist() == list(range(5 * COUNT))
    with pytest.warns(UserWarning, match="is not of the official size"):
        test = load(DataConfig(root=tmp_path / "cifar-10-batches-bin"), "test")
    assert test.labels.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("size", [16, 48])
def test_cifar10_from_official_files_in_another_size(tmp_path, size):
    write_binary(tmp_path / "cifar-10-batches-bin")
    with pytest.warns(UserWarning, match="is not of the official size"):
        train = load(DataConfig(root=tmp_path, image_size=size), "train")
    assert train.images.shape == (5 * COUNT, 3, size, size)
    assert train.images.dtype == torch.uint8
    assert torch.equal(train.images[:, 0, 0, 0], torch.arange(5 * COUNT, dtype=torch.uint8))


def test_cifar10_from_a_folder_by_class(tmp_path):
    write_images(tmp_path, "train/cat/0.png", "train/dog/0.png", "test/cat/0.png", "test/dog/0.png")
    train = load(DataConfig(root=tmp_path), "train")
    assert train.classes == ("cat", "dog")
    assert train.images[:, 0, 0, 0].tolist() == [0, 1]
    assert load(DataConfig(root=tmp_path), "test").images[:, 0, 0, 0].tolist() == [2, 3]


def test_cifar10_prefers_the_official_files(tmp_path):
    write_images(tmp_path, "train/cat/0.png")
    write_binary(tmp_path / "cifar-10-batches-bin")
    with pytest.warns(UserWarning, match="is not of the official size"):
        assert len(load(DataConfig(root=tmp_path), "train")) == 5 * COUNT


def test_cifar10_nowhere(tmp_path):
    (tmp_path / "readme.txt").write_text("nothing")
    fails(
        rf"no CIFAR-10 in {tmp_path}: looked for cifar-10-batches-py, cifar-10-batches-bin, "
        r"cifar-10-python\.tar\.gz, cifar-10-binary\.tar\.gz, and for images in train/CLASS and "
        "test/CLASS",
        DataConfig(root=tmp_path),
    )


def test_folder_passes_size_and_treatment_of_corrupt_files_on(tmp_path):
    write_images(tmp_path, "train/a/0.png", "train/b/0.png", size=20)
    (tmp_path / "train" / "a" / "1.png").write_text("no image")
    config = DataConfig(source="folder", root=tmp_path, image_size=10)
    fails(r".*/a/1\.png does not decode .* pass --data\.on-corrupt skip to leave .*", config)
    found = load(dataclasses.replace(config, on_corrupt="skip"), "train")
    assert found.images.shape == (2, 3, 10, 10)
    assert found.skipped == (str(tmp_path / "train" / "a" / "1.png"),)


@pytest.mark.parametrize("split", ["train", "test", "test-swapped"])
def test_synthetic_passes_everything_on(monkeypatch, split):
    calls = []

    def make(config, split, *, seed, image_size):
        calls.append((config, split, seed, image_size))
        return ImageSet(torch.zeros(1, 3, 4, 4, dtype=torch.uint8), torch.zeros(1).long(), ("a",))

    monkeypatch.setattr(sources, "make_synthetic", make)
    config = DataConfig(source="synthetic", image_size=24, seed=7)
    assert len(load(config, split)) == 1
    assert calls == [(SyntheticConfig(), split, 7, 24)]
    assert list(inspect.signature(make_synthetic).parameters) == list(
        inspect.signature(make).parameters
    )


@pytest.mark.parametrize("source", ["cifar10", "folder"])
def test_root_has_to_be_set_and_to_exist(tmp_path, source):
    fails(
        rf"data\.root is not set: pass --data\.root PATH, .* source '{source}' .*",
        DataConfig(source=source),
    )
    absent = tmp_path / "absent"
    fails(rf"data\.root {absent} does not exist", DataConfig(source=source, root=absent))


def test_folder_at_a_file(tmp_path):
    (tmp_path / "file").touch()
    config = DataConfig(source="folder", root=tmp_path / "file")
    fails(f"there is no folder {tmp_path}/file", config)


def test_unknown_source():
    fails(r"unknown data\.source 'cifar': did you mean 'cifar10'\?", DataConfig(source="cifar"))
    fails(
        r"unknown data\.source 'xyz': choose from cifar10, folder, synthetic",
        DataConfig(source="xyz"),
    )


@pytest.mark.parametrize("source", ["cifar10", "folder"])
def test_unknown_split(tmp_path, source):
    write_images(tmp_path, "train/a/0.png")
    config = DataConfig(source=source, root=tmp_path)
    message = f"data.source '{source}' has no split 'test-swapped': choose train or test"
    fails(re.escape(message), config, "test-swapped")


def test_limit_draws_from_the_training_images(few):
    config = DataConfig(source="synthetic", limit=8)
    first = load(config, "train")
    drawn = first.images[:, 0, 0, 0].tolist()
    assert drawn == sorted(set(drawn))
    assert len(drawn) == 8
    assert drawn != list(range(8))
    assert first.backgrounds.tolist() == drawn
    assert first.labels.tolist() == [number % 2 for number in drawn]
    assert load(config, "train").fingerprint() == first.fingerprint()
    other = load(dataclasses.replace(config, seed=1), "train")
    assert other.fingerprint() != first.fingerprint()


def test_limit_leaves_the_test_images_alone(few):
    assert len(load(DataConfig(source="synthetic", limit=3), "test")) == 20
    assert len(load(DataConfig(source="synthetic", limit=300), "test")) == 20


def test_limit_of_all(few):
    assert (
        load(DataConfig(source="synthetic", limit=20), "train").fingerprint() == few.fingerprint()
    )


@pytest.mark.parametrize("limit", [0, -5, 21])
def test_limit_out_of_range(few, limit):
    message = rf"data\.limit must be in \[1, 20\], the number of training images, got {limit}"
    fails(message, DataConfig(source="synthetic", limit=limit))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"image_size": 0}, r"data\.image-size must be > 0 pixels, got 0"),
        ({"image_size": -3}, r"data\.image-size must be > 0 pixels, got -3"),
        ({"std": (0.2, 0.0, 0.2)}, r"data\.std must be > 0, got \(0\.2, 0\.0, 0\.2\)"),
        ({"std": (0.2, -1.0, 0.2)}, r"data\.std must be > 0, got .*"),
        ({"std": (0.2, float("nan"), 0.2)}, r"data\.std must be > 0, got .*"),
        ({"mean": (0.2, float("inf"), 0.2)}, r"data\.mean must be finite, got .*"),
    ],
)
def test_values_out_of_range(values, message):
    with pytest.raises(IclmsrError, match=f"^{message}$"):
        DataConfig(**values)


def test_default_constants_are_those_of_cifar10():
    config = DataConfig()
    assert config.mean == (0.4914, 0.4822, 0.4465)
    assert config.std == (0.2023, 0.1994, 0.2010)


def test_every_field_has_a_docstring():
    body = inspect.getsource(DataConfig)
    for field in dataclasses.fields(DataConfig):
        assert re.search(rf'\n    {field.name}: [^\n]+\n    """', body), field.name
