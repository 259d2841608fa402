# SPDX-License-Identifier: Apache-2.0
import io
import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from iclmsr import cli
from iclmsr.commands.data import COMMANDS
from iclmsr.data.sources import DataConfig, load


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The cache's folder, of this test alone."""
    monkeypatch.setenv("ICLMSR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def root(tmp_path):
    """Two classes of four images in train and of one in test."""
    paths = [f"train/{name}/{number}.png" for name in ("cat", "dog") for number in range(4)]
    for number, path in enumerate([*paths, "test/cat/0.png", "test/dog/0.png"]):
        file = tmp_path / "set" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).save(file)
    return tmp_path / "set"


def run(*words, capsys):
    code = cli.main(["data", *map(str, words)])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_help_is_instant_and_lists_every_command(capsys):
    for words in ([], ["--help"]):
        code, out, _ = run(*words, capsys=capsys)
        assert code == 0
        for name in COMMANDS:
            assert re.search(rf"\n  {name} +[A-Z]", out)
    for name in COMMANDS:
        code, out, _ = run(name, "--help", capsys=capsys)
        assert code == 0
        assert f"usage: iclmsr data {name}" in out
    words = "[['data', '--help'], ['data', 'check', '--help'], ['data', 'prepare', '--help']]"
    script = (
        f"import sys, iclmsr.cli as cli; [cli.main(words) for words in {words}]; "
        "assert not {'torch', 'numpy', 'tyro', 'rich'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("chekc", "unknown command 'data chekc': did you mean 'check'?"),
        ("check", "check needs a folder or an archive: iclmsr data check PATH"),
        ("check /nowhere", "/nowhere does not exist: pass a folder or an archive"),
        ("check . --workers 0", "--workers must be >= 1, got 0"),
        ("check . --workers two", "argument --workers: invalid int value: 'two'"),
        ("check . --sheet x.jpg", "--sheet writes a PNG file: end its name in .png, got x.jpg"),
        ("check . --json /nowhere/x", "cannot write /nowhere/x: there is no folder /nowhere"),
        ("check . --recipe simclr-cifar", "unknown recipe 'simclr-cifar': did you mean"),
        ("check . --data.sorce x", "unknown option '--data.sorce': did you mean '--data.source'"),
        ("check . stray", "unknown argument 'stray'"),
        ("prepare", "prepare needs a recipe, or --data.source NAME"),
        ("prepare simclr-cifar", "unknown recipe 'simclr-cifar'"),
        ("prepare .", "prepare takes a recipe or --data.source NAME: pass --data.root . beside"),
        ("prepare simclr-cifar10", "data.root is not set: pass --data.root PATH"),
        ("prepare simclr-cifar10 --data.root /nowhere", "data.root /nowhere does not exist"),
        ("prepare simclr-synthetic", "'synthetic' has no files that could be prepared"),
        ("prepare --data.source foldr --data.root .", "unknown data.source 'foldr': did you mean"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*words.split(), capsys=capsys)
    assert code == 2
    assert out == ""
    assert len(err.splitlines()) == 1
    assert err.startswith("error: ")
    assert message in err


def test_check_prints_writes_and_draws(root, tmp_path, capsys):
    words = ("check", root, "--json", tmp_path / "it.json", "--sheet", tmp_path / "it.png")
    code, out, err = run(*words, capsys=capsys)
    assert (code, err) == (0, "")
    assert f"{root}: source folder, read as 32 x 32 pixels" in out
    found = json.loads((tmp_path / "it.json").read_text())
    assert found["usable"]
    assert found["splits"]["train"]["images"] == 8
    first = (tmp_path / "it.png").read_bytes()
    assert first.startswith(b"\x89PNG")
    assert run(*words, "--views.grayscale", "1", capsys=capsys)[0] == 0
    assert (tmp_path / "it.png").read_bytes() != first
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ("--data.variant only_fg", "variant only_fg needs foreground masks: pass --data.masks"),
        ("--views.background swaps", "views.background swaps needs images with foreground masks"),
        ("--data.decoder nvjpeg", "data.decoder nvjpeg is for image files that stay on disk"),
        (
            "--data.resident disk --data.variant no_fg",
            "data.variant no_fg is for images in memory, these stay on disk: pass --data.resident",
        ),
    ],
)
def test_check_looks_at_how_images_are_used(root, tmp_path, capsys, options, problem):
    sheet = tmp_path / "it.png"
    code, out, err = run("check", root, "--sheet", sheet, *options.split(), capsys=capsys)
    assert code == 1
    assert f"problem: {problem}" in " ".join(out.split())
    assert err.startswith("error: a run would stop: ")
    assert not sheet.exists()


