# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from iclmsr.errors import IclmsrError
from iclmsr.methods.base import Embeddings
from iclmsr.methods.simclr import SimCLRConfig
from iclmsr.networks import EncoderConfig, build_encoder


def make(**changes):
    torch.manual_seed(0)
    config = SimCLRConfig(hidden_dim=16, embedding_dim=8, **changes)
    return config.build(build_encoder(EncoderConfig(width=4)))


def test_four_views_are_the_mean_over_six_pairs(waves):
    z = torch.stack([waves(k, 4, 3) for k in range(4)])
    assert make().loss(Embeddings(z, z)).item() == pytest.approx(0.9826936656954, abs=1e-12)


def test_head_sees_all_views_at_once_and_ends_in_batch_norm():
    method = make().train()
    views = [torch.randn(6, 3, 32, 32), torch.randn(6, 3, 32, 32) * 3 + 1]
    embeddings = method.embed(views)
    assert embeddings.online.shape == (2, 6, 8)
    assert embeddings.features.shape == (2, 6, 32)
    assert embeddings.target is embeddings.online
    joint = embeddings.online.flatten(0, 1)
    assert joint.mean(0).abs().max() < 1e-5
    assert joint.var(0, unbiased=False).allclose(torch.ones(8), atol=1e-2)
    assert embeddings.online[0].mean(0).abs().max() > 1e-2  # not normalized view by view


def test_encoder_sees_one_view_at_a_time():
    method = make().train()
    views = [torch.randn(6, 3, 32, 32), torch.randn(6, 3, 32, 32) * 3 + 1]
    features = method.embed(views).features
    alone = make().train()
    assert torch.equal(alone.encoder(views[0]), features[0])


def test_loss_is_pure():
    method = make().train()
    embeddings = method.embed([torch.randn(4, 3, 32, 32) for _ in range(2)])
    before = {name: buffer.clone() for name, buffer in method.named_buffers()}
    assert method.loss(embeddings).item() == method.loss(embeddings).item()
    assert all(torch.equal(buffer, before[name]) for name, buffer in method.named_buffers())


def test_bad_temperature():
    with pytest.raises(IclmsrError, match=r"temperature must be > 0 and finite, got 0"):
        SimCLRConfig(temperature=0)
