# SPDX-License-Identifier: Apache-2.0
from functools import partial

import pytest
import torch
from bits import assert_same
from torch import nn

from iclmsr.data.images import ImageSet
from iclmsr.errors import IclmsrError
from iclmsr.evaluate.accuracy import topk_accuracy
from iclmsr.evaluate.features import extract
from iclmsr.evaluate.fine_tune import fine_tune
from iclmsr.evaluate.linear_probe import fit
from iclmsr.evaluate.protocol import FineTuneConfig, LinearProbeConfig
from iclmsr.seeds import generator

MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
SHORT = LinearProbeConfig(epochs=30, batch_size=100)


def colours(count: int, *, name: str) -> ImageSet:
    """Three classes of equal brightness, each with more of one colour, on noise."""
    source = generator(0, "colours", name)
    labels = torch.randint(3, (count,), generator=source)
    images = torch.randint(100, (count, 3, 8, 8), generator=source)
    images[torch.arange(count), labels] += 40
    return ImageSet(images.to(torch.uint8), labels, ("red", "green", "blue"))


def brightness() -> nn.Sequential:
    """An encoder that sees none of the colours, until it is trained."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer = nn.Linear(3, 2)
        with torch.no_grad():
            layer.weight.copy_(torch.tensor([[1.0, 1.0, 1.0], [-0.5, -0.5, -0.5]]))
        return nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3), nn.Dropout(0.1), nn.Flatten(), layer
        )


@pytest.fixture(scope="module")
def parts():
    train, test, encoder = colours(400, name="train"), colours(200, name="test"), brightness()
    known = extract(encoder, train, mean=MEAN, std=STD)
    return encoder, train, test, known


def tune(parts, **change):
    encoder, train, test, known = parts
    config = FineTuneConfig(**{"epochs": 4, "batch_size": 40, "lr": 0.1, **change})
    head = partial(fit, config=SHORT, classes=len(train.classes))
    return fine_tune(encoder, train, test, known, config, head, mean=MEAN, std=STD)


def test_it_beats_the_frozen_probe_and_is_exact(parts):
    encoder, train, test, known = parts
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    modes = [module.training for module in encoder.modules()]
    state = torch.get_rng_state()
    first = tune(parts)
    assert first == tune(parts)
    assert torch.equal(state, torch.get_rng_state())
    assert_same(before, dict(encoder.state_dict()))
    assert [module.training for module in encoder.modules()] == modes
    probe = fit(known, SHORT, classes=len(train.classes))
    scores = probe.scores(extract(encoder, test, mean=MEAN, std=STD).features)
    assert first["top1"] > topk_accuracy(scores, test.labels, 1) + 30
    assert first["images"] == 400
    assert tune(parts, seed=1) != first


def test_a_rate_of_nearly_nothing_leaves_the_probe(parts):
    """It begins at encoder and probe: only batch norm's statistics move."""
    _, train, test, known = parts
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 5))
    known = extract(encoder, train, mean=MEAN, std=STD)
    found = tune((encoder, train, test, known), lr=1e-12)
    probe = fit(known, SHORT, classes=len(train.classes))
    scores = probe.scores(extract(encoder, test, mean=MEAN, std=STD).features)
    assert found["top1"] == topk_accuracy(scores, test.labels, 1)


def test_few_labels(parts):
    found = tune(parts, share=0.2, epochs=1)
    assert found["images"] == pytest.approx(80, abs=3)
    with pytest.raises(IclmsrError, match="larger than the .* images: pass --fine-tune.batch-size"):
        tune(parts, share=0.05)


def test_errors(parts):
    _, train, test, known = parts
    with pytest.raises(IclmsrError, match="no weights that could be trained"):
        tune((nn.Flatten(), train, test, known))
    with pytest.raises(IclmsrError, match="diverged in epoch 1: lower --fine-tune.lr"):
        tune(parts, lr=1e30)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": -1}, "fine-tune.epochs is out of its range, got -1"),
        ({"batch_size": 1}, "fine-tune.batch-size is out of its range, got 1"),
        ({"lr": 0.0}, "fine-tune.lr is out of its range, got 0.0"),
        ({"share": 0.0}, "fine-tune.share is out of its range, got 0.0"),
    ],
)
def test_bad_values(change, message):
    with pytest.raises(IclmsrError, match=message):
        FineTuneConfig(**change)
