# SPDX-License-Identifier: Apache-2.0
"""Where the relative steps of engine ``difference`` come from: a network some way into training."""

from dataclasses import replace

import pytest
import torch

from iclmsr.bilevel import cosine
from iclmsr.config import MSRConfig, PretrainConfig
from iclmsr.data.batches import Epoch
from iclmsr.data.sources import DataConfig, load
from iclmsr.methods.simclr import SimCLRConfig
from iclmsr.networks import EncoderConfig
from iclmsr.optim import OptimizerConfig
from iclmsr.stages import Batch, Place, TwoStages

CONFIG = PretrainConfig(
    batch_size=64,
    method=SimCLRConfig(hidden_dim=128, embedding_dim=32),
    encoder=EncoderConfig(width=8),
    data=DataConfig(source="synthetic", limit=2048, mean=(0.5,) * 3, std=(0.25,) * 3),
    optimizer=OptimizerConfig(warmup_steps=20),
    msr=MSRConfig(enabled=True, optimizer="sgd", lr=1.0),
)


@pytest.fixture(scope="module")
def trained():
    """A state after 100 steps, and the batch that comes next."""
    images = load(CONFIG.data, "train").images
    stages = TwoStages(CONFIG, torch.device("cpu"))
    for step in range(101):
        data = Epoch(
            images, CONFIG.views, view_count=2, batch_size=64, seed=0, epoch=step // 32,
            mean=CONFIG.data.mean, std=CONFIG.data.std,
        )  # fmt: skip
        batch = Batch(data.views(step % 32), Place(step // 32, step % 32))
        if step < 100:
            stages.theta_step(*batch, lr=3e-3, progress=step / 100)
    return stages.state_dict(), batch


def gradient(trained, engine, precision="fp32", step=None, sides=1):
    """Psi's gradient: minus how plain SGD at rate 1 moves it."""
    msr = replace(CONFIG.msr, engine=engine, difference_step=step, difference_sides=sides)
    stages = TwoStages(replace(CONFIG, precision=precision, msr=msr), torch.device("cpu"))
    stages.load_state_dict(trained[0])
    before = stages.msr.logits.detach().clone()
    stages.psi_step(trained[1], trained[1], lr=3e-3)
    return [before - stages.msr.logits.detach()]


@pytest.mark.long
def test_the_default_steps_are_well_chosen(trained):
    truth = gradient(trained, "reference")
    found = {
        (precision, step, sides): cosine(
            gradient(trained, "difference", precision, step, sides), truth
        )
        for precision in ("fp32", "bf16")
        for step in (None, 3e-6, 1e-5, 1e-4, 1e-3)
        for sides in (1, 2)
    }
    print({key: round(value, 4) for key, value in found.items()})
    assert cosine(gradient(trained, "dual"), truth) > 0.999999
    for sides in (1, 2):
        assert found["fp32", None, sides] == found["fp32", 3e-6, sides] > 0.999
        assert found["bf16", None, sides] == found["bf16", 1e-4, sides] > 0.95
        for step in (3e-6, 1e-3):
            assert found["bf16", step, sides] < found["bf16", None, sides]
        assert found["fp32", 1e-3, sides] < found["fp32", None, sides]
