# SPDX-License-Identifier: Apache-2.0
import json
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image

from iclmsr import cli
from iclmsr.config import PretrainConfig, encode
from iclmsr.data.sources import DataConfig, load
from iclmsr.data.synthetic import SyntheticConfig
from iclmsr.encoders import LoadedEncoder
from iclmsr.errors import IclmsrError
from iclmsr.evaluate import (
    EvaluateConfig,
    evaluate,
    features_of,
    judge_features,
    report_path,
    show,
)
from iclmsr.evaluate.features import Features
from iclmsr.evaluate.knn import knn
from iclmsr.evaluate.linear_probe import initial, linear_probe
from iclmsr.evaluate.protocol import (
    FewLabelConfig,
    FineTuneConfig,
    LinearProbeConfig,
    LogisticProbeConfig,
)
from iclmsr.networks import EncoderConfig, initial_encoder, write_encoder
from iclmsr.runs import RunFolder

DATA = DataConfig(
    source="synthetic", image_size=16, limit=9, synthetic=SyntheticConfig(train=64, test=40)
)
CONFIG = PretrainConfig(encoder=EncoderConfig(width=2), data=DATA)
QUICK = EvaluateConfig(data=DATA, linear_probe=LinearProbeConfig(epochs=3))


@pytest.fixture
def run(tmp_path):
    folder = RunFolder.create(tmp_path / "run", encode(CONFIG), {})
    encoder = initial_encoder(CONFIG.encoder, seed=5)
    write_encoder(folder.encoder, encoder, CONFIG.encoder, epoch=2, step=8)
    return folder.path


@pytest.fixture
def fast(monkeypatch):
    """A probe that learns nothing."""
    monkeypatch.setattr(
        "iclmsr.evaluate.judge.fit_probe",
        lambda train, *_, classes: (initial(train.features.shape[1], classes, seed=0), {}),
    )


def images_in(root, names="ab"):
    """A folder of two classes."""
    for split in ("train", "test"):
        for shade, name in enumerate(names):
            (root / split / name).mkdir(parents=True)
            for number in range(2):
                image = Image.new("RGB", (16, 16), (100 * shade, 40 * number, 9))
                image.save(root / split / name / f"{number}.png")
    return root


def run_on(path, **data):
    """A run that was pretrained on some data."""
    config = replace(CONFIG, data=replace(DataConfig(image_size=16), **data))
    folder = RunFolder.create(path, encode(config), {})
    encoder = initial_encoder(CONFIG.encoder, seed=5)
    write_encoder(folder.encoder, encoder, CONFIG.encoder, epoch=2, step=8)
    return folder.path


def test_defaults_take_the_runs_data_and_all_its_images(run):
    config = EvaluateConfig.of_run(run)
    assert config.data == replace(DATA, limit=None)
    assert config.linear_probe == LinearProbeConfig()
    assert config.k == 5


def test_the_report_holds_what_the_pure_functions_say(run):
    config = replace(QUICK, data=replace(DATA, limit=None), baselines=True)
    report = evaluate(run, config, say=lambda line: None)
    assert json.loads((run / "evaluation.json").read_text()) == report
    assert (report["epoch"], report["step"]) == (2, 8)
    assert report["data"]["train"]["images"] == 64
    train, test = load(config.data, "train"), load(config.data, "test")
    for name, encoder in (
        ("encoder", initial_encoder(CONFIG.encoder, seed=5)),
        ("untrained", initial_encoder(CONFIG.encoder, seed=CONFIG.seed)),
        ("pixels", None),
    ):
        known = [features_of(encoder, images, config) for images in (train, test)]
        assert report["results"][name]["linear"] == linear_probe(*known, config.linear_probe)
        assert report["results"][name]["knn"]["top1"] == knn(*known)["top1"]
    linear = [result["linear"]["top1"] for result in report["results"].values()]
    assert len(set(linear)) > 1


def test_only_the_unchanged_protocol_bears_its_name(run, fast):
    changed = evaluate(run, QUICK, say=lambda line: None)
    assert changed["protocol"] == "w-mse-2021, changed"
    standard = EvaluateConfig(data=DATA, baselines=True, batch_size=7)
    assert evaluate(run, standard, say=lambda line: None)["protocol"] == "w-mse-2021"


