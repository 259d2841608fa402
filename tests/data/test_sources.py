# SPDX-License-Identifier: Apache-2.0
import dataclasses
import inspect
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from iclmsr.data import readers
from iclmsr.data.cifar import CIFAR10, CIFAR100
from iclmsr.data.found import guess
from iclmsr.data.images import ImageSet
from iclmsr.data.sources import SOURCES, DataConfig, load, open_split, prepare
from iclmsr.data.synthetic import SyntheticConfig, make_synthetic
from iclmsr.errors import IclmsrError

COUNT = 4


def fails(message, config, split="train"):
    with pytest.raises(IclmsrError, match=f"^{message}$"):
        load(config, split)


def write_binary(folder, layout=CIFAR10.layouts[1]):
    """Files of records: labels, then three planes of one gray level, the record's number."""
    folder.mkdir()
    labels = 1 if layout is CIFAR10.layouts[1] else 2
    for file, name in enumerate([*layout.parts["train"], *layout.parts["test"]]):
        numbers = np.arange(COUNT, dtype=np.uint8)[:, None] + file * COUNT
        records = np.repeat(numbers, labels + 3072, axis=1)
        records[:, :labels] %= 10
        (folder / name).write_bytes(records.tobytes())


def write_stl10(folder):
    """Training images 0 and 1, unlabelled ones 2, 3 and 4, test image 5, each of its number."""
    folder.mkdir()
    for split, numbers in (("train", [0, 1]), ("unlabeled", [2, 3, 4]), ("test", [5])):
        pixels = b"".join(bytes([number]) * 3 * 96 * 96 for number in numbers)
        (folder / f"{split}_X.bin").write_bytes(pixels)
        if split != "unlabeled":
            (folder / f"{split}_y.bin").write_bytes(bytes(number + 1 for number in numbers))


def write_images(root, *paths, size=32):
    for number, path in enumerate(paths):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (size, size), (number, number, number)).save(root / path)


@pytest.fixture
def few(monkeypatch):
    """Twenty numbered images in place of the synthetic ones."""
    images = torch.arange(20, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 4, 4)
    numbered = ImageSet(images, torch.arange(20) % 2, ("a", "b"), backgrounds=torch.arange(20))
    monkeypatch.setitem(SOURCES, "synthetic", lambda config, split, draw: draw.of(numbered))
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


@pytest.mark.filterwarnings("ignore:.*official size")
@pytest.mark.parametrize("layout", CIFAR100.layouts[1:])
def test_cifar100_from_official_files(tmp_path, layout):
    write_binary(tmp_path / layout.folder, layout)
    config = DataConfig(source="cifar100", root=tmp_path)
    assert load(config, "pretrain").labels.tolist() == [0, 1, 2, 3]
    assert load(config, "test").labels.tolist() == [4, 5, 6, 7]
    assert load(config, "train").classes == CIFAR100.classes
    fails("no CIFAR-10 in .*", DataConfig(source="cifar10", root=tmp_path / layout.folder))


@pytest.mark.filterwarnings("ignore:.*official size")
def test_stl10_pretrains_on_unlabelled_images_too(tmp_path):
    write_stl10(tmp_path / "stl10_binary")
    config = DataConfig(source="stl10", root=tmp_path, image_size=96)
    numbers = {split: load(config, split) for split in ("pretrain", "train", "test")}
    assert [found.images[:, 0, 0, 0].tolist() for found in numbers.values()] == [
        *([0, 1, 2, 3, 4], [0, 1], [5])
    ]
    assert [found.labels.tolist() for found in numbers.values()] == [
        [0, 1, -1, -1, -1],
        [0, 1],
        [5],
    ]
    few = load(dataclasses.replace(config, limit=3), "pretrain")
    assert len(few) == 3
    assert set(few.images.flatten().tolist()) < {0, 1, 2, 3, 4}
    fails(r"data\.limit must be in \[1, 2\], .*", dataclasses.replace(config, limit=3), "train")


@pytest.mark.filterwarnings("ignore:.*official size")
def test_evaluation_sees_the_centre_of_a_resized_image(tmp_path):
    write_stl10(tmp_path / "stl10_binary")
    config = DataConfig(
        source="stl10", root=tmp_path, image_size=96, evaluate_resize=70, evaluate_crop=64
    )
    assert load(config, "pretrain").images.shape == (5, 3, 96, 96)
    assert load(config, "train").images.shape == (2, 3, 64, 64)
    assert load(config, "test").images.shape == (1, 3, 64, 64)


@pytest.mark.parametrize("source", ["cifar10", "cifar100", "stl10", "tiny-imagenet", "imagenet"])
@pytest.mark.filterwarnings("ignore:.*official size")
def test_every_data_set_may_be_a_folder_by_class(tmp_path, source):
    write_images(tmp_path, "train/a/0.png", "train/b/0.png", "test/a/0.png", "test/b/0.png")
    config = DataConfig(source=source, root=tmp_path)
    found = [load(config, split) for split in ("pretrain", "train", "test")]
    assert [images.images[:, 0, 0, 0].tolist() for images in found] == [[0, 1], [0, 1], [2, 3]]
    assert all(images.classes == ("a", "b") for images in found)


