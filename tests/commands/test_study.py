# SPDX-License-Identifier: Apache-2.0
"""The study's commands on a few drawn images: the files that their help names, and refusals."""

import json
import re
import warnings

import pytest
import timm
import torch
import torchvision
from PIL import Image

from iclmsr import cli
from iclmsr.networks import EncoderConfig, initial_encoder
from iclmsr.study import look

DATA = [
    *("--data.source", "synthetic", "--data.synthetic.train", "32"),
    *("--data.synthetic.val", "20", "--data.synthetic.test", "24"),
]
JUDGED = ("--k", "3", "--linear-probe.epochs", "3")
CHALLENGE = (*JUDGED, "--grid", "3", "--least", "1")
TINY = [
    *("--recipe", "simclr-synthetic", "--epochs", "2", "--batch-size", "16", "--precision", "fp32"),
    *("--encoder.width", "2", "--method.hidden-dim", "8", "--method.embedding-dim", "4"),
    *("--views.size", "16", "--data.image-size", "16", "--msr.strata", "2"),
    *DATA[2:],
]


def run(*words):
    """Exit code 0."""
    assert cli.main([str(word) for word in words]) == 0


def refused(capsys, *words):
    """The one line that says why."""
    code = cli.main([str(word) for word in words])
    printed = capsys.readouterr()
    assert code == 2
    (line,) = printed.err.splitlines()
    return line.removeprefix("error: ")


def read(path):
    return json.loads(path.read_text())


def is_picture(path):
    with Image.open(path) as image:
        return image.format == "PNG" and min(image.size) > 100


