# SPDX-License-Identifier: Apache-2.0
import io

import datasets
import numpy as np
import pytest
from PIL import Image

from iclmsr import cli
from iclmsr.data.cifar import CIFAR10
from iclmsr.data.sources import DataConfig, load
from iclmsr.masks.files import make_masks
from iclmsr.masks.named import MaskConfig

pytestmark = pytest.mark.filterwarnings("ignore:.*is not of the official size:UserWarning")


@pytest.fixture
def root(tmp_path):
    layout = CIFAR10.layouts[1]
    (tmp_path / "cifar" / layout.folder).mkdir(parents=True)
    for seed, name in enumerate([*layout.parts["train"], *layout.parts["test"]]):
        records = np.random.default_rng(seed).integers(0, 256, (10, 3073), np.uint8)
        records[:, 0] = np.random.default_rng(seed).permutation(10)
        (tmp_path / "cifar" / layout.folder / name).write_bytes(records.tobytes())
    return tmp_path / "cifar"


def run(*words, capsys):
    code = cli.main(["data", "unpack", *map(str, words)])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_official_images_get_files_and_then_masks(root, tmp_path, capsys):
    out = tmp_path / "out"
    code, said, err = run(root, out, capsys=capsys)
    assert (code, err) == (0, "")
    assert said.splitlines()[:2] == ["train: 50 images", "test: 10 images"]
    make_masks(out, out / "masks", MaskConfig("saliency"))
    for split in ("train", "test"):
        expected = load(DataConfig("cifar10", root), split)
        found = load(DataConfig("cifar10", out, masks=out), split)
        order = expected.labels.argsort(stable=True)
        assert found.images.equal(expected.images[order])
        assert found.labels.equal(expected.labels[order])
        assert sorted(found.classes) == sorted(expected.classes)
        assert found.masks.any()
    code, _, err = run(root, out, capsys=capsys)
    assert (code, err) == (2, f"error: {out} is there already: remove it, or name another folder\n")


def test_without_labels_and_in_another_size(root, tmp_path, capsys):
    words = (root, tmp_path / "out", "--data.no-labels", "--data.image-size", "16")
    assert run(*words, capsys=capsys)[0] == 0
    assert len(list((tmp_path / "out" / "test").glob("*.png"))) == 10
    found = load(DataConfig("folder", tmp_path / "out", 16, labels=False), "train")
    expected = load(DataConfig("cifar10", root, 16), "train")
    assert found.images.equal(expected.images)


@pytest.fixture
def columns(tmp_path):
    """Writes images with labels, of which there may be too few, and masks in columns."""

    def png(pixels):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        return {"bytes": file.getvalue(), "path": None}

    def write(labels, names):
        draw = np.random.default_rng(0)
        images = [png(draw.integers(0, 256, (8, 8, 3), np.uint8)) for _ in labels]
        masks = [png(draw.integers(0, 2, (8, 8), np.uint8) * np.uint8(255)) for _ in labels]
        kinds = {"image": datasets.Image(), "mask": datasets.Image()}
        features = datasets.Features(kinds | {"label": datasets.ClassLabel(names=names)})
        rows = {"image": images, "mask": masks, "label": labels}
        dataset = datasets.Dataset.from_dict(rows, features)
        datasets.disable_progress_bars()
        dataset.save_to_disk(tmp_path / "columns")
        datasets.enable_progress_bars()
        return tmp_path / "columns"

    return write


def test_masks_come_along_and_classes_without_images_do_not(columns, tmp_path, capsys):
    root, out = columns([2, 0, 2], ["ant", "bee", "cat"]), tmp_path / "out"
    code, said, err = run(root, out, capsys=capsys)
    assert (code, err) == (0, "")
    assert said.splitlines() == [
        "train: 3 images with masks; no images, so no folder, of bee",
        f"read it: --data.source folder --data.root {out} --data.masks {out}",
    ]
    expected = load(DataConfig("hf", root, 8), "train")
    found = load(DataConfig("folder", out, 8, masks=out), "train")
    assert found.classes == ("ant", "cat")
    for one in ("images", "masks"):
        assert getattr(found, one).equal(getattr(expected, one)[[1, 0, 2]])


def test_what_is_known_of_synthetic_images_comes_along(tmp_path, capsys):
    sizes = [f"--data.synthetic.{name}" for name in ("train", "val", "test")]
    few = [word for size in sizes for word in (size, "8")]
    code, said, _ = run("synthetic", tmp_path / "out", *few, capsys=capsys)
    assert (code, said.splitlines()[1]) == (0, "val: 8 images with masks")
    found = load(DataConfig("folder", tmp_path / "out", masks=tmp_path / "out"), "test-swapped")
    assert found.masks.any()
    assert found.backgrounds.min() >= 0


def test_images_without_a_label_are_in_no_class(columns, tmp_path, capsys):
    root, out = columns([1, None, 0, -1], ["ant", "bee"]), tmp_path / "out"
    code, _, err = run(root, out, capsys=capsys)
    assert code == 2
    assert err.startswith("error: 2 of 4 train images have no label: ")
    assert not out.exists()
    assert run(root, out, "--data.no-labels", capsys=capsys)[0] == 0
    assert len(list((out / "train").glob("*.png"))) == 4


def test_classes_that_would_lead_out_of_the_folder(columns, tmp_path, capsys):
    code, _, err = run(columns([0, 1], ["../../up", "a"]), tmp_path / "in" / "out", capsys=capsys)
    assert code == 2
    assert err.startswith("error: class '../../up' cannot be the name of a folder: ")
    assert not list(tmp_path.rglob("up"))
    assert list((tmp_path / "in").iterdir()) == []


def test_what_cannot_be_unpacked(root, tmp_path, capsys):
    (tmp_path / "set").mkdir()
    code, _, err = run(tmp_path / "set", tmp_path / "out", capsys=capsys)
    assert (code, err) == (
        2,
        f"error: the images in {tmp_path}/set are files already: use them as they are\n",
    )
    code, _, err = run(root, root / "out", capsys=capsys)
    assert (code, err) == (
        2,
        f"error: what is written to {root}/out would lie between the images of {root}: name a "
        "folder outside\n",
    )
    code, _, err = run(root, capsys=capsys)
    assert "unpack begins with two places: iclmsr data unpack ROOT OUT" in err
    (root / CIFAR10.layouts[1].folder / "test_batch.bin").write_bytes(b"short")
    code, _, err = run(root, tmp_path / "out", capsys=capsys)
    assert code == 2
    assert "test_batch.bin: expected a multiple of" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cifar", "set"]
