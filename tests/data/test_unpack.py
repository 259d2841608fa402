# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

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


def test_what_cannot_be_unpacked(root, tmp_path, capsys):
    (tmp_path / "set").mkdir()
    code, _, err = run(tmp_path / "set", tmp_path / "out", capsys=capsys)
    assert (code, err) == (
        2,
        f"error: the images in {tmp_path}/set are files already: use them as they are\n",
    )
    code, _, err = run(root, capsys=capsys)
    assert "unpack begins with two places: iclmsr data unpack ROOT OUT" in err
    (root / CIFAR10.layouts[1].folder / "test_batch.bin").write_bytes(b"short")
    code, _, err = run(root, tmp_path / "out", capsys=capsys)
    assert code == 2
    assert "test_batch.bin: expected a multiple of" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cifar", "set"]
