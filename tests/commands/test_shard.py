# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from PIL import Image

from iclmsr.cli import main
from iclmsr.commands.shard import shard_command
from iclmsr.data.sources import DataConfig, load
from iclmsr.errors import IclmsrError


def run(*words):
    shard_command([str(word) for word in words])


@pytest.fixture
def source(tmp_path):
    for tree, mode in (("", "RGB"), ("masks/", "L")):
        for name in ("a/0", "a/1", "b/0"):
            path = tmp_path / "set" / f"{tree}{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(len(name)).integers(0, 256, (8, 8), np.uint8)
            Image.fromarray(pixels).convert(mode).save(path)
    return tmp_path / "set"


def test_one_image_in_one_shard(tmp_path, source, capsys):
    for name in ("a/0", "b/0"):
        (source / f"{name}.png").unlink()
    (source / "b").rmdir()
    run(source, tmp_path / "out")
    assert (
        capsys.readouterr().out.splitlines()[-2].startswith(f"{tmp_path}/out: 1 image in 1 shard, ")
    )


def test_shards_with_masks(tmp_path, source, capsys):
    out = tmp_path / "out"
    run(source, out, "--masks", source, "--shard-size", "3K", "--seed", "1")
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("wrote 000000.tar, 1 of 3: ")
    assert said[-2].startswith(f"{out}: 3 images in 3 shards, ")
    assert said[-1] == f"read them: --data.source folder --data.root {out}"
    options = {"source": "folder", "image_size": 8}
    found = load(DataConfig(root=out, masks=out, **options), "train")
    expected = load(DataConfig(root=source, masks=source, **options), "train")
    assert found.fingerprint() == expected.fingerprint()
    assert found.classes == ("a", "b")
    assert found.masks.equal(expected.masks)


def test_masks_are_no_images_though_nobody_named_them(tmp_path, source):
    run(source, tmp_path / "out")
    found = load(DataConfig("folder", tmp_path / "out", image_size=8), "train")
    assert found.classes == ("a", "b")
    assert len(found) == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "data shard needs two folders: iclmsr data shard FOLDER OUT"),
        (("a",), "data shard needs two folders"),
        (("a", "b", "c"), "unknown argument 'c'"),
        (("a", "b", "--shards", "3"), "unknown argument '--shards'"),
        (("a", "b", "--shard-size", "big"), "--shard-size must be bytes as .*, got 'big'"),
        (("/nowhere", "b"), "there is no folder /nowhere"),
    ],
)
def test_bad_words(words, message):
    with pytest.raises(IclmsrError, match=message):
        run(*words)


def test_help(capsys):
    assert main(["data", "shard", "--help"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0] == "Write a folder or archive of images as WebDataset shards."
    assert "\nusage: iclmsr data shard FOLDER OUT" in out