@pytest.mark.parametrize(
    ("source", "name", "places"),
    [
        (
            *("cifar10", "CIFAR-10"),
            "cifar-10-batches-py, cifar-10-batches-bin, cifar-10-python.tar.gz, "
            "cifar-10-binary.tar.gz",
        ),
        (
            *("cifar100", "CIFAR-100"),
            "cifar-100-python, cifar-100-binary, cifar-100-python.tar.gz, cifar-100-binary.tar.gz",
        ),
        ("stl10", "STL-10", "stl10_binary, stl10_binary.tar.gz"),
    ],
)
def test_data_sets_that_are_not_there(tmp_path, source, name, places):
    (tmp_path / "readme.txt").write_text("nothing")
    fails(
        re.escape(
            f"no {name} in {tmp_path}: looked for {places}, and for images in train/CLASS and "
            "test/CLASS"
        ),
        DataConfig(source=source, root=tmp_path),
    )


def test_folder_passes_size_and_treatment_of_corrupt_files_on(tmp_path):
    write_images(tmp_path, "train/a/0.png", "train/b/0.png", size=20)
    (tmp_path / "train" / "a" / "1.png").write_text("no image")
    config = DataConfig(source="folder", root=tmp_path, image_size=10)
    fails(r".*/a/1\.png does not decode .* pass --data\.on-corrupt skip to leave .*", config)
    found = load(dataclasses.replace(config, on_corrupt="skip"), "train")
    assert found.images.shape == (2, 3, 10, 10)
    assert found.skipped == (str(tmp_path / "train" / "a" / "1.png"),)


@pytest.mark.parametrize("split", ["pretrain", "train", "test", "test-swapped"])
def test_synthetic_passes_everything_on(monkeypatch, split):
    calls = []

    def make(config, split, *, seed, image_size):
        calls.append((config, split, seed, image_size))
        return ImageSet(torch.zeros(1, 3, 4, 4, dtype=torch.uint8), torch.zeros(1).long(), ("a",))

    monkeypatch.setattr(readers, "make_synthetic", make)
    config = DataConfig(source="synthetic", image_size=24, seed=7)
    assert len(load(config, split)) == 1
    assert calls == [(SyntheticConfig(), split.removeprefix("pre"), 7, 24)]
    assert list(inspect.signature(make_synthetic).parameters) == list(
        inspect.signature(make).parameters
    )


@pytest.mark.parametrize("source", [name for name in SOURCES if name != "synthetic"])
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
    fails(f"{tmp_path}/file is neither a folder nor an archive .*", config)


@pytest.mark.filterwarnings("ignore:.*official size")
@pytest.mark.parametrize("option", ["class_list", "masks"])
@pytest.mark.parametrize("source", ["cifar10", "stl10", "synthetic"])
def test_options_for_image_files_only(tmp_path, source, option):
    write_binary(tmp_path / "cifar-10-batches-bin")
    write_stl10(tmp_path / "stl10_binary")
    config = DataConfig(source=source, root=tmp_path, **{option: tmp_path})
    name = option.replace("_", "-")
    fails(f"data.{name} is for images in files, which source '{source}' at {tmp_path} .*", config)


def test_options_of_image_files_are_passed_on(tmp_path):
    write_images(tmp_path / "set", "a/0.png", "b/0.png", "c/0.png", size=8)
    write_images(tmp_path / "set", "masks/b/0.png", size=8)
    (tmp_path / "list.txt").write_text("b\n")
    root = tmp_path / "set"
    config = DataConfig(
        source="folder", root=root, masks=root, class_list=tmp_path / "list.txt", image_size=8
    )
    found = load(config, "train")
    assert found.images.flatten().unique().tolist() == [1]
    assert found.classes == ("b",)
    assert found.masks.shape == (1, 8, 8)
    config = DataConfig(source="folder", root=root, labels=False, limit=2, image_size=8)
    assert load(config, "pretrain").labels.tolist() == [-1, -1]
    fails(
        f"data.masks {root}/nowhere does not exist",
        dataclasses.replace(config, masks=root / "nowhere"),
    )


def test_root_that_cannot_be_read(tmp_path, monkeypatch):
    def stat(self, **options):
        raise PermissionError(13, "Permission denied")

    config = DataConfig(root=tmp_path)
    monkeypatch.setattr("pathlib.Path.stat", stat)  # root may read everything
    fails(f"cannot read data.root {tmp_path}: Permission denied", config)


@pytest.fixture
def locked(tmp_path, monkeypatch):
    """A folder without any rights; the superuser may read it all the same, so it is made up."""
    folder, access, stat = tmp_path / "locked", os.access, Path.stat
    folder.mkdir()

    def refused(self, **options):
        if folder in self.parents:
            raise PermissionError(13, "Permission denied", str(self))
        return stat(self, **options)

    monkeypatch.setattr("pathlib.Path.stat", refused)
    monkeypatch.setattr("os.access", lambda path, *rest: path != folder and access(path, *rest))
    return folder