def test_masks_that_nobody_named_are_looked_at_and_not_asked_for(root, capsys):
    for path in [*root.glob("t*/*/*.png")]:
        mask = root / "masks" / path.relative_to(root)
        mask.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (32, 32), 255).save(mask)
    swaps = ("--views.background", "swaps")
    told = f"note: a run reads the masks in {root} only if it is told: --data.masks {root}"
    code, out, _ = run("check", root, capsys=capsys)
    assert (code, told in out) == (0, True)
    assert run("check", root, *swaps, capsys=capsys)[0] == 1
    code, out, _ = run("check", root, "--data.masks", root, *swaps, capsys=capsys)
    assert (code, told in out) == (0, False)
    (root / "masks" / "train" / "cat" / "0.png").unlink()
    lack = "1 train image has no mask that can be used: `iclmsr masks` makes masks"
    code, out, _ = run("check", root, capsys=capsys)
    assert (code, f"note: {lack}\n" in out) == (0, True)
    code, out, _ = run("check", root, f"--data.masks={root}", capsys=capsys)
    assert (code, f"problem: {lack}, or pass --data.on-corrupt skip\n" in out) == (1, True)


def test_check_of_shards_at_a_url(root, tmp_path, capsys):
    assert run("shard", root, tmp_path / "shards", capsys=capsys)[0] == 0
    code, out, _ = run("check", f"file://{tmp_path}/shards", capsys=capsys)
    assert code == 0
    assert "8" in out
    code, out, _ = run("check", f"file://{tmp_path}/shards?login=me", capsys=capsys)
    assert code == 1
    assert "shards cannot be read by a URL with a query" in " ".join(out.split())
    code, out, _ = run("check", tmp_path / "no-{0..1}.tar", capsys=capsys)
    assert code == 1
    assert f"problem: cannot read {tmp_path}/no-0.tar: No such file" in " ".join(out.split())


def test_check_exits_with_1_where_a_run_would_stop(root, tmp_path, capsys):
    (root / "train" / "cat" / "bad.png").write_text("no image")
    sheet = tmp_path / "it.png"
    code, out, err = run("check", root, "--sheet", sheet, capsys=capsys)
    assert code == 1
    assert err == "error: a run would stop: 1 problem, listed above\n"
    assert "  train/cat/bad.png does not decode (no image of a known format)\n" in out
    assert "problem: 1 train image does not decode: mend or remove it, or pass" in out
    assert sheet.exists()  # the others are shown
    assert run("check", root, "--data.on-corrupt", "skip", capsys=capsys)[0] == 0
    broken = tmp_path / "set.tar.gz"
    broken.write_bytes(b"\x1f\x8b\x08 no more")
    words = ("check", broken, "--json", tmp_path / "it.json", "--sheet", tmp_path / "no.png")
    code, out, err = run(*words, capsys=capsys)
    assert (code, len(err.splitlines())) == (1, 1)
    assert "truncated or corrupt archive" in out
    assert not json.loads((tmp_path / "it.json").read_text())["usable"]
    assert not (tmp_path / "no.png").exists()