def test_nearest_neighbours_top5_needs_a_vote():
    """Neighbours of classes 0, 0, 1, 1, 2: class 2 is found at 5, class 3 is not."""
    train = Features(torch.arange(6.0)[:, None], torch.tensor([0, 0, 1, 1, 2, 3]))
    test = Features(torch.zeros(2, 1), torch.tensor([2, 3]))
    result = judge_features(train, test, QUICK)["knn"]
    assert result == {"k": 5, "top1": 0.0, "top5": 50.0}


def test_train_and_test_of_other_classes_are_refused(run, monkeypatch):
    real = load

    def other(config, split):
        images = real(config, split)
        return replace(images, classes=("a", "b")) if split == "test" else images

    monkeypatch.setattr("iclmsr.evaluate.judge.open_split", other)
    with pytest.raises(IclmsrError, match="train and test have other classes: .*--data.no-cache"):
        evaluate(run, QUICK, say=lambda line: None)


def test_unknown_device(run):
    with pytest.raises(IclmsrError, match="device 'abacus' is not to be had here"):
        evaluate(run, replace(QUICK, device="abacus"), say=lambda line: None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "k must be >= 1, got 0"),
        ({"batch_size": 0}, "batch-size must be >= 1, got 0"),
        ({"neighbours": (1, 0)}, "neighbours must be >= 1, got 0"),
        ({"feature_cache": -1.0}, "feature-cache must be >= 0, got -1.0"),
    ],
)
def test_bad_values(change, message):
    with pytest.raises(IclmsrError, match=message):
        EvaluateConfig(**change)


def test_the_report_says_what_was_confused_and_by_whom(run):
    config = replace(QUICK, data=replace(DATA, limit=None), neighbours=(1, 20, 200))
    report = evaluate(run, config, say=lambda line: None)
    result = report["results"]["encoder"]
    train, test = load(config.data, "train"), load(config.data, "test")
    known = [
        features_of(initial_encoder(CONFIG.encoder, 5), each, config) for each in (train, test)
    ]
    assert result == judge_features(*known, config)
    for kind in ("linear", "knn"):
        matrix = torch.tensor(result["confusion"][kind])
        assert matrix.sum(1).tolist() == test.labels.bincount(minlength=len(test.classes)).tolist()
        right = 100 * matrix.diagonal().sum().item() / len(test)
        assert right == pytest.approx(result[kind]["top1"])
        shares = [share for share in result["per_class"][kind] if share is not None]
        assert len(shares) == len(test.classes)
    variants = {(one["distance"], one["k"]) for one in result["knn_variants"]}
    assert variants == {("euclidean", 1), ("euclidean", 20), *(("cosine", k) for k in (1, 5, 20))}
    assert report["classes"] == list(test.classes)
    assert report["protocol_version"] == 1


def test_the_other_protocol_is_named_with_its_choice(run):
    config = replace(QUICK, data=replace(DATA, limit=None), protocol="linear-lbfgs")
    report = evaluate(run, config, say=lambda line: None)
    assert report["protocol"] == "linear-lbfgs"
    assert report["config"]["linear_lbfgs"]["validation"] == 0.2
    assert report["results"]["encoder"]["linear_choice"]["penalty"] in config.linear_lbfgs.penalties
    other = replace(config, linear_lbfgs=replace(config.linear_lbfgs, validation=0.3))
    assert evaluate(run, other, say=lambda line: None)["protocol"] == "linear-lbfgs, changed"
    again = evaluate(run, config, say=lambda line: None)
    assert again["results"] == report["results"]


def test_few_labels_and_fine_tuning_are_asked_for(run):
    config = replace(
        QUICK,
        data=replace(DATA, limit=None),
        few_labels=FewLabelConfig(shares=(0.5,), draws=2),
        fine_tune=FineTuneConfig(epochs=1, batch_size=32),
    )
    result = evaluate(run, config, say=lambda line: None)["results"]["encoder"]
    assert result["few_labels"][0]["images"] < 64
    assert set(result["fine_tuning"]) == {"top1", "top5", "images", "loss"}


