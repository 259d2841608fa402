# SPDX-License-Identifier: Apache-2.0
"""Runs that start from another encoder: from its very weights, noted, and resumed without it."""

import json
from dataclasses import asdict, replace

import pytest
import torch

from iclmsr import cli
from iclmsr.checkpoint import checkpoints
from iclmsr.config import PretrainConfig
from iclmsr.data.sources import DataConfig
from iclmsr.data.synthetic import SyntheticConfig
from iclmsr.data.views import ViewConfig
from iclmsr.encoders import load_encoder
from iclmsr.encoders.start import starting_encoder
from iclmsr.errors import IclmsrError
from iclmsr.methods.simclr import SimCLRConfig
from iclmsr.networks import EncoderConfig, initial_encoder, write_encoder
from iclmsr.pretrain import pretrain, resume
from iclmsr.stages import TwoStages

CONFIG = EncoderConfig(width=2)
TINY = PretrainConfig(
    epochs=2,
    batch_size=8,
    method=SimCLRConfig(hidden_dim=8, embedding_dim=4),
    encoder=CONFIG,
    data=DataConfig(source="synthetic", image_size=16, synthetic=SyntheticConfig(train=16, test=8)),
    views=ViewConfig(size=16),
)


@pytest.fixture
def source(tmp_path):
    """Weights that no run with seed 0 starts with, as lightly would have written them."""
    network = initial_encoder(CONFIG, 5).network
    state = {f"backbone.{key}": value for key, value in network.state_dict().items()}
    state["projection_head.layers.0.weight"] = torch.zeros(2)
    torch.save({"state_dict": state}, tmp_path / "other.ckpt")
    return tmp_path / "other.ckpt"


def same(first, second):
    a, b = first.state_dict(), second.state_dict()
    return a.keys() == b.keys() and all(torch.equal(value, b[key]) for key, value in a.items())


def test_a_run_starts_with_its_weights(source):
    config = replace(TINY, init=str(source))
    encoder = TwoStages(config, torch.device("cpu")).method.encoder
    assert same(encoder, initial_encoder(CONFIG, 5))
    assert not same(encoder, initial_encoder(CONFIG, 0))
    assert same(starting_encoder(CONFIG, 0), initial_encoder(CONFIG, 0))


def test_it_is_noted_and_resuming_needs_no_file(source, tmp_path, capsys):
    config = replace(TINY, init=str(source))
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    pretrain(config, whole)
    pretrain(config, cut)
    assert json.loads((whole / "config.json").read_text())["init"] == str(source)
    noted = json.loads((whole / "environment.json").read_text())["init"]
    assert noted["sha256"] == load_encoder(source).sha256
    assert (noted["source"], noted["name"]) == (str(source), "other.ckpt")
    assert noted["dropped"] == ["projection_head"]
    assert noted["architecture"] == asdict(CONFIG)
    assert noted["assumed"].startswith("a resnet18, images normalized as ImageNet's")
    said = capsys.readouterr().out
    assert said.count("left out of other.ckpt: projection_head") == 2
    assert said.count("assumed of other.ckpt: a resnet18") == 2
    plain = pretrain(TINY, tmp_path / "plain")
    assert weights(plain) != weights(whole)
    source.unlink()
    checkpoints(cut / "checkpoints")[-1].unlink()
    assert len(checkpoints(cut / "checkpoints")) == 1
    resume(cut)
    assert weights(cut) == weights(whole)


def weights(run):
    return (run / "encoder.safetensors").read_bytes()


def test_a_run_without_a_checkpoint_starts_anew_from_the_same_weights_only(source, tmp_path):
    config = replace(TINY, init=str(source))
    run = pretrain(config, tmp_path / "run")
    before = weights(run)
    for path in checkpoints(run / "checkpoints"):
        path.unlink()
    resume(run)
    assert weights(run) == before
    for path in checkpoints(run / "checkpoints"):
        path.unlink()
    torch.save(initial_encoder(CONFIG, 6).network.state_dict(), source)
    with pytest.raises(IclmsrError, match="has changed since the run began .* no checkpoint"):
        resume(run)


def test_an_encoder_of_another_kind(source, tmp_path):
    out = tmp_path / "run"
    config = replace(TINY, init=str(source), encoder=EncoderConfig(width=4))
    with pytest.raises(IclmsrError, match=r"conv1.weight \(2, 3, 3, 3\) instead of .*width 2"):
        pretrain(config, out)
    assert not out.exists()
    ours = tmp_path / "ours.safetensors"
    about = {"mean": [0.5] * 3, "std": [0.5] * 3}
    write_encoder(ours, initial_encoder(CONFIG, 1), CONFIG, preprocessing=about)
    with pytest.raises(IclmsrError, match="has stem cifar, not small: pass --encoder.stem cifar"):
        starting_encoder(EncoderConfig(width=2, stem="small"), 0, str(ours))
    small = starting_encoder(EncoderConfig(width=2, stem="small"), 0, str(source))  # not said
    assert same(small, initial_encoder(CONFIG, 5))


def test_on_the_command_line(source, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["pretrain", "simclr-synthetic", "--epochs", "1", "--batch-size", "8", "--init"]
    words += [source.name, "--encoder.width", "2", "--data.synthetic.train", "16", "--out", "run"]
    assert cli.main(words) == 0
    assert json.loads((tmp_path / "run/config.json").read_text())["init"] == str(source)
    words[7:8] = ["torchvision:resnet18@none.pth"]
    assert cli.main([*words[:-1], "again"]) == 2
    assert f"no weights at {tmp_path}/none.pth: there is no such file" in capsys.readouterr().err
    assert not (tmp_path / "again").exists()


def test_the_metadata_name_the_architecture(source):
    assert load_encoder(source).metadata["encoder"] == asdict(CONFIG)
