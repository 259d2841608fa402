# SPDX-License-Identifier: Apache-2.0
import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from iclmsr.errors import IclmsrError
from iclmsr.evaluate.features import Features
from iclmsr.evaluate.linear_probe import fit, initial, learning_rates, linear_probe
from iclmsr.evaluate.protocol import LinearProbeConfig
from iclmsr.seeds import derive, generator

SHORT = LinearProbeConfig(epochs=6, batch_size=16, weight_decay=1e-2)


def blobs(count: int, classes: int, *, name: str, width: int = 6) -> Features:
    """Classes around points of their own, overlapping."""
    centres = 2 * torch.randn(classes, width, generator=generator(0, "centres"))
    source = generator(0, "blobs", name)
    labels = torch.randint(classes, (count,), generator=source)
    return Features(centres[labels] + torch.randn(count, width, generator=source), labels)


def reference(train: Features, config: LinearProbeConfig, classes: int) -> nn.Linear:
    """The protocol in torch's own words: nn.Linear, autograd, Adam, ExponentialLR."""
    width = train.features.shape[1]
    linear = nn.Linear(width, classes)
    with torch.no_grad():
        for own, start in zip(
            linear.parameters(), initial(width, classes, config.seed), strict=True
        ):
            own.copy_(start)
    linear = linear.to(train.features.dtype)
    adam = torch.optim.Adam(linear.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    gamma = (config.last_lr / config.lr) ** (1 / config.epochs)
    schedule = torch.optim.lr_scheduler.ExponentialLR(adam, gamma)
    for epoch in range(config.epochs):
        shuffle = generator(config.seed, "linear-probe", "order", epoch)
        order = torch.randperm(len(train.features), generator=shuffle)
        for index in order.split(config.batch_size):
            loss = F.cross_entropy(linear(train.features[index]), train.labels[index])
            adam.zero_grad()
            loss.backward()
            adam.step()
        schedule.step()
    return linear


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("batch_size", [16, 25, 1000])  # 50 images: 16 16 16 2, 25 25, 50
def test_equals_torch_with_autograd(dtype, tolerance, batch_size):
    train = blobs(50, 3, name="train")
    train = train._replace(features=train.features.to(dtype))
    config = replace(SHORT, batch_size=batch_size)
    classifier, expected = fit(train, config, classes=3), reference(train, config, 3)
    assert classifier.weight.dtype == dtype
    assert torch.allclose(classifier.weight, expected.weight, atol=tolerance, rtol=0)
    assert torch.allclose(classifier.bias, expected.bias, atol=tolerance, rtol=0)
    assert torch.allclose(
        classifier.scores(train.features), expected(train.features), atol=50 * tolerance, rtol=0
    )


def test_learning_rates_of_the_protocol():
    rates = learning_rates(LinearProbeConfig())
    assert len(rates) == 500
    assert rates[0] == 1e-2
    assert f"{rates[1] / rates[0]:.10f}" == "0.9817479430"
    assert f"{rates[-1]:.6e}" == "1.018591e-06"
    assert all(b / a == pytest.approx(0.9817479430, abs=1e-10) for a, b in pairwise(rates))


def test_starts_as_a_linear_layer_does():
    start = initial(512, 10, seed=3)
    with torch.random.fork_rng():
        torch.manual_seed(derive(3, "linear-probe", "initial"))
        layer = nn.Linear(512, 10)
    assert torch.equal(start.weight, layer.weight)
    assert torch.equal(start.bias, layer.bias)


def test_the_global_generator_is_neither_read_nor_moved():
    train, results = blobs(50, 3, name="train"), []
    with torch.random.fork_rng():
        for seed in (0, 1):
            torch.manual_seed(seed)
            state = torch.get_rng_state()
            results.append(fit(train, SHORT, classes=3).weight)
            assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(*results)


def test_seed_decides():
    train, test = blobs(50, 3, name="train"), blobs(40, 3, name="test")
    before = [tensor.clone() for tensor in (*train, *test)]
    first, again = (linear_probe(train, test, SHORT) for _ in range(2))
    assert first == again
    assert all(torch.equal(a, b) for a, b in zip(before, (*train, *test), strict=True))
    one, other = (fit(train, replace(SHORT, seed=seed), classes=3).weight for seed in (0, 1))
    assert not torch.equal(one, other)


def test_gradient_mode_of_the_caller_does_not_matter():
    train = blobs(50, 3, name="train")
    with torch.inference_mode():
        inside = fit(train, SHORT, classes=3)
    outside = fit(train, SHORT, classes=3)
    assert torch.equal(inside.weight, outside.weight)
    assert not outside.weight.requires_grad


def test_accuracy_is_that_of_the_final_classifier():
    train, test = blobs(200, 12, name="train"), blobs(150, 12, name="test")
    config = replace(SHORT, epochs=15)
    scores = reference(train, config, 12)(test.features)
    order = scores.argsort(1, descending=True)
    result = linear_probe(train, test, config)
    for k, name in ((1, "top1"), (5, "top5")):
        expected = 100 * (order[:, :k] == test.labels[:, None]).any(1).double().mean().item()
        assert result[name] == pytest.approx(expected, abs=1e-9)
    assert 25 < result["top1"] < result["top5"] < 100


def test_fewer_than_five_classes():
    result = linear_probe(blobs(60, 3, name="train"), blobs(40, 3, name="test"), SHORT)
    assert result["top5"] == 100


def test_a_class_that_only_the_test_has_is_not_found():
    train = Features(torch.tensor([[-9.0], [9.0]]), torch.tensor([0, 1]))
    test = Features(torch.tensor([[-9.0], [9.0], [0.0]]), torch.tensor([0, 1, 7]))
    result = linear_probe(train, test, LinearProbeConfig(epochs=100, lr=0.1))
    assert result["top1"] == pytest.approx(200 / 3)
    assert fit(train, SHORT, classes=8).weight.shape == (8, 1)


def test_diverged_features_are_refused():
    train = Features(torch.tensor([[math.nan], [1.0]]), torch.tensor([0, 1]))
    with pytest.raises(IclmsrError, match="1 of 2 train features hold NaN"):
        linear_probe(train, train, SHORT)
