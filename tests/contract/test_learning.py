# SPDX-License-Identifier: Apache-2.0
"""Each method learns: after a few epochs on embedded data, 5-nn beats the untrained encoder.

The data are the embedded ones with little variety in place and turn: colour is what tells two
images of a class apart, and the views jitter it. Settings are those of a short run, not of a
recipe. docs/methods.md has the spread over seeds from which the margins were taken.
"""

import pytest

from iclmsr.config import MSRConfig, PretrainConfig
from iclmsr.data.sources import DataConfig, load
from iclmsr.data.synthetic import SyntheticConfig
from iclmsr.data.views import ViewConfig
from iclmsr.evaluate import EvaluateConfig, features_of
from iclmsr.evaluate.knn import knn
from iclmsr.methods import METHODS
from iclmsr.networks import EncoderConfig, initial_encoder, read_encoder
from iclmsr.optim import OptimizerConfig
from iclmsr.pretrain import pretrain

DATA = DataConfig(
    source="synthetic",
    mean=(0.5, 0.5, 0.5),
    std=(0.25, 0.25, 0.25),
    synthetic=SyntheticConfig(train=2000, test=1000, rho=1.0, variety=0.1),
)
SHORT = {  # what a run of a few hundred steps needs
    "simclr": {"temperature": 0.2},
    "byol": {"embedding_dim": 64, "hidden_dim": 2048, "target_decay": 0.999},
    "w-mse": {"embedding_dim": 16, "sub_batch": 64},
    "ressl": {
        "embedding_dim": 64,
        "hidden_dim": 1024,
        "queue_size": 512,
        "teacher_temperature": 0.02,
        "target_decay": 0.98,
    },
    "lmcl": {"temperature": 0.2},
    "ssl-hsic": {"target_decay": 0.98},
    "relic": {"temperature": 0.2, "target_decay": 0.9},
}
MARGINS = {"simclr": 20.0}
"""Percentage points of 5-nn top-1."""


def run_of(method, msr, seed=0):
    """A short run of one method."""
    weak = (1,) if method == "ressl" else ()
    return PretrainConfig(
        seed=seed,
        epochs=20 if method == "ressl" else 12,
        batch_size=64,
        device="cpu",
        method=METHODS[method](**{"hidden_dim": 512, "embedding_dim": 32, **SHORT[method]}),
        encoder=EncoderConfig(stem="small", width=8),
        data=DATA,
        views=ViewConfig(
            crop_scale=(1.0, 1.0),
            crop_ratio=(1.0, 1.0),
            jitter=(0.4, 0.4, 0.4, 0.5),
            jitter_probability=1.0,
            grayscale=0.2,
            weak=weak,
        ),
        optimizer=OptimizerConfig(
            lr=1e-3 if method == "ressl" else 3e-3, warmup_steps=20, schedule="cosine"
        ),
        msr=MSRConfig(enabled=msr),
    )


def accuracy(encoder):
    """5-nn top-1 in percent."""
    settings = EvaluateConfig(device="cpu")
    train, test = (features_of(encoder, load(DATA, split), settings) for split in ("train", "test"))
    return knn(train, test)["top1"]


CASES = [
    pytest.param(
        method, msr,
        marks=() if method == "simclr" else pytest.mark.long,
        id=f"{method}-msr" if msr else method,
    )
    for method in SHORT
    for msr in (False, True)
]  # fmt: skip


@pytest.mark.parametrize(("method", "msr"), CASES)
def test_beats_the_untrained_encoder(method, msr, tmp_path):
    config = run_of(method, msr)
    untrained = accuracy(initial_encoder(config.encoder, config.seed))
    run = pretrain(config, tmp_path / "run")
    trained = accuracy(read_encoder(run / "encoder.safetensors")[0])
    assert trained > untrained + MARGINS[method]
