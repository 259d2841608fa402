# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import pytest
import torch

from iclmsr import checkpoint
from iclmsr.config import CheckpointConfig, MSRConfig, PretrainConfig
from iclmsr.data.sources import DataConfig, load
from iclmsr.data.synthetic import SyntheticConfig
from iclmsr.data.views import ViewConfig
from iclmsr.evaluate import EvaluateConfig, features_of
from iclmsr.health import summary
from iclmsr.methods.simclr import SimCLRConfig
from iclmsr.networks import EncoderConfig
from iclmsr.pretrain import pretrain, resume
from iclmsr.runs import RunFolder

TINY = PretrainConfig(
    epochs=3,
    batch_size=16,
    method=SimCLRConfig(hidden_dim=16, embedding_dim=8),
    encoder=EncoderConfig(width=2),
    data=DataConfig(
        source="synthetic", image_size=16, synthetic=SyntheticConfig(train=64, test=16)
    ),
    views=ViewConfig(size=16),
    msr=MSRConfig(enabled=True, strata=3, every_steps=2, lr=0.1),
    checkpoint=CheckpointConfig(every_steps=1, keep=100),
)


def test_weights_of_every_epoch(tmp_path):
    run = pretrain(TINY, tmp_path / "run")
    records = RunFolder(run).weights.records()
    assert [record["epoch"] for record in records] == [1, 2, 3]
    state = checkpoint.load(checkpoint.checkpoints(run / "checkpoints")[-1])
    final = state["stages"]["msr"]["logits"].sigmoid()
    assert torch.allclose(torch.tensor(records[-1]["weights"]), final, atol=6e-4)
    assert records[0]["weights"] != records[-1]["weights"]
    assert (records[0]["strata"], records[0]["dims"], len(records[0]["kept"])) == (3, 8, 8)


def test_weights_of_each_image_are_averaged(tmp_path):
    msr = replace(TINY.msr, source="features")
    run = pretrain(replace(TINY, epochs=1, msr=msr), tmp_path / "run")
    [record] = RunFolder(run).weights.records()
    assert torch.tensor(record["weights"]).shape == (3, 8)
    assert 0 < record["mean"] < 1


def test_a_run_without_the_regularizer_has_none(tmp_path):
    run = pretrain(replace(TINY, epochs=1, msr=MSRConfig()), tmp_path / "run")
    assert not (run / "weights.jsonl").exists()


@pytest.mark.parametrize("last", [0, 4])
def test_weights_are_cut_back_on_resume(tmp_path, last):
    run = pretrain(TINY, tmp_path / "run")
    expected = (run / "weights.jsonl").read_bytes()
    for newer in checkpoint.checkpoints(run / "checkpoints")[last + 1 :]:
        newer.unlink()
    resume(run)
    assert (run / "weights.jsonl").read_bytes() == expected


def test_summary_keeps_few_of_many():
    weights = torch.linspace(0, 1, 4 * 1000).view(4, 1000)
    found = summary(weights, values=40)
    assert found["kept"] == list(range(0, 1000, 100))
    assert found["weights"][1][2] == round(weights[1, 200].item(), 3)
    assert found["mean"] == pytest.approx(0.5)
    # Rows differ by 1, 2 or 3 quarters: 3, 2 and 1 pairs of them.
    step = 1000 / 3999
    assert found["distance"] == pytest.approx(step * ((3 + 2 * 4 + 9) / 6) ** 0.5, abs=1e-6)
    assert summary(torch.rand(1, 5))["distance"] == 0


def test_training_and_evaluation_on_a_cpu_keep_freed_memory(tmp_path, monkeypatch):
    kept = []
    for module in ("session", "evaluate.judge"):
        monkeypatch.setattr(f"iclmsr.{module}.keep_freed_memory", lambda m=module: kept.append(m))
    pretrain(TINY, tmp_path / "run")
    assert kept == ["session"]
    features_of(None, load(TINY.data, "test"), EvaluateConfig(data=TINY.data))
    assert kept == ["session", "evaluate.judge"]
