# SPDX-License-Identifier: Apache-2.0
"""Methods beyond the paper's seven, against other implementations of their losses."""

import math
import sys

import pytest
import torch
from torch.nn import functional as F

from iclmsr.errors import IclmsrError
from iclmsr.losses import regression_loss
from iclmsr.methods.barlow_twins import BarlowTwinsConfig
from iclmsr.methods.base import Embeddings
from iclmsr.methods.dino import DINOConfig, dino_loss
from iclmsr.methods.moco_v3 import MoCoV3Config, info_nce
from iclmsr.methods.simsiam import SimSiamConfig
from iclmsr.methods.vicreg import VICRegConfig
from iclmsr.networks import EncoderConfig, build_encoder


def make(config, **changes):
    torch.manual_seed(0)
    return config(**{"hidden_dim": 16, "embedding_dim": 8, **changes}).build(
        build_encoder(EncoderConfig(width=2))
    )


@pytest.fixture
def pair(waves):
    return torch.stack([waves(0), waves(1)]), torch.stack([waves(2), waves(3)])


def test_info_nce_against_a_double_loop(waves):
    q, k = (F.normalize(waves(i), dim=1) for i in (0, 1))
    total = 0.0
    for i in range(4):
        scores = [math.exp(float(q[i] @ row) / 0.3) for row in k]
        total -= math.log(scores[i] / sum(scores)) / 4
    found = info_nce(waves(0), waves(1), temperature=0.3).item()
    assert found == pytest.approx(0.6 * total, abs=1e-12)


def test_moco_v3_sums_both_directions(pair):
    q, k = pair
    expected = info_nce(q[0], k[1], temperature=0.2) + info_nce(q[1], k[0], temperature=0.2)
    found = make(MoCoV3Config).loss(Embeddings(q, k)).item()
    assert found == pytest.approx(expected.item(), abs=1e-12)


def test_barlow_twins_against_the_formula(waves):
    """sum_i (1 - C_ii)^2 + 0.005 sum_{i != j} C_ij^2 with C the correlation of the two views."""
    a, b = waves(0, 64, 3), waves(1, 64, 3)
    c = torch.corrcoef(torch.cat([a, b], 1).T)[:3, 3:]
    expected = (1 - c.diagonal()).square().sum() + 0.005 * (c - c.diagonal().diag()).square().sum()
    z = torch.stack([a, b])
    found = make(BarlowTwinsConfig, embedding_dim=3).loss(Embeddings(z, z)).item()
    assert found == pytest.approx(expected.item(), abs=1e-4)  # theirs has 1e-5 under its root


def test_vicreg_against_the_formula(waves):
    a, b = waves(0, 16, 3), waves(1, 16, 3)

    def variance(x):
        return F.relu(1 - (x.var(0) + 1e-4).sqrt()).mean()

    def covariance(x):
        c = x.T.cov()
        return (c - c.diagonal().diag()).square().sum() / 3

    expected = (
        25 * (a - b).square().mean()
        + 25 * (variance(a) + variance(b)) / 2
        + covariance(a)
        + covariance(b)
    )
    z = torch.stack([a, b])
    found = make(VICRegConfig, embedding_dim=3).loss(Embeddings(z, z)).item()
    assert found == pytest.approx(expected.item(), abs=1e-12)


@pytest.mark.parametrize(
    ("config", "weights", "loss"),
    [
        (
            BarlowTwinsConfig,
            {"redundancy_weight": 0.1},
            ("barlow_twins_loss", "BarlowTwinsLoss", {"lambda_param": 0.1}),
        ),
        (
            VICRegConfig,
            {"invariance_weight": 2.0, "variance_weight": 3.0, "covariance_weight": 4.0},
            (
                "vicreg_loss",
                "VICRegLoss",
                {"lambda_param": 2.0, "mu_param": 3.0, "nu_param": 4.0},
            ),
        ),
    ],
)
def test_weights_reach_lightlys_loss(config, weights, loss, pair):
    module, name, arguments = loss
    lightly = pytest.importorskip(f"lightly.loss.{module}")
    expected = getattr(lightly, name)(**arguments)(*pair[0])
    found = make(config, embedding_dim=3, **weights).loss(Embeddings(*pair)).item()
    assert found == pytest.approx(expected.item(), abs=1e-12)


@pytest.mark.parametrize("config", [BarlowTwinsConfig, VICRegConfig])
def test_without_lightly_it_says_what_to_install(config, monkeypatch):
    for module in ("barlow_twins_loss", "vicreg_loss"):
        monkeypatch.setitem(sys.modules, f"lightly.loss.{module}", None)
    with pytest.raises(IclmsrError, match=r"needs lightly.*pip install 'iclmsr\[lightly\]'"):
        make(config)


