# SPDX-License-Identifier: Apache-2.0
import json
import re
from dataclasses import replace

import pytest
import torch
from bits import assert_same

from iclmsr import checkpoint
from iclmsr.config import CheckpointConfig, OnlineConfig, PretrainConfig
from iclmsr.data.sources import DataConfig
from iclmsr.data.synthetic import SyntheticConfig
from iclmsr.errors import IclmsrError
from iclmsr.evaluate.online import Online
from iclmsr.methods.simclr import SimCLRConfig
from iclmsr.networks import EncoderConfig, initial_encoder
from iclmsr.pretrain import pretrain, resume

TINY = PretrainConfig(
    epochs=3,
    batch_size=16,
    method=SimCLRConfig(hidden_dim=16, embedding_dim=8),
    encoder=EncoderConfig(width=2),
    data=DataConfig(
        source="synthetic", image_size=16, synthetic=SyntheticConfig(train=96, test=24)
    ),
)
WATCHED = replace(TINY, online=OnlineConfig(every_epochs=2, images=48))


def records(run, event):
    return [
        record
        for line in (run / "metrics.jsonl").read_text().splitlines()
        if (record := json.loads(line))["event"] == event
    ]


def test_it_changes_no_bit_of_the_run_and_stands_apart(tmp_path, capsys):
    plain, watched = pretrain(TINY, tmp_path / "plain"), pretrain(WATCHED, tmp_path / "watched")
    states = [
        checkpoint.load(checkpoint.checkpoints(run / "checkpoints")[-1]) for run in (plain, watched)
    ]
    for state in states:
        state["position"].pop("metrics_size")
    assert_same(*states)
    one, other = ((run / "encoder.safetensors").read_bytes() for run in (plain, watched))
    assert one == other
    (record,) = records(watched, "online")
    assert record["epoch"] == 2
    assert 0 <= record["knn_top1"] <= 100
    assert record["share"] == pytest.approx(
        record["seconds"] / (2 * records(watched, "epoch")[1]["seconds"])
    )
    assert records(plain, "online") == []
    assert not (watched / "evaluation.json").exists()
    out = capsys.readouterr().out
    assert re.search(r"online, 1\d training images held out: 5-nn .* of the epochs' time", out)


def test_resuming_looks_again_and_ends_the_same(tmp_path, monkeypatch):
    config = replace(
        WATCHED,
        online=OnlineConfig(every_epochs=1, images=48),
        checkpoint=CheckpointConfig(every_epochs=2, keep=5),
    )
    whole = pretrain(config, tmp_path / "whole")
    torn = pretrain(config, tmp_path / "torn")
    checkpoint.checkpoints(torn / "checkpoints")[-1].unlink()  # back to epoch 2
    resume(torn)
    assert (whole / "encoder.safetensors").read_bytes() == (
        torn / "encoder.safetensors"
    ).read_bytes()
    seen = [
        [(each["epoch"], each["knn_top1"], each["linear_top1"]) for each in records(run, "online")]
        for run in (whole, torn)
    ]
    assert seen[0] == seen[1]
    assert [epoch for epoch, _, _ in seen[0]] == [1, 2, 3]


def test_the_encoder_leaves_as_it_came():
    online = Online(TINY.data, 48, torch.device("cpu"))
    encoder = initial_encoder(TINY.encoder, seed=0).train()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    state = torch.get_rng_state()
    first, again = online(encoder), online(encoder)
    assert (first.knn_top1, first.linear_top1) == (again.knn_top1, again.linear_top1)
    assert torch.equal(state, torch.get_rng_state())
    assert encoder.training
    assert_same(before, dict(encoder.state_dict()))


def test_test_images_stay_unseen(monkeypatch):
    asked = []
    from iclmsr.evaluate import online as module

    real = module.load
    monkeypatch.setattr(
        module, "load", lambda data, split: asked.append(split) or real(data, split)
    )
    Online(TINY.data, 48, torch.device("cpu"))
    assert asked == ["train"]


def test_it_is_off_by_default_and_says_what_it_needs(tmp_path):
    assert PretrainConfig().online.every_epochs is None
    with pytest.raises(IclmsrError, match="online.every-epochs must be >= 1, got 0"):
        OnlineConfig(every_epochs=0)
    with pytest.raises(IclmsrError, match="online.images must be >= 2, got 1"):
        OnlineConfig(images=1)


def test_it_looks_at_few_images_where_few_are_trained_on(tmp_path, capsys):
    """A 16th of those between two looks: a look costs a fourth of an image's training at most."""
    assert OnlineConfig(every_epochs=2).count(4000) == 500
    assert OnlineConfig(every_epochs=1).count(1_281_167) == 1000
    assert OnlineConfig(every_epochs=1).count(200) == 100
    assert OnlineConfig(every_epochs=1, images=2000).count(4000) == 2000
    assert OnlineConfig(every_epochs=1, images=2000).count(96) == 96
    pretrain(replace(WATCHED, epochs=2, online=OnlineConfig(every_epochs=2)), tmp_path / "run")
    assert "online, 24 training images held out" in capsys.readouterr().out


def test_a_look_that_costs_too_much_is_said(tmp_path, capsys, monkeypatch):
    from iclmsr import session

    monkeypatch.setattr(session, "SHARE", 0.0)
    pretrain(replace(WATCHED, epochs=2), tmp_path / "run")
    assert "more than 0 %: raise online.every-epochs" in capsys.readouterr().out