@pytest.fixture(scope="module", autouse=True)
def coarse_pictures():
    """Drawn in a quarter of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(look, "DPI", 40)
        yield


@pytest.fixture(scope="module")
def arms(tmp_path_factory):
    """A comparison of three arms over two seeds."""
    out = tmp_path_factory.mktemp("arms")
    run("study", "compare", *TINY, "--arms", "plain", "msr", "plain-equal-time", "--time-ratio",
        "1.5", "--seeds", "0", "1", "--out", out, *CHALLENGE)  # fmt: skip
    return out


def test_compare(arms, capsys):
    study = read(arms / "comparison.json")
    assert len(study["rows"]) == 6
    assert study["missing"] == []
    settings = study["settings"]
    assert (settings["split"], settings["k"], settings["grid"], settings["least"]) == (
        *("test", 3, 3, 1),
    )
    assert settings["linear_probe"]["epochs"] == 3
    assert {row["arm"]: row["steps"] for row in study["rows"]} == {
        **dict.fromkeys(("plain", "msr"), 4),
        "plain-equal-time": 6,
    }
    text = (arms / "comparison.md").read_text()
    for said in ("**SimCLR**, linear probe, split test.", "SimCLR: less plain.",
                 "SimCLR: less plain, equal time.", "foreground drop", "worst group",
                 "cosine of twins", "| SimCLR | plain, equal time | 6 | "):  # fmt: skip
        assert said in text
    for name in ("", "-equal-time", "-further", "-embeddings"):
        assert is_picture(arms / f"comparison-simclr{name}.png")


def test_another_split_beside_it(arms, tmp_path, capsys):
    before = (arms / "comparison.json").read_bytes()
    run("study", "compare", *TINY, "--arms", "plain", "--seeds", "0", "--out", arms, *CHALLENGE,
        "--split", "val")  # fmt: skip
    assert read(arms / "comparison-val.json")["settings"]["split"] == "val"
    assert "split val" in (arms / "comparison-val.md").read_text()
    assert is_picture(arms / "comparison-val-simclr.png")
    assert (arms / "comparison.json").read_bytes() == before


def test_show(arms, capsys):
    picture, table = arms / "comparison-simclr.png", arms / "comparison.md"
    before = table.read_text()
    picture.unlink()
    table.unlink()
    run("study", "show", arms)
    assert is_picture(picture)
    assert table.read_text() == before
    assert before in capsys.readouterr().out
    (arms / "empty").mkdir()
    assert "no study in" in refused(capsys, "study", "show", arms / "empty")


def test_backgrounds_of_a_run(arms, tmp_path, capsys):
    cell = arms / "cells" / "simclr_plain_seed-0"
    run("study", "backgrounds", cell, *CHALLENGE)
    found = read(cell / "backgrounds.json")
    assert found["images"] == {"train": 32, "test": 24, "test-swapped": 24}
    assert found["results"] == read(arms / "comparison.json")["rows"][0]["results"]
    assert "split test, images of 16 x 16 pixels" in capsys.readouterr().out
    said = refused(capsys, "study", "backgrounds", cell, "--split", "val")
    assert said == f"{cell}/backgrounds.json was made on the split test: pass --out FILE.json"
    assert "/nowhere is not a run folder" in refused(capsys, "study", "backgrounds", "/nowhere")


def test_pictures(arms, tmp_path, capsys):
    cells = (f"{arm}={arms}/cells/simclr_{arm}_seed-0" for arm in ("plain", "msr"))
    run("study", "pictures", *cells, "--out", tmp_path)
    assert set(read(tmp_path / "pictures.json")) == {"plain", "msr"}
    assert all(is_picture(tmp_path / f"{n}.png") for n in ("neighbours", "saliency", "variants"))
    said = refused(capsys, "study", "pictures", "a=x", "a=y")
    assert said == "study pictures has a twice: name it once"


def test_four_settings(tmp_path, capsys):
    run("study", "four-settings", *TINY, "--seeds", "0", "--out", tmp_path, *JUDGED)
    study = read(tmp_path / "study.json")
    assert len(study["rows"]) == 4
    assert study["settings"]["k"] == 3
    text = (tmp_path / "study.md").read_text()
    assert "Top-1 accuracy, linear probe, split test, trained on → tested on" in text
    assert "MSR less plain" in text
    for name in ("four-bars", "four-bars-msr", "base-and-msr"):
        assert is_picture(tmp_path / f"{name}.png")
    assert "'--grid'" in refused(capsys, "study", "four-settings", *TINY, "--grid", "3")


def test_four_settings_of_one_arm(tmp_path, capsys):
    run("study", "four-settings", *TINY, "--seeds", "0", "--out", tmp_path, "--arms", "msr",
        *JUDGED, "--split", "val")  # fmt: skip
    assert {path.name for path in tmp_path.glob("*.*")} == {
        *("study-val.json", "study-val.md", "four-bars-msr-val.png"),
    }
    assert "less plain" not in (tmp_path / "study-val.md").read_text()


def test_sweep(tmp_path, capsys):
    run("study", "sweep", *TINY, "--seeds", "0", "--out", tmp_path, "--axis", "msr.temperature",
        "--values", "null", "0.1", *CHALLENGE)  # fmt: skip
    study = read(tmp_path / "sweep-msr.temperature.json")
    assert [(row["arm"], row.get("value")) for row in study["rows"]] == [
        *(("plain", None), ("msr", None), ("msr", 0.1)),
    ]
    assert study["settings"]["split"] == "val"
    text = (tmp_path / "sweep-msr.temperature.md").read_text()
    assert "| SimCLR | null | " in text
    assert "linear probe, split val" in text
    assert is_picture(tmp_path / "sweep-msr.temperature.png")


def test_sweep_of_a_setting_that_plain_reads(tmp_path, capsys):
    run("study", "sweep", *TINY, "--seeds", "0", "--out", tmp_path, "--axis", "optimizer.lr",
        "--values", "0.01", "0.001", *CHALLENGE)  # fmt: skip
    rows = read(tmp_path / "sweep-optimizer.lr.json")["rows"]
    assert [(row["arm"], row["value"]) for row in rows] == [
        *(("plain", 0.01), ("plain", 0.001), ("msr", 0.01), ("msr", 0.001)),
    ]
    for row in rows:
        assert read(tmp_path / row["run"] / "config.json")["optimizer"]["lr"] == row["value"]
    text = (tmp_path / "sweep-optimizer.lr.md").read_text()
    assert "| SimCLR | 0.001, plain | " in text
    assert "| SimCLR | 0.001, MSR | " in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("compare", "study compare needs --arms"),
        ("compare --arms plain", "study compare needs --recipe NAME"),
        (
            "compare --arms plain --recipe simclr-synthetic byol-cifar10",
            "recipes simclr-synthetic and byol-cifar10 have other data",
        ),
        (
            "compare --arms plain --recipe simclr-synthetic simclr-synthetic",
            "recipe simclr-synthetic comes twice",
        ),
        ("compare --arms plain msr plain --recipe simclr-synthetic", "--arms has plain twice"),
        ("compare --arms msr --seeds 1 1 --recipe simclr-synthetic", "--seeds has 1 twice"),
        (
            "compare --arms plain --time-ratio 1.5 --recipe simclr-synthetic",
            "--time-ratio 1.5 is for arms at equal time: add plain-equal-time",
        ),
        (
            "compare --arms plain-equal-time --time-ratio 1.02 --epochs 12 "
            "--recipe simclr-synthetic",
            "needs a --time-ratio that adds an epoch to 12, got 1.02",
        ),
        (
            "compare --arms plain --axis msr.lr --recipe simclr-synthetic",
            "unknown option '--axis'",
        ),
        ("four-settings --time-ratio 2 --recipe simclr-synthetic", "'--time-ratio'"),
        (
            "sweep --arms msr msr-fresh --axis msr.lr --values 1 2 --recipe simclr-synthetic",
            "study sweep varies one arm, got --arms msr msr-fresh",
        ),
        (
            "sweep --axis msr.fraction --values 0.1 0.2 --recipe simclr-synthetic",
            "msr.fraction is not read under msr.schedule interleaved: pass --msr.schedule epoch",
        ),
        ("sweep --recipe simclr-synthetic", "needs --axis FIELD and --values"),
        ("pictures", "study pictures begins with encoders"),
        ("backgrounds", "study backgrounds needs an encoder"),
        ("show", "study show needs the folder"),
    ],
)
def test_what_is_refused_before_anything_is_trained(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in refused(capsys, "study", *words.split())
    assert not list(tmp_path.iterdir())


def onnx_file(path, size):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = initial_encoder(EncoderConfig(width=2), 0).eval()
        torch.onnx.export(network, (torch.zeros(1, 3, size, size),), path, dynamo=False)
    return path


@pytest.fixture(params=["timm", "torchvision", "onnx"])
def foreign(request, tmp_path):
    """An encoder made elsewhere, and the size of its images."""
    weights = tmp_path / "w.pth"
    if request.param == "onnx":
        return onnx_file(tmp_path / "w.onnx", 24), 24
    if request.param == "timm":
        torch.save(timm.create_model("test_vit").state_dict(), weights)
        return f"timm:test_vit@{weights}", 160
    torch.save(torchvision.models.resnet18().state_dict(), weights)
    return f"torchvision:resnet18@{weights}", 224


def test_an_encoder_made_elsewhere_sees_images_of_its_own_size(
    foreign, tmp_path, monkeypatch, capsys
):
    source, size = foreign
    monkeypatch.chdir(tmp_path)
    few = ("--data.synthetic.classes", "2", "--data.synthetic.train", "12")
    few += ("--data.synthetic.test", "6", "--grid", "2")
    run("study", "backgrounds", source, *DATA, *CHALLENGE, *few)
    out = capsys.readouterr().out
    assert f"images of {size} x {size} pixels" in out
    data = read(tmp_path / re.search(r"wrote (\S+)", out)[1])["config"]["data"]
    assert data["image_size"] == size
    assert data["std"] != [0.2023, 0.1994, 0.201]


@pytest.mark.parametrize("kind", ["timm", "onnx"])
def test_a_size_that_a_network_does_not_take(kind, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    source, size = f"timm:vit_tiny_patch16_224@{tmp_path / 'w.pth'}", 224
    if kind == "timm":
        torch.save(timm.create_model("vit_tiny_patch16_224").state_dict(), tmp_path / "w.pth")
    else:
        source, size = onnx_file(tmp_path / "w.onnx", 24), 24
    options = ("--data.source", "synthetic", "--data.image-size", "32")
    for verb in (("study", "backgrounds"), ("evaluate",)):
        said = refused(capsys, *verb, source, *options)
        assert "does not run on images" in said
        assert said.endswith(f": pass --data.image-size {size}")
    assert said == refused(capsys, "study", "pictures", f"one={source}", *options)


def test_pictures_of_an_encoder_made_elsewhere(tmp_path, capsys):
    source = onnx_file(tmp_path / "w.onnx", 24)
    run("study", "pictures", f"one={source}", *DATA, "--out", tmp_path / "out")
    assert set(read(tmp_path / "out" / "pictures.json")) == {"one"}
