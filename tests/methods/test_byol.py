# SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch

from iclmsr.errors import IclmsrError
from iclmsr.losses import regression_loss
from iclmsr.methods.base import Embeddings
from iclmsr.methods.byol import BYOLConfig
from iclmsr.networks import EncoderConfig, build_encoder


def make(**changes):
    torch.manual_seed(0)
    config = BYOLConfig(hidden_dim=16, embedding_dim=8, **changes)
    return config.build(build_encoder(EncoderConfig(width=2)))


def test_golden_values(waves):
    a, b = waves(0), waves(1)
    assert regression_loss(a, b).item() == pytest.approx(0.2941595371696, abs=1e-12)
    z, t = torch.stack([a, b]), torch.stack([a, b])
    both = make().loss(Embeddings(z, t)).item()
    assert both == pytest.approx(0.5883190743391, abs=1e-12)
    assert make().loss(Embeddings(z, z.flip(0))).item() == pytest.approx(0, abs=1e-12)
    assert make().loss(Embeddings(z, -z.flip(0))).item() == pytest.approx(8, abs=1e-12)


def test_each_direction_meets_the_target_of_the_other_view(waves):
    q, t = torch.stack([waves(0), waves(1)]), torch.stack([waves(2), waves(3)])
    expected = regression_loss(q[0], t[1]) + regression_loss(q[1], t[0])
    assert make().loss(Embeddings(q, t)).item() == pytest.approx(expected.item(), abs=1e-12)


def test_more_views_are_the_mean_over_pairs_of_both_directions(waves):
    q = torch.stack([waves(k) for k in range(3)])
    t = torch.stack([waves(k) for k in range(3, 6)])
    pairs = [(0, 1), (0, 2), (1, 2)]
    expected = sum(
        regression_loss(q[i], t[j]) + regression_loss(q[j], t[i]) for i, j in pairs
    ) / len(pairs)
    assert make().loss(Embeddings(q, t)).item() == pytest.approx(expected.item(), abs=1e-12)


def test_gradcheck(waves):
    t = waves(1)
    assert torch.autograd.gradcheck(lambda a: regression_loss(a, t), waves(0).requires_grad_())


def test_heads_and_target():
    """Statistics per view; the target has no predictor and starts as a copy."""
    method = make().train()
    views = [torch.randn(6, 3, 16, 16), torch.randn(6, 3, 16, 16) * 3 + 1]
    embeddings = method.embed(views)
    alone = make().train()
    expected = alone.predictor(alone.projector(alone.encoder(views[1])))
    assert torch.allclose(embeddings.online[1], expected, atol=1e-5)
    expected = alone.projector(alone.encoder(views[0]))
    assert torch.allclose(embeddings.target[0], expected, atol=1e-5)
    assert not embeddings.target.requires_grad


@pytest.mark.parametrize("progress", [0.0, 0.25, 0.5, 1.0])
def test_the_target_follows_at_the_decay_of_the_moment(progress):
    method = make()
    with torch.no_grad():
        method.projector[0].weight += 1
        before = method.target.projector[0].weight.clone()
        statistics = method.target.encoder.network.bn1.running_mean.clone()
        method.encoder.network.bn1.running_mean += 5
    method.after_step(Embeddings(torch.zeros(2, 2, 2), torch.zeros(2, 2, 2)), progress)
    decay = 1 - (1 - 0.99) * (math.cos(math.pi * progress) + 1) / 2
    moved = method.target.projector[0].weight - before
    assert torch.allclose(moved, torch.full_like(moved, 1 - decay), atol=1e-6)
    assert torch.equal(method.target.encoder.network.bn1.running_mean, statistics)


def test_schedule_by_epoch_or_step():
    assert make().counts_epochs
    assert not make(target_schedule="step").counts_epochs


def test_bad_decay():
    with pytest.raises(IclmsrError, match=r"target-decay must be in \[0, 1\], got 1.5"):
        BYOLConfig(target_decay=1.5)
