# SPDX-License-Identifier: Apache-2.0
import copy
import math

import pytest
import torch
from torch import nn

from iclmsr.errors import IclmsrError
from iclmsr.networks import FeatureQueue, Projector, TargetNetwork, target_decay


@pytest.mark.parametrize(
    ("options", "layers", "widths"),
    [
        ({}, ["Linear", "BatchNorm1d", "ReLU", "Linear"], [7]),
        ({"output_norm": True}, ["Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d"], [7, 3]),
        ({"hidden_norm": False}, ["Linear", "ReLU", "Linear"], []),
        (
            {"hidden_norm": False, "output_norm": True},
            ["Linear", "ReLU", "Linear", "BatchNorm1d"],
            [3],
        ),
    ],
)
def test_layers_of_a_projector(options, layers, widths):
    head = Projector(5, 7, 3, **options)
    assert [type(layer).__name__ for layer in head] == layers
    linear = [layer for layer in head if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == [(5, 7), (7, 3)]
    assert all(layer.bias is not None for layer in linear)
    norms = [layer for layer in head if isinstance(layer, nn.BatchNorm1d)]
    assert all(norm.affine for norm in norms)
    assert [norm.num_features for norm in norms] == widths
    assert head(torch.randn(4, 5)).shape == (4, 3)


def networks():
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.BatchNorm1d(5))
    return encoder, Projector(5, 7, 3)


def test_a_target_of_one_number_by_hand():
    encoder, projector = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    for layer, value in ((encoder, 2.0), (projector, -1.0)):
        nn.init.constant_(layer.weight, value)
    target = TargetNetwork(encoder, projector)
    nn.init.constant_(encoder.weight, 4.0)
    nn.init.constant_(projector.weight, 1.0)
    target.follow(encoder, projector, decay=0.75)
    assert target.encoder.weight.item() == 2.5  # 0.75 * 2 + 0.25 * 4
    assert target.projector.weight.item() == -0.5
    features, embedding = target(torch.tensor([[3.0]]))
    assert (features.item(), embedding.item()) == (7.5, -3.75)
    assert encoder.weight.item() == 4.0
    target.follow(encoder, projector, decay=1.0)
    assert target.encoder.weight.item() == 2.5
    target.follow(encoder, projector, decay=0.0)
    assert target.encoder.weight.item() == 4.0


def test_a_target_is_a_copy_that_no_gradient_reaches():
    encoder, projector = networks()
    target = TargetNetwork(encoder, projector)
    before = copy.deepcopy(target.state_dict())
    assert not any(parameter.requires_grad for parameter in target.parameters())
    assert all(parameter.requires_grad for parameter in encoder.parameters())
    view = torch.randn(4, 3, 2, 2, requires_grad=True)
    features, embeddings = target(view)
    assert not features.requires_grad
    assert not embeddings.requires_grad
    (projector(encoder(view)) * embeddings).sum().backward()
    assert all(parameter.grad is None for parameter in target.parameters())
    with torch.no_grad():
        for parameter in [*encoder.parameters(), *projector.parameters()]:
            parameter += 1
    for name, parameter in target.named_parameters():
        assert torch.equal(parameter, before[name])


def test_a_target_has_statistics_of_its_own():
    """Batch statistics in training mode, a running mean that moves with its own batches only."""
    encoder, projector = networks()
    target = TargetNetwork(encoder, projector)
    view, other = torch.randn(6, 3, 2, 2), torch.randn(6, 3, 2, 2) + 5
    encoder(other)
    assert torch.equal(target.encoder[2].running_mean, torch.zeros(5))
    features, _ = target(view)
    assert features.mean(0).abs().max() < 1e-6
    assert target.encoder[2].running_mean.abs().max() > 0
    own = target.encoder[2].running_mean.clone()
    target.follow(encoder, projector, decay=0.5)
    assert torch.equal(target.encoder[2].running_mean, own)
    assert not torch.equal(own, encoder[2].running_mean)


def test_target_decay_rises_along_half_a_cosine():
    assert target_decay(0.99, 0) == pytest.approx(0.99, abs=1e-15)
    assert target_decay(0.99, 1) == 1
    assert target_decay(0.9, 1 / 3) == pytest.approx(1 - 0.1 * (math.cos(math.pi / 3) + 1) / 2)
    assert target_decay(0.9, 1 / 3) == pytest.approx(0.925)
    values = [target_decay(0.9, step / 10) for step in range(11)]
    assert values == sorted(values)


def unit(*rows):
    return nn.functional.normalize(torch.tensor(rows), dim=1)


def test_a_queue_starts_with_unit_rows():
    torch.manual_seed(0)
    queue = FeatureQueue(64, 8)
    assert queue.rows.shape == (64, 8)
    assert queue.rows.norm(dim=1).allclose(torch.ones(64))
    assert queue.rows.std(0).min() > 0.2  # all directions
    assert queue.pointer.item() == 0
    assert queue.state_dict().keys() == {"rows", "pointer"}
    assert not list(queue.parameters())


@pytest.mark.parametrize(("size", "count"), [(6, 2), (5, 2), (7, 3), (4, 4), (3, 2)])
def test_a_queue_keeps_the_newest(size, count):
    """Against a plain list, also where batches do not divide the queue."""
    torch.manual_seed(1)
    queue = FeatureQueue(size, 4)
    places = list(queue.rows.clone())
    at = 0
    for _ in range(9):
        batch = torch.randn(count, 4) * 3
        queue.push(batch)
        for row in batch:
            places[at] = row / row.norm()
            at = (at + 1) % size
        assert queue.pointer.item() == at
        assert queue.rows.allclose(torch.stack(places), atol=1e-6)
        assert queue.rows.norm(dim=1).allclose(torch.ones(size))


def test_a_queue_in_order():
    queue = FeatureQueue(3, 2)
    queue.push(torch.tensor([[2.0, 0.0], [0.0, 3.0]]))
    queue.push(torch.tensor([[-1.0, 0.0], [0.0, -5.0]]))
    assert torch.equal(queue.rows, unit([0.0, -1.0], [0.0, 1.0], [-1.0, 0.0]))
    assert queue.pointer.item() == 1


def test_a_queue_takes_no_gradient_and_no_low_precision():
    queue = FeatureQueue(4, 2)
    queue.push(torch.tensor([[1.0, 2.0]], requires_grad=True))
    assert not queue.rows.requires_grad
    queue.push(torch.tensor([[1.0, 2.0]]).bfloat16())
    assert queue.rows.dtype == torch.float32
    assert torch.equal(queue.rows[0], queue.rows[1])


def test_a_batch_that_is_too_large():
    queue = FeatureQueue(3, 2)
    before = queue.rows.clone()
    with pytest.raises(IclmsrError, match="a queue of 3 cannot take 4 embeddings at once"):
        queue.push(torch.randn(4, 2))
    assert torch.equal(queue.rows, before)
