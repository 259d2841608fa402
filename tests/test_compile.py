# SPDX-License-Identifier: Apache-2.0
"""A compiled encoder: the same numbers, and nothing is compiled twice."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from iclmsr.config import MSRConfig, PretrainConfig
from iclmsr.methods.byol import BYOLConfig
from iclmsr.networks import Encoder
from iclmsr.optim import OptimizerConfig
from iclmsr.stages import Batch, Place, TwoStages

CONFIG = PretrainConfig(
    method=BYOLConfig(hidden_dim=16, embedding_dim=8),
    optimizer=OptimizerConfig(warmup_steps=0),
    msr=MSRConfig(enabled=True, strata=3),
)


@pytest.fixture(autouse=True)
def _small_encoder(monkeypatch):
    """Two convolutions: compiling a ResNet takes minutes."""

    def build(*_):
        torch.manual_seed(0)
        layers = [
            nn.Sequential(nn.Conv2d(c, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU())
            for c in (3, 8)
        ]
        return Encoder(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), 8)

    monkeypatch.setattr("iclmsr.stages.starting_encoder", build)
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def batch(seed):
    generator = torch.Generator().manual_seed(seed)
    return Batch([torch.randn(8, 3, 16, 16, generator=generator) for _ in range(2)], Place(0, seed))


def updates(stages, seeds):
    """Both schedules: stage 1 alone, both stages at once, stage 2 alone."""
    found = []
    for seed in seeds:
        one, other = batch(seed), batch(seed + 100)
        found.append(stages.theta_step(*one, lr=1e-2, progress=0.0)[0])
        found.append(stages.theta_step(*one, lr=1e-2, progress=0.0, outer=one)[0])
        found.append(stages.psi_step(one, other, lr=1e-2))
    return found


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("engine", ["difference", "dual", "reference"])
def test_same_numbers_and_no_recompilation_after_warm_up(engine):
    config = replace(CONFIG, msr=replace(CONFIG.msr, engine=engine))
    plain = TwoStages(config, torch.device("cpu"))
    compiled = TwoStages(replace(config, compile=True), torch.device("cpu"))
    assert compiled.method.encoder._compiled_call_impl is not None
    expected, found = updates(plain, range(2)), updates(compiled, range(2))
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert graphs > 0
    with torch.compiler.set_stance("fail_on_recompile"):
        found += updates(compiled, range(2, 5))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs
    expected += updates(plain, range(2, 5))
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, rel=2e-3)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_the_count_would_see_a_recompilation():
    compiled = TwoStages(replace(CONFIG, compile=True), torch.device("cpu"))
    updates(compiled, range(1))
    smaller = [view[:6] for view in batch(1).views]
    with torch.compiler.set_stance("fail_on_recompile"), pytest.raises(RuntimeError):
        compiled.theta_step(smaller, Place(0, 1), lr=1e-2, progress=0.0)
