# SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch

from iclmsr.errors import IclmsrError
from iclmsr.methods.base import Embeddings
from iclmsr.methods.relic import RELICConfig, relic_loss
from iclmsr.networks import EncoderConfig, build_encoder

CONTRAST, KL12, KL21 = 1.550110288252515, 0.34415025336960803, 0.3712657753257508


def make(**changes):
    torch.manual_seed(0)
    config = RELICConfig(hidden_dim=16, embedding_dim=8, **changes)
    return config.build(build_encoder(EncoderConfig(width=2)))


@pytest.fixture
def pair(waves):
    return torch.stack([waves(0), waves(1)]), torch.stack([waves(2), waves(3)])


def test_golden_values(pair):
    whole = relic_loss(*pair, temperature=0.5, alpha=1.0).item()
    assert whole == pytest.approx(1.1327631584739368, abs=1e-12)
    contrast = relic_loss(*pair, temperature=0.5, alpha=0.0).item()
    assert contrast == pytest.approx(CONTRAST / 2, abs=1e-12)
    assert 2 * (whole - contrast) == pytest.approx(KL12 + KL21, abs=1e-12)


def test_orthonormal_and_collapsed():
    eye = torch.eye(4, dtype=torch.float64).expand(2, 4, 4)
    loss = 2 * relic_loss(eye, eye, temperature=0.5, alpha=7.0).item()
    assert loss == pytest.approx(2 * math.log(1 + 3 * math.exp(-2)), abs=1e-12)
    ones = torch.ones(2, 4, 3, dtype=torch.float64)
    loss = 2 * relic_loss(ones, ones, temperature=0.5, alpha=7.0).item()
    assert loss == pytest.approx(2 * math.log(4), abs=1e-12)


def test_against_a_double_loop(pair):
    u1, u2, t1, t2 = ([row / row.norm() for row in view] for view in torch.cat(pair))

    def log_p(u, t):
        rows = [[math.exp(float(a @ b) / 0.3) for b in t] for a in u]
        return [[math.log(x / sum(row)) for x in row] for row in rows]

    p12, p21 = log_p(u1, t2), log_p(u2, t1)
    total = 0.0
    for i in range(4):
        total -= (p12[i][i] + p21[i][i]) / 2 / 4
        for j in range(4):
            total += 0.7 * math.exp(p12[i][j]) * (p12[i][j] - p21[i][j]) / 2 / 4
            total += 0.7 * math.exp(p21[i][j]) * (p21[i][j] - p12[i][j]) / 2 / 4
    found = relic_loss(*pair, temperature=0.3, alpha=0.7).item()
    assert found == pytest.approx(total, abs=1e-12)


def test_views_may_be_swapped(pair):
    u, t = pair
    one = relic_loss(u, t, temperature=0.5, alpha=1.0).item()
    other = relic_loss(u.flip(0), t.flip(0), temperature=0.5, alpha=1.0).item()
    assert one == pytest.approx(other, abs=1e-14)


@pytest.mark.parametrize(
    ("stop", "norm"), [("none", 0.3129), ("first", 0.1558), ("entropy", 0.4516)]
)
def test_stop_gradient(pair, stop, norm):
    """The value is the same; what reaches u_1 from the invariance is the number on record."""
    u, t = pair[0].requires_grad_(), pair[1]
    loss = relic_loss(u, t, temperature=0.5, alpha=1.0, kl_stopgrad=stop)
    assert loss.item() == pytest.approx(1.1327631584739368, abs=1e-12)
    contrast = relic_loss(u, t, temperature=0.5, alpha=0.0)
    (slope,) = torch.autograd.grad(loss - contrast, u)
    assert slope[0].norm().item() == pytest.approx(norm, abs=5e-5)


def test_gradcheck(pair):
    inputs = tuple(x.requires_grad_() for x in pair)
    assert torch.autograd.gradcheck(lambda u, t: relic_loss(u, t, temperature=0.5, alpha=1), inputs)


def test_invariance_is_never_negative():
    for seed in range(20):
        torch.manual_seed(seed)
        u, t = torch.randn(2, 2, 6, 4).double()
        with_kl = relic_loss(u, t, temperature=0.1, alpha=1.0)
        assert with_kl >= relic_loss(u, t, temperature=0.1, alpha=0.0)


def test_more_views_are_the_mean_over_pairs(waves):
    u = torch.stack([waves(k) for k in range(3)])
    t = torch.stack([waves(k) for k in range(3, 6)])
    expected = (
        sum(
            relic_loss(u[[i, j]], t[[i, j]], temperature=0.5, alpha=1.0)
            for i, j in ((0, 1), (0, 2), (1, 2))
        )
        / 3
    )
    assert make().loss(Embeddings(u, t)).item() == pytest.approx(expected.item(), abs=1e-12)


def test_target_or_none():
    views = [torch.randn(6, 3, 16, 16) for _ in range(2)]
    ema, none = make().train(), make(target="none").train()
    assert not ema.embed(views).target.requires_grad
    embeddings = none.embed(views)
    assert embeddings.target is embeddings.online
    none.after_step(embeddings, 0.0)
    assert not any(name.startswith("target") for name in none.state_dict())


def test_bad_arguments(pair):
    with pytest.raises(IclmsrError, match=r"one shape \(2, B, D\), got \(1, 4, 3\)"):
        relic_loss(pair[0][:1], pair[1], temperature=0.5, alpha=1.0)
    with pytest.raises(IclmsrError, match="got 'all'"):
        relic_loss(*pair, temperature=0.5, alpha=1.0, kl_stopgrad="all")
    with pytest.raises(IclmsrError, match="method.alpha must be >= 0, got -1"):
        RELICConfig(alpha=-1)
