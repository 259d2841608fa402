# SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch
from torch import nn

from iclmsr.data.images import ImageSet
from iclmsr.errors import IclmsrError
from iclmsr.evaluate.features import Features, class_count, extract, pixels
from iclmsr.seeds import generator

MEAN, STD = (0.49, 0.48, 0.44), (0.20, 0.21, 0.22)


def image_set(count: int) -> ImageSet:
    source = generator(0, "images")
    images = torch.randint(256, (count, 3, 4, 5), generator=source, dtype=torch.uint8)
    return ImageSet(images, torch.arange(count) % 3, ("a", "b", "c"))


def encoder() -> nn.Sequential:
    """Every module in it behaves differently in training."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Dropout(0.5), nn.Flatten(), nn.Linear(36, 7)
        )
    network[1].running_mean.fill_(0.3)
    return network


class Spy(nn.Module):
    """Keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[torch.Tensor] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen.append(images)
        return images.flatten(1)


def test_pixels_by_hand():
    images = image_set(6)
    features, labels = pixels(images, mean=MEAN, std=STD)
    assert features.shape == (6, 60)
    assert features.dtype == torch.float32
    assert torch.equal(labels, images.labels)
    for i, c, h, w in ((0, 0, 0, 0), (3, 1, 2, 4), (5, 2, 3, 1)):
        byte = images.images[i, c, h, w].item()
        value = features[i, c * 20 + h * 5 + w].item()
        assert value == pytest.approx((byte / 255 - MEAN[c]) / STD[c], rel=1e-5, abs=1e-6)


def test_an_encoder_sees_the_normalized_pixels_batch_by_batch():
    images, spy = image_set(10), Spy()
    before = images.images.clone()
    result = extract(spy, images, mean=MEAN, std=STD, batch_size=4)
    assert [len(batch) for batch in spy.seen] == [4, 4, 2]
    assert torch.equal(result.features, pixels(images, mean=MEAN, std=STD).features)
    assert torch.equal(result.labels, images.labels)
    assert torch.equal(images.images, before)


def test_evaluation_mode_without_gradient():
    images, network = image_set(5), encoder()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    result = extract(network.train(), images, mean=MEAN, std=STD)
    assert not result.features.requires_grad
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    x = pixels(images, mean=MEAN, std=STD).features.view(-1, 3, 4, 5)
    assert torch.allclose(result.features, network.eval()(x), atol=1e-6)


def test_each_module_leaves_in_its_own_mode():
    network = encoder().train()
    network[1].eval()
    modes = [module.training for module in network.modules()]
    extract(network, image_set(3), mean=MEAN, std=STD)
    assert [module.training for module in network.modules()] == modes
    wrong = ImageSet(torch.zeros(1, 3, 9, 9, dtype=torch.uint8), torch.tensor([0]), ("a",))
    with pytest.raises(RuntimeError):
        extract(network, wrong, mean=MEAN, std=STD)
    assert [module.training for module in network.modules()] == modes


def test_batch_size_does_not_matter():
    images, network = image_set(11), encoder()
    whole = extract(network, images, mean=MEAN, std=STD).features
    for batch_size in (1, 4, 11):
        part = extract(network, images, mean=MEAN, std=STD, batch_size=batch_size).features
        assert torch.allclose(part, whole, atol=1e-6)


def test_float32_inside_autocast():
    images, network = image_set(4), encoder()
    outside = extract(network, images, mean=MEAN, std=STD).features
    with torch.autocast("cpu", torch.bfloat16):
        inside = extract(network, images, mean=MEAN, std=STD).features
    assert inside.dtype == torch.float32
    assert torch.equal(inside, outside)


def test_no_random_number_is_drawn():
    state = torch.get_rng_state()
    extract(encoder().train(), image_set(4), mean=MEAN, std=STD)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_encoder_comes_back_from_the_gpu():
    images, network = image_set(5), encoder()
    there = extract(network, images, mean=MEAN, std=STD, device="cuda").features
    assert there.device.type == network[0].weight.device.type == "cpu"
    here = extract(network, images, mean=MEAN, std=STD).features
    assert torch.allclose(there, here, atol=1e-2)


def test_errors():
    images = image_set(4)
    unlabelled = ImageSet(images.images, torch.tensor([0, -1, 1, -1]), images.classes)
    with pytest.raises(IclmsrError, match="got 2 of 4 without label"):
        extract(Spy(), unlabelled, mean=MEAN, std=STD)
    with pytest.raises(IclmsrError, match="got 2 of 4 without label"):
        pixels(unlabelled, mean=MEAN, std=STD)
    with pytest.raises(IclmsrError, match="got 0 of 0"):
        pixels(images.take(torch.tensor([], dtype=torch.int64)), mean=MEAN, std=STD)
    with pytest.raises(IclmsrError, match="batch size must be >= 1, got 0"):
        extract(Spy(), images, mean=MEAN, std=STD, batch_size=0)
    with pytest.raises(IclmsrError, match=r"\(B, F\), got \(4, 3, 4, 5\)"):
        extract(nn.Identity(), images, mean=MEAN, std=STD)


def test_classes_of_both_sets():
    train = Features(torch.zeros(3, 2), torch.tensor([0, 1, 4]))
    test = Features(torch.zeros(2, 2), torch.tensor([6, 0]))
    assert class_count(train, test) == class_count(test, train) == 7


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        (torch.zeros(0, 2), torch.tensor([], dtype=torch.int64), r"test needs .* got \(0, 2\)"),
        (torch.zeros(3, 2), torch.tensor([0, 1]), r"test needs .* got \(3, 2\) and \(2,\)"),
        (torch.zeros(2, 3), torch.tensor([0, 1]), "one width F, got 2 and 3"),
        (torch.zeros(2, 2), torch.tensor([0, -1]), "test labels must be >= 0, got -1"),
        (torch.tensor([[0, math.nan], [0, 0]]), torch.tensor([0, 1]), "1 of 2 test features"),
        (torch.tensor([[0, math.inf], [0, 0]]), torch.tensor([0, 1]), "1 of 2 test features"),
    ],
)
def test_sets_that_do_not_fit(features, labels, message):
    train = Features(torch.zeros(2, 2), torch.tensor([0, 1]))
    with pytest.raises(IclmsrError, match=message) as caught:
        class_count(train, Features(features, labels))
    assert "\n" not in str(caught.value)
