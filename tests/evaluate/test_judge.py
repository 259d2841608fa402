# SPDX-License-Identifier: Apache-2.0
import json
from dataclasses import replace

import pytest
import torch

from iclmsr.config import PretrainConfig, encode
from iclmsr.data.sources import DataConfig, load
from iclmsr.data.synthetic import SyntheticConfig
from iclmsr.errors import IclmsrError
from iclmsr.evaluate import EvaluateConfig, evaluate, features_of, judge_features
from iclmsr.evaluate.features import Features
from iclmsr.evaluate.knn import knn
from iclmsr.evaluate.linear_probe import initial, linear_probe
from iclmsr.evaluate.protocol import LinearProbeConfig
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


def test_only_the_unchanged_protocol_bears_its_name(run, monkeypatch):
    changed = evaluate(run, QUICK, say=lambda line: None)
    assert changed["protocol"] == "w-mse-2021, changed"
    monkeypatch.setattr(
        "iclmsr.evaluate.judge.fit_probe",
        lambda train, *_, classes: (initial(train.features.shape[1], classes, seed=0), {}),
    )
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
    with pytest.raises(IclmsrError, match="train and test have other classes"):
        evaluate(run, QUICK, say=lambda line: None)


def test_unknown_device(run):
    with pytest.raises(IclmsrError, match="device 'abacus' is not to be had here"):
        evaluate(run, replace(QUICK, device="abacus"), say=lambda line: None)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"k": 0}, "k must be >= 1, got 0"), ({"batch_size": 0}, "batch-size must be >= 1, got 0")],
)
def test_bad_values(change, message):
    with pytest.raises(IclmsrError, match=message):
        EvaluateConfig(**change)