def test_check_follows_recipe_and_options(root, tmp_path, capsys):
    out = run("check", root, "--recipe", "simclr-tiny-imagenet", capsys=capsys)[1]
    assert "source tiny-imagenet, read as 64 x 64 pixels" in out
    assert "\nnote: 8 train images with a side below 64 pixels are enlarged\n" in out
    assert f"\nnote: {root} is not of the official size: 2 classes (official 200), 8 images" in out
    out = run("check", root, "--data.image-size", "16", "--data.limit", "3", capsys=capsys)[1]
    assert "read as 16 x 16 pixels" in out
    words = ("--data.source", "synthetic", "--data.synthetic.train", "80")
    out = run("check", *words, capsys=capsys)[1]
    assert out.startswith("source synthetic, read as 32 x 32 pixels")
    assert " 80 " in out


def test_full_disk_leaves_no_json(root, tmp_path, monkeypatch, capsys):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    code, _, err = run("check", root, "--json", tmp_path / "it.json", capsys=capsys)
    assert code == 2
    assert err == (
        f"error: cannot write {tmp_path}/it.json: No space left on device: free some room, or "
        "name another place\n"
    )
    assert [file.name for file in tmp_path.iterdir()] == ["set"]


@pytest.mark.parametrize("form", [["simclr-cifar10"], ["--data.source", "cifar10"]])
def test_prepare_says_what_it_did_and_runs_use_it(root, cache, form, capsys, monkeypatch):
    words = ("prepare", *form, "--data.root", root)
    code, out, err = run(*words, capsys=capsys)
    assert (code, err) == (0, "")
    assert re.search(r"^train: 8 images of 32 x 32 pixels, made in \d+\.\d s\n", out)
    assert re.search(rf"\n  {cache}/cifar10-train-[\w-]+\.images, 0\.03 MB\n", out)
    assert "\ntest: 2 images of 32 x 32 pixels, made in" in out
    assert len(list(cache.glob("*.images"))) == 2
    before = {file: file.stat().st_mtime_ns for file in cache.iterdir()}
    out = run(*words, capsys=capsys)[1]
    assert re.findall(r"pixels, (.*)", out) == ["was there already"] * 2
    assert {file: file.stat().st_mtime_ns for file in cache.iterdir()} == before

    def forbidden(*_):
        raise AssertionError("an image was read")

    monkeypatch.setattr("iclmsr.data.folder.decode_image", forbidden)
    assert len(load(DataConfig(root=root), "pretrain")) == 8
    assert len(load(DataConfig(root=root), "test")) == 2


def test_prepare_makes_every_split_that_is_there(root, cache, capsys, monkeypatch):
    for name in ("val", "test-swapped"):
        shutil.copytree(root / "test", root / name)
    (root / "notes").mkdir()
    words = ("prepare", "--data.source", "folder", "--data.root", root)
    out = run(*words, capsys=capsys)[1]
    assert re.findall(r"^([\w-]+): \d", out, re.MULTILINE) == [
        "train",
        "test",
        "test-swapped",
        "val",
    ]
    assert len(list(cache.glob("*.images"))) == 4
    monkeypatch.setattr("iclmsr.data.folder.decode_image", None)
    for split, count in (("pretrain", 8), ("test", 2), ("val", 2), ("test-swapped", 2)):
        assert len(load(DataConfig("folder", root), split)) == count


def test_prepare_without_test_images_and_of_changed_ones(root, capsys):
    (root / "test").rename(root.with_name("elsewhere"))
    words = ("prepare", "--data.source", "folder", "--data.root", root)
    code, out, _ = run(*words, capsys=capsys)
    assert code == 0
    assert "no test images: an encoder can be pretrained, but not evaluated" in out
    (root / "train" / "cat" / "0.png").unlink()
    assert "train: 7 images of 32 x 32 pixels, made in" in run(*words, capsys=capsys)[1]


def test_prepare_of_what_cannot_be_read_leaves_nothing(root, cache, capsys):
    (root / "train" / "cat" / "bad.png").write_text("no image")
    words = ("prepare", "simclr-cifar10", "--data.root", root)
    code, _, err = run(*words, capsys=capsys)
    assert code == 2
    assert f"{root}/train/cat/bad.png does not decode" in err
    assert not list(cache.iterdir())


