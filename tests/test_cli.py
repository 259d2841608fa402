# SPDX-License-Identifier: Apache-2.0
import io
import json
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from iclmsr import cli
from iclmsr.errors import IclmsrError
from iclmsr.options import parse_options
from iclmsr.recipes import RECIPES

SMALL = [
    *("simclr-msr-synthetic", "--epochs", "1", "--batch-size", "16", "--precision", "fp32"),
    *("--encoder.width", "2", "--method.hidden-dim", "16", "--data.synthetic.train", "48"),
    *("--data.synthetic.test", "24"),
]


def run(*words, capsys):
    code = cli.main([str(word) for word in words])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_help_is_instant_and_lists_every_verb(capsys):
    code, out, _ = run("--help", capsys=capsys)
    assert code == 0
    for verb in cli.VERBS:
        assert f"\n  {verb} " in out
    script = (
        "import sys, iclmsr.cli as cli; cli.main(['--help']); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.DEVNULL)


def test_version(capsys):
    assert run("--version", capsys=capsys)[1].startswith("iclmsr 0")


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_explains_itself(verb, capsys):
    try:
        code = cli.main([verb, "--help"])
    except SystemExit as stop:
        code = stop.code
    out = capsys.readouterr().out
    assert code == 0
    assert "iclmsr" in out
    if verb == "pretrain":
        for option in ("--epochs", "--msr.strata", "--encoder.width", "--data.on-corrupt"):
            assert option in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("pretian", "unknown command 'pretian': did you mean 'pretrain'?"),
        ("pretrain simclr-cifar", "unknown recipe 'simclr-cifar': did you mean 'simclr-cifar10'"),
        ("pretrain", "pretrain needs one of: a recipe"),
        ("pretrain simclr-cifar10 --resume x", "pretrain needs one of: a recipe"),
        ("pretrain simclr-cifar10 --epoch 3", "unknown option '--epoch': did you mean '--epochs'"),
        ("pretrain simclr-cifar10 --msr.strate=3", "unknown option '--msr.strate': did you mean"),
        ("pretrain byol-cifar10 --method.temperature 3", "did you mean '--msr.temperature' or"),
        ("pretrain simclr-cifar10 stray", "unknown argument 'stray'"),
        ("pretrain simclr-cifar10 --epochs ten", "--epochs: invalid literal for int"),
        ("pretrain simclr-cifar10 --epochs 0", "epochs must be >= 1, got 0"),
        ("pretrain simclr-cifar10 --precision fp8", "invalid choice 'fp8'"),
        ("pretrain simclr-cifar10 --method.temperature 0", "temperature must be > 0"),
        ("pretrain simclr-cifar10 --out", "argument --out: expected one argument"),
        ("pretrain simclr-cifar10", "data.root is not set: pass --data.root"),
        ("pretrain simclr-cifar10 --data.root /nowhere", "/nowhere does not exist"),
        ("pretrain --config /nowhere.json", "cannot read /nowhere.json"),
        ("pretrain --resume /nowhere", "/nowhere is not a run folder"),
        ("pretrain --resume /nowhere --epochs 3", "'--epochs' does not apply"),
        ("evaluate", "evaluate needs a run folder"),
        ("evaluate /nowhere", "/nowhere is not a run folder"),
        ("recipes nope", "unknown recipe 'nope'"),
        ("recipes simclr-cifar10 x", "unknown argument 'x'"),
        ("scm x", "unknown argument 'x'"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(words, message, capsys):
    code, out, err = run(*words.split(), capsys=capsys)
    assert code == 2
    assert out == ""
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1
    assert message in err


def test_debug_shows_the_traceback(capsys):
    code, _, err = run("pretrain", "nope", "--debug", capsys=capsys)
    assert code == 2
    assert "Traceback" in err
    assert err.splitlines()[-1].startswith("error: unknown recipe 'nope'")


def test_options_reach_the_config():
    from iclmsr.config import PretrainConfig

    words = ["--msr.strata", "5", "--views.crop-scale", "0.3", "1.0", "--msr.enabled"]
    config = parse_options(PretrainConfig, RECIPES["simclr-cifar10"].config, words)
    assert config.msr.strata == 5
    assert config.msr.enabled
    assert config.views.crop_scale == (0.3, 1.0)
    assert config.recipe == "simclr-cifar10"
    words = ["--encoder.name", "vit_tiny_patch16_224", "--encoder.options"]
    words += ["img_size", "32", "drop_rate", "0.1", "global_pool", "avg"]
    config = parse_options(PretrainConfig, PretrainConfig(), words)
    assert config.encoder.options == {"img_size": 32, "drop_rate": 0.1, "global_pool": "avg"}
    with pytest.raises(IclmsrError, match="unknown option '--views.crop'"):
        parse_options(PretrainConfig, PretrainConfig(), ["--views.crop", "1"])


def test_pretrain_evaluate_and_again_from_the_config(tmp_path, capsys):
    first, again = tmp_path / "first", tmp_path / "again"
    code, out, _ = run("pretrain", *SMALL, "--out", first, capsys=capsys)
    assert code == 0
    assert f"iclmsr evaluate {first}" in out
    words = ("--linear-probe.epochs", "3", "--baselines")
    code, out, _ = run("evaluate", first, *words, capsys=capsys)
    assert code == 0
    report = json.loads((first / "evaluation.json").read_text())
    assert set(report["results"]) == {"encoder", "untrained", "pixels"}
    assert report["protocol"] == "w-mse-2021, changed"
    for result in report["results"].values():
        assert f"{result['linear']['top1']:.2f}" in out
        assert f"{result['knn']['top1']:.2f}" in out
    assert report["data"]["train"]["images"] == 48
    code, _, _ = run("pretrain", "--config", first / "config.json", "--out", again, capsys=capsys)
    assert code == 0
    assert (first / "config.json").read_bytes() == (again / "config.json").read_bytes()
    assert (first / "encoder.safetensors").read_bytes() == (
        again / "encoder.safetensors"
    ).read_bytes()
    code, _, err = run("pretrain", *SMALL, "--out", first, capsys=capsys)
    assert code == 2
    assert "already exists" in err


def test_an_image_that_does_not_decode(tmp_path, capsys):
    for number in range(20):
        folder = tmp_path / "images" / "train" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (number, 0, 99)).save(folder / f"{number}.png")
    bad = folder / "bad.png"
    bad.write_text("this is text")
    words = ("simclr-cifar10", "--data.root", tmp_path / "images", "--epochs", "1")
    words += ("--batch-size", "4", "--encoder.width", "2", "--out", tmp_path / "run")
    code, _, err = run("pretrain", *words, capsys=capsys)
    assert code == 2
    assert f"{bad} does not decode" in err
    assert "pass --data.on-corrupt skip" in err
    assert not (tmp_path / "run").exists()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        code, _, err = run("pretrain", *words, "--data.on-corrupt", "skip", capsys=capsys)
    assert code == 0
    assert err.startswith("warning: 1 image could not be used and is left out: environment")
    assert str(bad) in err
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert environment["skipped"] == [str(bad)]
    assert environment["images"] == 20


def test_evaluate_before_the_first_checkpoint(tmp_path, capsys):
    run("pretrain", *SMALL, "--out", tmp_path / "run", capsys=capsys)
    (tmp_path / "run" / "encoder.safetensors").unlink()
    code, _, err = run("evaluate", tmp_path / "run", capsys=capsys)
    assert code == 2
    assert "the run has written no checkpoint yet" in err


def test_recipes_are_listed_and_printed(capsys):
    _, out, _ = run("recipes", capsys=capsys)
    assert all(name in out for name in RECIPES)
    _, out, _ = run("recipes", "simclr-msr-cifar10", capsys=capsys)
    assert json.loads(out)["msr"]["enabled"] is True


def test_scm_prints_and_draws(tmp_path, capsys):
    code, out, _ = run("scm", "--out", tmp_path / "scm.png", capsys=capsys)
    assert code == 0
    assert "X_s" in out
    assert (tmp_path / "scm.png").read_bytes().startswith(b"\x89PNG")


def test_a_full_disk_is_one_line(monkeypatch, capsys):
    def full(words):
        raise OSError(28, "No space left on device", "metrics.jsonl")

    monkeypatch.setitem(cli.VERBS, "scm", full)
    code, _, err = run("scm", capsys=capsys)
    assert code == 2
    assert err == "error: No space left on device: metrics.jsonl\n"


def test_a_place_without_rights_is_one_line_that_says_what_to_do(monkeypatch, capsys):
    def refused(words):
        raise PermissionError(13, "Permission denied", "set/0.png")

    monkeypatch.setitem(cli.VERBS, "scm", refused)
    code, _, err = run("scm", capsys=capsys)
    assert code == 2
    message = "Permission denied: set/0.png: make it readable, or name another place"
    assert err == f"error: {message}\n"


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.empty(2**60, dtype=torch.uint8),
        lambda: np.empty(2**60, np.uint8),
    ],
)
def test_too_little_memory_is_one_line(make, monkeypatch, capsys):
    monkeypatch.setitem(cli.VERBS, "scm", lambda words: make())
    code, _, err = run("scm", capsys=capsys)
    assert code == 2
    assert err.startswith("error: out of memory (")
    assert err.endswith("): a smaller --batch-size, --views.size or --data.image-size takes less\n")
    assert len(err.splitlines()) == 1


