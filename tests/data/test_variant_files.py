# SPDX-License-Identifier: Apache-2.0
import re
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image

from iclmsr import cli
from iclmsr.data.sources import DataConfig, load, prepare
from iclmsr.data.synthetic import SPLITS
from iclmsr.data.variants import Variant

SMALL = (
    "--data.synthetic.train",
    "24",
    "--data.synthetic.val",
    "16",
    "--data.synthetic.test",
    "16",
)


def run(*words, capsys):
    code = cli.main(["data", "variants", *map(str, words)])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def read(place, size=32):
    return DataConfig("folder", place, size, masks=place)


@pytest.fixture
def root(tmp_path):
    """Photographs of two classes with masks, in three splits, one of them nested."""
    draw = np.random.default_rng(0)
    root = tmp_path / "set"
    for split, number in (("train", 4), ("test", 3), ("test-swapped", 3)):
        for kind in ("cat", "dog"):
            for one in range(number):
                name = f"{split}/{kind}/{'deep/' if one == 0 else ''}{one}"
                mask = np.zeros((16, 16), np.uint8)
                mask[4:11, 5:13] = draw.integers(0, 2, (7, 8)) * 255
                for place, array, ending in (
                    (root, draw.integers(0, 256, (16, 16, 3), np.uint8), ".jpg"),
                    (root / "masks", mask, ".png"),
                ):
                    file = (place / name).with_suffix(ending)
                    file.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(array).save(file)
    return root


def test_files_are_what_is_made_on_the_fly(root, tmp_path, capsys):
    out = tmp_path / "out"
    code, _, err = run(root, out, "--data.filler", "mean", capsys=capsys)
    assert (code, err) == (0, "")
    config = replace(read(root, 16), filler="mean")
    for variant in get_args(Variant):
        for split in ("train", "test", "test-swapped"):
            there = load(read(out / variant, 16), split)
            made = load(replace(config, variant=variant), split)
            assert torch.equal(there.images, made.images), (variant, split)
            assert torch.equal(there.masks, made.masks)
            assert torch.equal(there.labels, made.labels)
            if variant.startswith("mixed"):
                assert torch.equal(there.backgrounds, made.backgrounds)
                assert there.background_names == made.background_names == ("cat", "dog")
            else:
                assert there.backgrounds is None
    assert (out / "no_fg/train/cat/deep/0.png").exists()
    assert (out / "no_fg/masks/train/cat/deep/0.png").exists()


def test_images_without_files_are_numbered(tmp_path, capsys):
    out = tmp_path / "out"
    code, text, _ = run(
        "synthetic", out, *SMALL, "--variants", "only_bg_t,mixed_same", capsys=capsys
    )
    assert code == 0
    assert sorted(path.name for path in out.iterdir()) == ["mixed_same", "only_bg_t"]
    assert f"{out}/only_bg_t: 88 images of {', '.join(SPLITS)}" in text
    for split in SPLITS:
        there = load(read(out / "only_bg_t"), split)
        assert there.backgrounds.min() >= 0
        made = {name: 24 if name == "train" else 16 for name in SPLITS}
        assert len(there) == made[split]


def test_it_goes_on_where_it_was_stopped(root, tmp_path, capsys):
    out = tmp_path / "out"
    words = (root, out, "--variants", "no_fg,only_fg", "--splits", "test")
    assert run(*words, capsys=capsys)[0] == 0
    before = {path: path.stat().st_mtime_ns for path in (out / "only_fg").rglob("*.png")}
    for path in (out / "no_fg").rglob("*.*"):
        path.unlink()
    (out / "no_fg").rename(out / ".no_fg.tmp")  # as a killed process leaves it
    code, text, _ = run(*words, capsys=capsys)
    assert code == 0
    assert f"{out}/no_fg: 6 images of test\n{out}/only_fg: was there already\n" in text
    assert before == {path: path.stat().st_mtime_ns for path in (out / "only_fg").rglob("*.png")}
    assert sorted(path.name for path in out.iterdir()) == ["no_fg", "only_fg"]


def test_prepared_images_of_which_some_are_left_out(root, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("ICLMSR_CACHE", str(tmp_path / "cache"))
    (root / "train/cat/1.jpg").write_text("no image")
    monkeypatch.chdir(tmp_path)
    config = DataConfig("folder", "set", 16, masks="set", on_corrupt="skip")
    assert len(prepare(config, "train").skipped) == 1
    words = ("--variants", "no_fg", "--splits", "train", "--data.on-corrupt", "skip")
    for place in (root, "set"):  # the first is not what they were called when they were prepared
        out = tmp_path / "out" / str(len(str(place)))
        assert run(place, out, *words, capsys=capsys)[::2] == (0, "")
        files = [path.relative_to(out / "no_fg/train") for path in out.glob("no_fg/train/**/*.png")]
        assert sorted(file.as_posix() for file in files) == [
            *(f"cat/{name}.png" for name in ("2", "3", "deep/0")),
            *(f"dog/{name}.png" for name in ("1", "2", "3", "deep/0")),
        ]
        images = replace(config, root=root, masks=root, variant="no_fg")
        assert load(read(out / "no_fg", 16), "train").images.equal(load(images, "train").images)


def test_what_it_refuses(root, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(root, out, "--variants", "only_fg", capsys=capsys)[0] == 0

    def fails(message, *words):
        code, _, err = run(*words, capsys=capsys)
        assert code == 2
        assert re.fullmatch(f"error: {message}\n", err), err

    black = ("--variants", "only_fg", "--data.filler", "black")
    fails(f"{out}/only_fg was made from other images or options: remove it, .*", root, out, *black)
    fails("unknown --variants 'onlyfg': did you mean .*", root, out, "--variants", "onlyfg")
    fails(
        "unknown --splits 'val': choose from test, test-swapped, train",
        root,
        out,
        "--splits",
        "val",
    )
    fails("variants begins with two places: .*", root)
    fails(
        f"what is written to {root}/out would lie between the images of {root}: .*",
        root,
        root / "out",
    )
    assert not (root / "out").exists()
    bare = tmp_path / "bare"
    (root / "masks").rename(bare)
    new = tmp_path / "new"
    fails(
        "variants are made of images with masks and classes, and the train .* `iclmsr masks` .*",
        root,
        new,
    )
    assert not new.exists()
    (bare / "test/dog/2.png").unlink()
    fails(r".*/test/dog/2\.jpg has no mask .*", root, new, "--data.masks", bare)
    assert not new.exists()
    image = root / "test/dog/2.jpg"
    image.rename(image.with_suffix(".gif"))
    image.with_suffix(".gif").write_bytes((root / "test/dog/1.jpg").read_bytes())
    (root / "test/dog/2.png").write_bytes((root / "test/dog/1.jpg").read_bytes())
    (bare / "test/dog/2.png").write_bytes((bare / "test/dog/1.png").read_bytes())
    fails(r"2 test images would be called dog/2\.png: .*", root, new, "--data.masks", bare)
    for place in (*root.iterdir(), *bare.iterdir()):
        (place / "dog").rename(place / "d\\og")
    fails(r"class 'd\\\\og' cannot be the name of a folder: .*", root, new, "--data.masks", bare)