def test_a_run_names_a_cache_that_is_of_no_use(root, cache, tmp_path, capsys):
    run("prepare", "simclr-cifar10", "--data.root", root, capsys=capsys)
    (path,) = cache.glob("*-train-*")
    path.write_bytes(path.read_bytes()[:-9])
    words = ("simclr-cifar10", "--data.root", root, "--epochs", "1", "--batch-size", "4")
    words += ("--encoder.width", "2", "--out", tmp_path / "run")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert cli.main(["pretrain", *map(str, words)]) == 0
    err = capsys.readouterr().err
    assert f"warning: {path} is damaged: " in err
    assert f"reading the images from {root}; `iclmsr data prepare` makes it anew" in err


@pytest.mark.parametrize("inside", ["", "deep"])
def test_a_cache_that_is_a_file_says_what_to_set(root, cache, monkeypatch, capsys, inside):
    cache.write_text("no folder")
    monkeypatch.setenv("ICLMSR_CACHE", str(cache / inside))
    code, out, err = run("prepare", "simclr-cifar10", "--data.root", root, capsys=capsys)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: cannot write to the cache {cache / inside}: ")
    assert err.endswith("; set ICLMSR_CACHE to another folder\n")


def test_several_processes_prepare_at_once(root, cache):
    command = [sys.executable, "-m", "iclmsr", "data", "prepare", "simclr-cifar10"]
    command += ["--data.root", str(root)]

    def job(_):
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    with ThreadPoolExecutor(2) as pool:
        outputs = list(pool.map(job, range(2)))
    assert all(out.count(".images") == 2 for out in outputs)
    assert sorted(file.suffix for file in cache.iterdir()) == [".images", ".images"]


def test_check_looks_at_every_split_and_draws_the_one_asked_for(root, tmp_path, capsys):
    for name in ("cat", "dog"):
        (root / "val" / name).mkdir(parents=True)
        (root / "notes" / name).mkdir(parents=True)
        (root / "val" / name / "0.png").write_bytes((root / f"train/{name}/0.png").read_bytes())
    (root / "notes" / "dog").rmdir()
    sheets = []
    for split in ("train", "test", "val"):
        sheet, found = tmp_path / f"{split}.png", tmp_path / "it.json"
        words = ("check", root, "--json", found, "--sheet", sheet, "--split", split)
        code, _, err = run(*words, capsys=capsys)
        assert (code, err) == (0, "")
        sheets.append(sheet.read_bytes())
    assert len(set(sheets)) == 3
    found = json.loads(found.read_text())
    assert {name: split["images"] for name, split in found["splits"].items()} == {
        "train": 8,
        "test": 2,
        "val": 2,
    }
    assert found["unused"] == []
    assert "2 val images are training images too (same pixels): accuracy on" in str(found)
    code, _, err = run("check", root, "--sheet", sheet, "--split", "vla", capsys=capsys)
    assert code == 2
    assert err == "error: unknown --split 'vla': did you mean 'val'?\n"


def test_paths_that_are_no_utf_8_are_printed(root, tmp_path, monkeypatch):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    monkeypatch.setenv("ICLMSR_CACHE", str(folder / "cache"))

    def said(*words):
        with monkeypatch.context() as patch:
            patch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), "utf-8", "strict"))
            assert cli.main(["data", *map(str, words)]) == 0
            sys.stdout.seek(0)
            return sys.stdout.read().replace("\n", " ")

    out = said("check", root, "--json", folder / "it.json", "--sheet", folder / "it.png")
    for name in ("it.json", "it.png"):
        assert rf"wrote {tmp_path}/caf\xe9/{name} " in out
    out = said("prepare", "simclr-cifar10", "--data.root", root)
    assert out.count(rf"  {tmp_path}/caf\xe9/cache/cifar10-t") == 2
    assert rf"--data.root {tmp_path}/caf\xe9/out " in said("shard", root, folder / "out")