def test_other_errors_of_torch_are_not_hidden(monkeypatch):
    monkeypatch.setitem(cli.VERBS, "scm", lambda words: torch.zeros(2) @ torch.zeros(3))
    with pytest.raises(RuntimeError, match="inconsistent tensor size"):
        cli.main(["scm"])


def test_names_that_a_terminal_cannot_show(monkeypatch):
    screen = io.TextIOWrapper(io.BytesIO(), "latin-1", "strict")
    monkeypatch.setattr("sys.stdout", screen)
    monkeypatch.setitem(cli.VERBS, "scm", lambda words: print("caf\xe9 \u732b"))
    assert cli.main(["scm"]) == 0
    screen.seek(0)
    assert screen.read() == "caf\xe9 \\u732b\n"


def test_ctrl_c_is_one_line(monkeypatch, capsys):
    def interrupted(words):
        raise KeyboardInterrupt

    monkeypatch.setitem(cli.VERBS, "scm", interrupted)
    code, _, err = run("scm", capsys=capsys)
    assert code == 130
    assert err.splitlines() == ["error: interrupted"]


def test_a_reader_that_has_enough_is_no_error():
    command = f"{sys.executable} -m iclmsr recipes simclr-cifar10 | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout == "{\n"
    assert done.stderr == ""


def test_options_of_each_view():
    from iclmsr.config import PretrainConfig

    words = ["--views.blur", "1.0", "0.1", "--views.solarize", "0.2"]
    views = parse_options(PretrainConfig, PretrainConfig(), words).views
    assert (views.blur, views.solarize) == ((1.0, 0.1), 0.2)
    views = parse_options(PretrainConfig, PretrainConfig(views=views), ["--views.blur", "0"]).views
    assert (views.blur, views.solarize) == (0.0, 0.2)