def test_features_are_extracted_once(run, monkeypatch, tmp_path):
    monkeypatch.setenv("ICLMSR_CACHE", str(tmp_path / "cache"))
    config = replace(QUICK, features=tmp_path / "f.npy", out=tmp_path / "report.json")
    first = evaluate(run, config, say=lambda line: None)
    monkeypatch.setattr("iclmsr.evaluate.judge.extract", lambda *_, **__: pytest.fail("again"))
    assert evaluate(run, config, say=lambda line: None)["results"] == first["results"]
    assert numpy.load(tmp_path / "f.npy").shape == (9 + 40, 16)
    assert json.loads((tmp_path / "report.json").read_text())["results"] == first["results"]
    assert not (run / "evaluation.json").exists()
    encoder = initial_encoder(CONFIG.encoder, seed=6)
    write_encoder(RunFolder.open(run).encoder, encoder, CONFIG.encoder, epoch=3, step=9)
    with pytest.raises(pytest.fail.Exception, match="again"):
        evaluate(run, config, say=lambda line: None)


def test_an_encoder_that_is_no_run(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    network = initial_encoder(CONFIG.encoder, seed=1).eval()
    about = {"encoder": {"name": "net"}, "dropped": ["fc"], "assumed": "a stem"}
    loaded = LoadedEncoder(network, "some/net", (0.4,) * 3, (0.2,) * 3, 16, "ab" * 32, about)
    monkeypatch.setattr("iclmsr.evaluate.settings.load_encoder", lambda source: loaded)
    config = EvaluateConfig.of("timm:some/net@file")
    assert config.data.mean == (0.4,) * 3
    assert config.data.std == (0.2,) * 3
    assert config.data.image_size == 16
    config = replace(
        QUICK, data=replace(DATA, mean=config.data.mean, std=config.data.std), baselines=True
    )
    said = []
    report = evaluate("timm:some/net@file", config, say=said.append)
    assert set(report["results"]) == {"encoder", "pixels"}
    assert any(line.startswith("untrained: left out") for line in said)
    assert said[:2] == ["left out of some/net: fc", "assumed of some/net: a stem"]
    assert report["encoder"] == {
        "source": "timm:some/net@file", "name": "some/net", "sha256": "ab" * 32,
        "architecture": {"name": "net"}, "dropped": ["fc"], "assumed": "a stem",
    }  # fmt: skip
    assert json.loads(Path("evaluation-some-net.json").read_text()) == report
    show(report)


def test_nothing_there_and_nowhere_to_write(run, tmp_path):
    with pytest.raises(IclmsrError, match="nowhere is not a run folder, and no encoder's file"):
        EvaluateConfig.of(tmp_path / "nowhere")
    for change, message in (
        ({"features": tmp_path / "f.txt"}, "ends in .npy or .parquet"),
        ({"out": tmp_path / "no" / "r.json"}, "--out must be a file in a folder that exists"),
    ):
        with pytest.raises(IclmsrError, match=message):
            evaluate(run, replace(QUICK, **change), say=lambda line: None)


def test_what_is_printed(run, capsys):
    config = replace(
        QUICK,
        data=replace(DATA, limit=None),
        protocol="linear-lbfgs",
        linear_lbfgs=LogisticProbeConfig(penalties=(1.0, 0.1)),
        few_labels=FewLabelConfig(shares=(0.5,), draws=2),
    )
    report = evaluate(run, config, say=lambda line: None)
    show(report)
    out = capsys.readouterr().out
    few = report["results"]["encoder"]["few_labels"][0]
    assert f"linear probe on 50 % of the labels ({few['images']} images, 2 draws)" in out
    assert f"top-1 {few['top1']:.2f} +- {few['top1_sd']:.2f}" in out
    assert "hardest classes for the linear probe" in out
    assert "penalty" in out
    assert "uniform, Euclidean" in out


def test_a_run_its_file_and_nothing_else_say_how_images_are_prepared(tmp_path):
    sizes = {"image_size": 24, "evaluate_resize": 20, "evaluate_crop": 16}
    run = run_on(tmp_path / "run", source="synthetic", synthetic=DATA.synthetic, **sizes)
    found = []
    for source in (run, run / "encoder.safetensors"):
        config = EvaluateConfig.of(source, "synthetic")
        assert {name: getattr(config.data, name) for name in sizes} == sizes
        data = replace(config.data, synthetic=DATA.synthetic)
        out = tmp_path / "report.json"
        config = replace(QUICK, data=data, out=out)
        found.append(evaluate(source, config, say=lambda line: None)["results"])
    assert found[0] == found[1]


def test_of_another_source_the_encoder_sets_what_it_wants_and_no_more(tmp_path):
    run = run_on(
        tmp_path / "run", source="hf", root="/x", labels=False, variant="only_fg", masks="/m",
        image_column="img", label_column="fine", mask_column="m", on_corrupt="skip",
        mean=(0.1,) * 3, std=(0.2,) * 3,
    )  # fmt: skip
    wanted = DataConfig(source="stl10", image_size=16, mean=(0.1,) * 3, std=(0.2,) * 3)
    assert EvaluateConfig.of(run, "stl10").data == wanted
    own = EvaluateConfig.of(run)
    assert own == EvaluateConfig.of(run, "hf") == EvaluateConfig.of_run(run)
    assert (own.data.labels, own.data.variant, own.data.label_column) == (True, "only_fg", "fine")
    assert own.data.masks == Path("/m")  # that the variant needs


def test_transfer_from_an_unlabelled_run(tmp_path, fast, capsys):
    """On other data and on its own."""
    own = images_in(tmp_path / "own")
    run = run_on(tmp_path / "run", source="folder", root=own, labels=False)
    words = ["evaluate", str(run), "--neighbours", "1", "--k", "1", "--device", "cpu"]
    assert cli.main([*words, "--data.source=imagenet", "--data.root", str(own)]) == 0
    assert f"wrote {run / 'evaluation-imagenet-own.json'}" in capsys.readouterr().out
    assert cli.main([*words, "--data.source", "synthetic", "--data.synthetic.train", "64"]) == 0
    assert f"wrote {run / 'evaluation-synthetic.json'}" in capsys.readouterr().out
    assert cli.main(words) == 0
    report = json.loads((run / "evaluation.json").read_text())
    assert report["classes"] == ["a", "b"]


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({}, "evaluation.json"),
        ({"root": Path("/moved"), "workers": 3, "resident": "disk"}, "evaluation.json"),
        ({"limit": 5}, "evaluation-cifar10.json"),
        ({"variant": "only_fg"}, "evaluation-cifar10-only_fg.json"),
        ({"image_size": 8}, "evaluation-cifar10.json"),
        ({"source": "stl10"}, "evaluation-stl10.json"),
        ({"source": "hf:a/b:c", "root": None}, "evaluation-hf-a-b-c.json"),
        ({"source": "folder", "root": Path("/x/birds")}, "evaluation-folder-birds.json"),
    ],
)
def test_only_the_runs_own_data_give_its_own_report(tmp_path, change, name):
    run = run_on(tmp_path / "run", source="cifar10", root=tmp_path, limit=100)
    config = EvaluateConfig.of(run)
    config = replace(config, data=replace(config.data, **change))
    assert report_path(run, "any", config) == run / name
    assert report_path(run, "any", replace(config, out=Path("x"))) == Path("x")


def test_another_folder_is_other_data_unless_the_runs_has_moved(tmp_path):
    own = images_in(tmp_path / "own")
    run = run_on(tmp_path / "run", source="folder", root=own)

    def name(root):
        config = EvaluateConfig.of(run)
        return report_path(run, "", replace(config, data=replace(config.data, root=root))).name

    assert name(own) == "evaluation.json"
    assert name(tmp_path / "birds") == "evaluation-folder-birds.json"
    own.rename(tmp_path / "moved")
    assert name(tmp_path / "moved") == "evaluation.json"