@pytest.mark.parametrize("source", [name for name in SOURCES if name != "synthetic"])
def test_a_root_without_rights_is_named_and_no_file_in_it(locked, source):
    message = f"cannot read {locked}: Permission denied: make the folder readable, or move .*"
    fails(message, DataConfig(source=source, root=locked))
    with pytest.raises(IclmsrError, match=f"^{message}$"):
        prepare(DataConfig(source=source, root=locked), "train")
    with pytest.raises(IclmsrError, match=f"^{message}$"):
        guess(locked)


def test_masks_without_rights_are_named(locked, tmp_path):
    write_images(tmp_path / "set", "a/0.png", "b/0.png")
    config = DataConfig(source="folder", root=tmp_path / "set", masks=locked)
    fails(f"cannot read {locked}: Permission denied: make the folder readable, .*", config)


def test_unknown_source():
    message = r"unknown data\.source 'cifar': did you mean 'cifar10' or 'cifar100'\?"
    fails(message, DataConfig(source="cifar"))
    fails(
        r"unknown data\.source 'xyz': choose from cifar10, cifar100, folder, hf, imagenet, stl10, "
        "synthetic, tiny-imagenet",
        DataConfig(source="xyz"),
    )


@pytest.mark.parametrize("source", [name for name in SOURCES if name != "synthetic"])
def test_unknown_split(tmp_path, source):
    write_images(tmp_path, "train/a/0.png")
    config = DataConfig(source=source, root=tmp_path)
    message = f"data.source '{source}' has no split 'test-swapped': choose pretrain, train or test"
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
        ({"evaluate_resize": 0}, r"data\.evaluate-resize must be > 0 pixels, got 0"),
        ({"evaluate_crop": -1}, r"data\.evaluate-crop must be > 0 pixels, got -1"),
        ({"evaluate_crop": 33}, r"data\.evaluate-crop must be at most 32 pixels, .*, got 33"),
        ({"evaluate_resize": 9, "evaluate_crop": 10}, r"data\.evaluate-crop .* most 9 pix.*"),
        ({"labels": False, "class_list": Path("x")}, r"data\.class-list needs classes: .*"),
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


def masked(root):
    write_images(
        root,
        *(
            f"{split}/{name}/{n}.png"
            for split in ("train", "test")
            for name in "ab"
            for n in range(4)
        ),
    )
    for path in root.rglob("*.png"):
        mask = Image.new("L", (32, 32))
        mask.paste(255, (8, 8, 20, 24))
        place = root / "masks" / path.relative_to(root)
        place.parent.mkdir(parents=True, exist_ok=True)
        mask.save(place)
    return DataConfig(source="folder", root=root, masks=root)


@pytest.mark.parametrize("split", ["pretrain", "test"])
def test_synthetic_images_without_labels(split):
    config = DataConfig(source="synthetic", labels=False, limit=3)
    found = load(config, split)
    assert found.labels.unique().tolist() == [-1]
    assert found.classes == ()
    assert found.images.equal(load(dataclasses.replace(config, labels=True), split).images)


def test_variants_are_made_on_the_fly(tmp_path):
    config = masked(tmp_path)
    black = load(dataclasses.replace(config, variant="only_fg", filler="black"), "test")
    whole = load(config, "test")
    assert torch.equal(black.images, whole.images * whole.masks[:, None])
    for variant in ("mixed_same", "mixed_rand"):
        mixed = dataclasses.replace(config, variant=variant)
        train, test = load(mixed, "train"), load(mixed, "test")
        assert train.fingerprint() == load(mixed, "pretrain").fingerprint()
        assert train.fingerprint() == load(mixed, "train").fingerprint()
        again = load(dataclasses.replace(mixed, seed=1), "train")
        assert train.fingerprint() != again.fingerprint()
        for images, numbers in ((train, range(8)), (test, range(8, 16))):
            corners = images.images[:, 0, 0, 0].tolist()  # the donor's number
            assert set(corners) <= set(numbers)
            assert corners != images.images[:, 0, 16, 16].tolist()
    few = load(dataclasses.replace(config, variant="mixed_rand", limit=3), "train")
    assert set(few.images[:, 0, 0, 0].tolist()) <= set(few.images[:, 0, 16, 16].tolist())


def test_a_variant_follows_the_size_and_the_centre_of_evaluation(tmp_path):
    config = dataclasses.replace(
        masked(tmp_path), variant="no_fg", evaluate_resize=24, evaluate_crop=16
    )
    found = load(config, "test")
    assert found.images.shape == (8, 3, 16, 16)
    assert not found.images[:, :, 4:10, 4:10].any()


def test_what_variants_need(tmp_path):
    config = masked(tmp_path)
    plain = dataclasses.replace(config, masks=None, variant="only_fg")
    fails("variant only_fg needs foreground masks: pass --data.masks PATH; .*", plain)
    with pytest.raises(IclmsrError, match=r"^data\.variant only_fg is for images in memory, .*"):
        open_split(dataclasses.replace(plain, resident="disk"), "train")
