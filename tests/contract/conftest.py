# SPDX-License-Identifier: Apache-2.0
"""Every method of ``METHODS`` at test size, so that one added later is tested as well."""

import copy
from dataclasses import fields

import pytest
import torch

from iclmsr.config import MSRConfig, PretrainConfig
from iclmsr.methods import METHODS
from iclmsr.networks import EncoderConfig, initial_encoder
from iclmsr.optim import OptimizerConfig
from iclmsr.stages import TwoStages

ENCODER = EncoderConfig(width=2)
SIZES = {"hidden_dim": 16, "embedding_dim": 8, "bottleneck_dim": 6}
SMALL = {
    "w-mse": {"sub_batch": 16},
    "ressl": {"queue_size": 40, "bn_splits": 2},  # 40: the third batch of 16 wraps around
    "ssl-hsic": {"rff_features": 64},
}
VARIANTS = {"relic, no target": ("relic", {"target": "none"})}  # whether there is a target
CASES = {name: (name, {}) for name in METHODS} | VARIANTS


def small(case):
    """The method's config at test size."""
    name, choices = CASES[case]
    has = {field.name for field in fields(METHODS[name])}
    sizes = {key: value for key, value in SIZES.items() if key in has}
    return METHODS[name](**sizes, **SMALL.get(name, {}), **choices)


@pytest.fixture(params=CASES)
def case(request):
    """A method, by name."""
    return request.param


@pytest.fixture(params=[None, "static"], ids=["plain", "msr"])
def source(request):
    """The regularizer's source; None is no regularizer."""
    return request.param


@pytest.fixture
def configure():
    """``configure(case, source)``: a run of 16 images a batch with that method."""

    def make(case, source=None, *, msr=None, **changes):
        options = {"strata": 3, "hidden_dim": 8, "loss_weight": 0.5, **(msr or {})}
        regularizer = MSRConfig(enabled=source is not None, source=source or "static", **options)
        return PretrainConfig(
            batch_size=16,
            method=small(case),
            encoder=ENCODER,
            optimizer=OptimizerConfig(lr=1e-2, warmup_steps=0),
            msr=regularizer,
            **changes,
        )

    return make


@pytest.fixture(scope="session")
def initial():
    """The one untrained encoder: torchvision takes its time to build it."""
    return initial_encoder(ENCODER, seed=0)


@pytest.fixture
def build(configure, initial, monkeypatch):
    """``build(case, source)``: both stages as new, in float64 if ``double``."""
    monkeypatch.setattr("iclmsr.stages.starting_encoder", lambda *_: copy.deepcopy(initial))

    def make(case, source=None, *, double=False, **changes):
        stages = TwoStages(configure(case, source, **changes), torch.device("cpu"))
        if double:
            stages.method.double()
            if stages.msr is not None:
                stages.msr.double()
        return stages

    return make


@pytest.fixture
def draw():
    """``draw(seed)``: views of 16 images, each a common part and noise of its own."""

    def make(seed, count=2, *, size=16, dtype=torch.float32):
        generator = torch.Generator().manual_seed(seed)
        common, *noise = torch.randn(1 + count, 16, 3, size, size, generator=generator)
        return [(common + 0.5 * own).to(dtype) for own in noise]

    return make


@pytest.fixture
def snapshot():
    """``snapshot(module)``: copies of its parameters and buffers by name."""

    def make(module):
        tensors = [*module.named_parameters(), *module.named_buffers()]
        return {name: tensor.detach().clone() for name, tensor in tensors}

    return make