@pytest.mark.parametrize("config", [BarlowTwinsConfig, VICRegConfig])
def test_lightlys_losses_have_a_second_derivative(config, waves):
    """Stage 2 differentiates their gradient."""
    method = make(config, embedding_dim=3)
    z = torch.stack([waves(0, 8, 3), waves(1, 8, 3)]).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda z: method.loss(Embeddings(z, z)), z)


def test_simsiam_is_the_mean_cosine_with_a_stopped_target(pair):
    p, z = pair
    expected = (
        -(F.cosine_similarity(p[0], z[1]).mean() + F.cosine_similarity(p[1], z[0]).mean()) / 2
    )
    found = make(SimSiamConfig).loss(Embeddings(p, z)).item()
    assert found == pytest.approx(expected.item(), abs=1e-12)
    lightly = pytest.importorskip("lightly.loss.negative_cosine_similarity")
    theirs = lightly.NegativeCosineSimilarity()
    assert found == pytest.approx(((theirs(p[0], z[1]) + theirs(p[1], z[0])) / 2).item(), abs=1e-12)
    assert regression_loss(p[0], z[1]).item() == pytest.approx(
        (2 + 2 * theirs(p[0], z[1])).item(), abs=1e-12
    )


def test_simsiam_target_is_its_own_projection():
    method = make(SimSiamConfig).train()
    views = [torch.randn(6, 3, 16, 16) for _ in range(2)]
    embeddings = method.embed(views)
    alone = make(SimSiamConfig).train()
    z = alone.projector(alone.encoder(views[0]))
    assert torch.equal(embeddings.target[0], z)
    assert torch.equal(embeddings.online[0], alone.predictor(z))
    assert not embeddings.target.requires_grad


@pytest.mark.filterwarnings("ignore")
def test_dino_agrees_with_lightly(pair):
    lightly = pytest.importorskip("lightly.loss.dino_loss")
    student, teacher = pair
    theirs = lightly.DINOLoss(output_dim=3).double()
    center = torch.tensor([0.1, -0.2, 0.3], dtype=torch.float64)
    theirs.center.copy_(center)
    sharp = torch.tensor(0.04).item()  # theirs holds it in float32
    method = make(DINOConfig, embedding_dim=3, teacher_temperature=sharp).double()
    method.center.copy_(center)
    expected = theirs(list(teacher), list(student)).item()
    assert method.loss(Embeddings(student, teacher)).item() == pytest.approx(expected, abs=1e-10)
    method.after_step(Embeddings(student, teacher), 0.0)
    assert torch.allclose(method.center, theirs.center.flatten(), atol=1e-12)


def test_dino_gradients(pair):
    s, t = (x[0].requires_grad_() for x in pair)
    arguments = {"student_temperature": 0.1, "teacher_temperature": 0.04}
    center = torch.zeros(3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda s: dino_loss(s, t.detach(), center, **arguments), s)
    dino_loss(s, t, center, **arguments).backward()
    assert t.grad is None


def test_dino_scores_are_cosines_with_prototypes():
    method = make(DINOConfig, embedding_dim=12, bottleneck_dim=4).train()
    z = method.embed([torch.randn(6, 3, 16, 16) for _ in range(2)]).online
    assert z.shape == (2, 6, 12)
    assert z.abs().max() <= 1 + 1e-6
    prototypes = method.projector[1].weight.detach()
    with torch.no_grad():
        method.projector[1].weight *= 5
    assert prototypes.shape == (12, 4)
    again = method.projector[1](torch.ones(1, 4))
    cosine = F.cosine_similarity(prototypes, torch.ones(1, 4))
    assert torch.allclose(again[0], cosine, atol=1e-6)


@pytest.mark.parametrize(
    ("config", "changes", "message"),
    [
        (DINOConfig, {"center_decay": 2.0}, r"center-decay must be in \[0, 1\], got 2.0"),
        (BarlowTwinsConfig, {"redundancy_weight": -1.0}, "redundancy-weight must be >= 0, got -1"),
        (VICRegConfig, {"variance_weight": -1.0}, "variance-weight must be >= 0, got -1"),
        (MoCoV3Config, {"temperature": 0.0}, "temperature must be > 0 and finite, got 0.0"),
    ],
)
def test_bad_config(config, changes, message):
    with pytest.raises(IclmsrError, match=message):
        config(**changes)
