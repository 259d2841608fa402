# SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch

from iclmsr.errors import IclmsrError
from iclmsr.optim import OptimizerConfig, build_optimizer, learning_rate


def rates(config, steps_per_epoch, epochs):
    return [
        learning_rate(config, step, steps_per_epoch=steps_per_epoch, epochs=epochs)
        for step in range(steps_per_epoch * epochs)
    ]


def test_the_protocols_schedule():
    """Warm-up of 500 iterations, then x 0.2 at epochs 950 and 975 of 1000."""
    found = rates(OptimizerConfig(), 97, 1000)
    assert found[:500] == pytest.approx([3e-3 * (t + 1) / 500 for t in range(500)])
    assert set(found[500 : 97 * 950]) == {3e-3}
    assert found[97 * 950 : 97 * 975] == pytest.approx([6e-4] * 97 * 25)
    assert found[97 * 975 :] == pytest.approx([1.2e-4] * 97 * 25)


def test_short_runs_lose_the_drops_that_do_not_fit_and_warm_up_for_half_at_most():
    found = rates(OptimizerConfig(), 10, 40)  # drops would be at epochs -10 and 15
    assert found[150] == pytest.approx(3e-3 * 151 / 200)
    assert found[199:201] == pytest.approx([3e-3, 3e-3 * 0.2])
    assert found[-1] == pytest.approx(3e-3 * 0.2)
    assert rates(OptimizerConfig(drops=()), 1, 10)[5:] == [3e-3] * 5


def test_cosine_and_constant():
    cosine = rates(OptimizerConfig(schedule="cosine", warmup_steps=2, lr=1.0), 5, 2)
    assert cosine[:2] == [0.5, 1.0]
    assert cosine[2:] == pytest.approx([0.5 * (1 + math.cos(math.pi * t / 8)) for t in range(8)])
    assert rates(OptimizerConfig(schedule="constant", warmup_steps=0), 3, 2) == [3e-3] * 6


@pytest.mark.parametrize(
    ("name", "expected"), [("adam", 1 - 0.1), ("sgd", 1 - 0.1 * 0.5), ("adamw", 1 - 0.1 * 0.5)]
)
def test_weight_decay_is_coupled_for_adam_and_sgd(name, expected):
    """A zero gradient shows it: Adam divides the decay by its own size, AdamW does not."""
    parameter = torch.nn.Parameter(torch.ones(1))
    config = OptimizerConfig(name=name, lr=0.1, weight_decay=0.5)
    optimizer = build_optimizer(config, [parameter])
    parameter.grad = torch.zeros(1)
    optimizer.step()
    assert parameter.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 0.0}, "optimizer.lr must be > 0, got 0.0"),
        ({"lr": math.nan}, "optimizer.lr must be > 0, got nan"),
        ({"weight_decay": -1.0}, "optimizer.weight-decay must be >= 0, got -1.0"),
        ({"sgd_momentum": 1.0}, r"optimizer.sgd-momentum must be in \[0, 1\), got 1.0"),
        ({"warmup_steps": -3}, "optimizer.warmup-steps must be >= 0, got -3"),
    ],
)
def test_bad_values(change, message):
    with pytest.raises(IclmsrError, match=message):
        OptimizerConfig(**change)
