# SPDX-License-Identifier: Apache-2.0
import copy

import pytest
import timm.layers
import torch
from torch import nn
from torch.func import functional_call

from iclmsr.errors import IclmsrError
from iclmsr.networks import EncoderConfig, build_encoder, split_batch_norm
from iclmsr.networks.batch_norm import SplitBatchNorm2d


def norms(splits, **options):
    """A plain one that has seen something, and the split one in its place."""
    torch.manual_seed(0)
    plain = nn.BatchNorm2d(4, **options)
    nn.init.normal_(plain.weight)
    nn.init.normal_(plain.bias)
    plain(torch.randn(8, 4, 3, 3) * 2 + 1)
    return plain, SplitBatchNorm2d(plain, splits)


@pytest.mark.parametrize("splits", [1, 2, 3, 6])
@pytest.mark.parametrize("options", [{}, {"momentum": 0.3, "eps": 1e-2}])
def test_every_part_has_statistics_of_its_own(splits, options):
    plain, split = norms(splits, **options)
    images = torch.randn(12, 4, 3, 3) * torch.arange(1.0, 13)[:, None, None, None]
    parts = [copy.deepcopy(plain) for _ in range(splits)]
    expected = [part(rows) for part, rows in zip(parts, images.chunk(splits), strict=True)]
    assert split(images).allclose(torch.cat(expected), atol=1e-6)
    for name in ("running_mean", "running_var"):
        mean = torch.stack([getattr(part, name) for part in parts]).mean(0)
        assert getattr(split, name).allclose(mean, atol=1e-6)
        assert not torch.equal(getattr(split, name), getattr(plain, name))


def test_gradient_is_that_of_the_parts():
    plain, split = norms(2)
    images = torch.randn(8, 4, 3, 3)
    direction = torch.randn(8, 4, 3, 3)
    (split(images) * direction).sum().backward()
    first, second = images.chunk(2)
    (torch.cat([plain(first), plain(second)]) * direction).sum().backward()
    assert split.weight.grad.allclose(plain.weight.grad, atol=1e-5)
    assert split.bias.grad.allclose(plain.bias.grad, atol=1e-5)


def test_state_dict_and_evaluation_are_plain_batch_norms():
    plain, split = norms(4)
    assert split.state_dict().keys() == plain.state_dict().keys()
    for name, tensor in plain.state_dict().items():
        assert torch.equal(split.state_dict()[name], tensor)
    images = torch.randn(7, 4, 3, 3)  # 4 does not divide 7
    before = copy.deepcopy(split.state_dict())
    assert torch.equal(split.eval()(images), plain.eval()(images))
    assert all(torch.equal(split.state_dict()[name], before[name]) for name in before)
    fresh = nn.BatchNorm2d(4)
    fresh.load_state_dict(split.state_dict())


def test_a_batch_that_does_not_split():
    _, split = norms(4)
    with pytest.raises(IclmsrError, match="a batch of 6 does not split into 4 parts"):
        split(torch.randn(6, 4, 3, 3))


def test_a_functional_call_moves_the_buffers_it_is_given():
    """The module's own stay, and the clones move as its own would have."""
    _, split = norms(2)
    images = torch.randn(8, 4, 3, 3)
    own = {name: buffer.clone() for name, buffer in split.named_buffers()}
    clones = {name: buffer.clone() for name, buffer in own.items()}
    outputs = functional_call(split, clones, (images,))
    for name, buffer in split.named_buffers():
        assert torch.equal(buffer, own[name]), name
    assert torch.equal(outputs, split(images))
    assert not torch.equal(clones["running_mean"], own["running_mean"])
    assert torch.equal(clones["running_mean"], split.running_mean)
    assert torch.equal(clones["running_var"], split.running_var)


def test_an_encoder_with_split_batch_norm():
    torch.manual_seed(0)
    plain = build_encoder(EncoderConfig(width=2))
    split = copy.deepcopy(plain)
    split_batch_norm(split, 2)
    kinds = [type(module) for module in split.modules() if isinstance(module, nn.BatchNorm2d)]
    found = [module for module in plain.modules() if isinstance(module, nn.BatchNorm2d)]
    assert kinds == [SplitBatchNorm2d] * len(found)
    assert split.state_dict().keys() == plain.state_dict().keys()
    images = torch.randn(8, 3, 16, 16)
    expected = torch.cat([copy.deepcopy(plain)(part) for part in images.chunk(2)])
    assert split(images).allclose(expected, atol=1e-5)
    plain(images)
    plain.load_state_dict(split.state_dict())
    assert torch.equal(plain.eval()(images), split.eval()(images))


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ([torch.nn.Linear(2, 2)], "torch's own BatchNorm2d: use a ResNet"),
        (
            [timm.layers.BatchNormAct2d(4)],
            "torch's own BatchNorm2d, 0 is a BatchNormAct2d: use a ResNet",
        ),
    ],
)
def test_an_encoder_without_plain_batch_norm_is_refused(layers, said):
    with pytest.raises(IclmsrError, match=f"bn_splits 4 needs an encoder with {said}"):
        split_batch_norm(torch.nn.Sequential(*layers), 4)
