# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from scipy.spatial.distance import cdist
from torch.nn import functional as F

from iclmsr.errors import IclmsrError
from iclmsr.methods.base import Embeddings
from iclmsr.methods.ssl_hsic import (
    SSLHSICConfig,
    _fourier_features,
    _hsic_exact,
    _hsic_rff,
    scale_slope,
    ssl_hsic_loss,
)
from iclmsr.networks import EncoderConfig, build_encoder


def make(**changes):
    torch.manual_seed(0)
    config = SSLHSICConfig(**{"hidden_dim": 16, "embedding_dim": 8, "rff_features": 64, **changes})
    return config.build(build_encoder(EncoderConfig(width=2)))


def hiddens(waves, count):
    return torch.stack([F.normalize(waves(k), dim=1) for k in range(count)])


@pytest.mark.parametrize(
    ("count", "zy", "zz", "loss"),
    [
        (2, 1.2417161146588545, 0.035347948068931025, -0.6776846149885087),
        (4, 0.5123223060776898, 0.03019666751549987, 0.008993344598077657),
    ],
)
def test_golden_values(waves, count, zy, zz, loss):
    h = hiddens(waves, count)
    assert [x.item() for x in _hsic_exact(h, 1.0)] == pytest.approx([zy, zz], abs=1e-12)
    assert ssl_hsic_loss(h).item() == pytest.approx(loss, abs=1e-12)
    assert ssl_hsic_loss(3 * h).item() == pytest.approx(loss, abs=1e-12)  # rows are normalized


def test_the_other_normalizer_of_the_port(waves):
    _, zz = _hsic_exact(hiddens(waves, 4), 1.0)
    other = zz.item() * 16**2 / 15**2
    assert other == pytest.approx(0.03435709726207985, abs=1e-12)


@pytest.mark.parametrize(
    ("batch", "count", "zy", "zz"),
    [(2, 2, 1.2113248654, 0.0446581987), (4, 4, 0.6503206314, 0.0334936491)],
)
def test_orthonormal_images(batch, count, zy, zz):
    h = torch.eye(batch, dtype=torch.float64).expand(count, batch, batch)
    found = _hsic_exact(h, 1.0)
    kappa = 3**-0.5
    assert found[0].item() == pytest.approx(zy, abs=1e-10)
    assert found[1].item() == pytest.approx(zz, abs=1e-10)
    assert found[0].item() - 1 / (count - 1) == pytest.approx((1 - 1 / batch) * (1 - kappa))
    assert found[1].item() == pytest.approx((1 - kappa) ** 2 * (batch - 1) / batch**2)


def test_collapsed_embeddings_have_a_finite_gradient():
    h = torch.ones(4, 5, 3, dtype=torch.float64, requires_grad=True)
    zy, zz = _hsic_exact(F.normalize(h.detach(), dim=2), 1.0)
    assert zy.item() == pytest.approx(1 / 3)
    assert zz.item() == pytest.approx(0, abs=1e-15)
    ssl_hsic_loss(h).backward()
    assert h.grad.isfinite().all()


def test_against_scipy_and_a_double_loop(waves):
    h, c = hiddens(waves, 3), 0.7
    rows = h.flatten(0, 1).numpy()
    k = c / (cdist(rows, rows, "sqeuclidean") + c**2) ** 0.5
    count, batch = 3, 4
    own = sum(
        k[p * batch + i, l * batch + i]
        for i in range(batch)
        for p in range(count)
        for l in range(count)
    )
    zy = own / (batch * count * (count - 1)) - k.sum() / (batch * count) ** 2
    total = batch * count
    centring = torch.eye(total, dtype=torch.float64) - 1 / total
    zz = (centring @ torch.from_numpy(k) @ centring).square().sum() / total**2
    assert [x.item() for x in _hsic_exact(h, c)] == pytest.approx([zy, zz.item()], abs=1e-12)
    loss = ssl_hsic_loss(h, scale=c, gamma=1.5)
    assert loss.item() == pytest.approx(1.5 * zz.item() ** 0.5 - zy, abs=1e-12)


def test_random_features_are_unbiased(waves):
    """2,000 draws of 512 features; within 4 standard errors of the exact values."""
    h = hiddens(waves, 4)
    generator = torch.Generator().manual_seed(0)
    draws = torch.tensor([_hsic_rff(h, 1.0, 512, generator) for _ in range(2000)])
    exact = torch.tensor(_hsic_exact(h, 1.0))
    error = draws.std(0) / 2000**0.5
    assert ((draws.mean(0) - exact).abs() < 4 * error).all()
    assert draws.std(0).tolist() == pytest.approx([0.0145, 0.0022], rel=0.1)


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_random_features_have_the_kernel(waves, scale):
    """One draw of 200,000 features: within 0.01 of the kernel for every pair of rows."""
    rows = F.normalize(waves(0), dim=1)
    phi = _fourier_features(rows, scale, 200_000, torch.Generator().manual_seed(0))
    k = scale / (torch.from_numpy(cdist(rows, rows, "sqeuclidean")) + scale**2).sqrt()
    assert (phi @ phi.T - k).abs().max() < 0.01


def test_random_features_come_from_the_generator_alone(waves):
    h = hiddens(waves, 4)

    def loss(seed):
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        return ssl_hsic_loss(h, kernel="rff", generator=generator).item()

    state = torch.get_rng_state()
    assert loss(0) == loss(None) != loss(1)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("kernel", ["exact", "rff"])
def test_gradcheck(waves, kernel):
    h = torch.stack([waves(k) for k in range(2)]).requires_grad_()

    def loss(h):
        generator = torch.Generator().manual_seed(0)
        return ssl_hsic_loss(h, kernel=kernel, features=16, generator=generator)

    assert torch.autograd.gradcheck(loss, h)
    assert torch.autograd.gradgradcheck(loss, h)


def test_scale_gets_no_gradient_from_the_loss(waves):
    scale = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    h = hiddens(waves, 2).requires_grad_()
    ssl_hsic_loss(h, scale=scale).backward()
    assert scale.grad is None
    assert ssl_hsic_loss(h, scale=scale).item() == ssl_hsic_loss(h, scale=1.3).item()


def test_slope_of_the_scale_is_the_derivative(waves):
    squared = (2 - 2 * F.normalize(waves(0), dim=1) @ F.normalize(waves(1), dim=1).T).abs()
    c = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)
    derivative = c / 2 * (squared + c**2) ** -1.5
    (slope,) = torch.autograd.grad(-derivative.log().mean(), c)
    assert scale_slope(squared, c.detach()).item() == pytest.approx(slope.item(), abs=1e-12)
    assert scale_slope(torch.full((3, 3), 2.0).double(), torch.tensor(1.0)).item() == 0
    flat = torch.full((1, 1), 1e10, dtype=torch.float64)  # squared derivative 1e-31: clamped
    assert scale_slope(flat, torch.tensor(1.0)).item() == 0


def test_scale_takes_steps_of_adam():
    method = make(scale_lr=0.01)
    embeddings = Embeddings(torch.randn(2, 5, 8), torch.randn(2, 5, 8))
    parameter = torch.tensor(1.0, requires_grad=True)
    adam = torch.optim.Adam([parameter], 0.01)
    for _ in range(3):
        seed = int(method.sample_seed + method.scale_steps)
        rows = torch.randint(5, (2, 4, 256), generator=torch.Generator().manual_seed(seed))
        h = F.normalize(torch.cat(embeddings[:2]), dim=2)
        a, b = (torch.cat([h[m][part[m]] for m in range(4)]) for part in rows)
        parameter.grad = scale_slope((2 - 2 * a @ b.T).clamp_min(0), parameter.detach())
        adam.step()
        method.after_step(embeddings, 0.0)
        assert method.scale.item() == pytest.approx(parameter.item(), abs=1e-6)
    assert method.scale.item() != 1


def test_scale_finds_its_optimum():
    """The mean of c^2 / (d^2 + c^2) comes to 1/3."""
    method = make(scale_lr=0.01)
    torch.manual_seed(1)
    h = torch.randn(2, 64, 8)
    for _ in range(400):
        method.after_step(Embeddings(h, h), 0.0)
    z = F.normalize(torch.cat([h, h]), dim=2).flatten(0, 1)
    squared = (2 - 2 * z @ z.T).clamp_min(0)
    share = (method.scale**2 / (squared + method.scale**2)).mean().item()
    assert share == pytest.approx(1 / 3, abs=0.02)


def test_learning_rate_zero_keeps_the_scale():
    method = make(scale_lr=0.0, initial_scale=0.6)
    method.after_step(Embeddings(torch.randn(2, 5, 8), torch.randn(2, 5, 8)), 0.0)
    assert method.scale.item() == pytest.approx(0.6)


def test_hiddens_are_online_and_target_of_all_views(waves):
    z, t = torch.stack([waves(0), waves(1)]), torch.stack([waves(2), waves(3)])
    method = make(kernel="exact")
    expected = ssl_hsic_loss(torch.stack([waves(k) for k in range(4)]))
    assert method.loss(Embeddings(z, t)).item() == pytest.approx(expected.item(), abs=1e-12)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gamma": -1.0}, "method.gamma must be >= 0, got -1.0"),
        ({"rff_features": 0}, "method.rff-features must be >= 1, got 0"),
        ({"initial_scale": 0.0}, "method.initial-scale must be > 0, got 0.0"),
    ],
)
def test_bad_config(changes, message):
    with pytest.raises(IclmsrError, match=message):
        SSLHSICConfig(**changes)


def test_bad_arguments(waves):
    h = hiddens(waves, 2)
    with pytest.raises(IclmsrError, match="kernel must be exact or rff, got 'rbf'"):
        ssl_hsic_loss(h, kernel="rbf")
    with pytest.raises(IclmsrError, match=r"M >= 2, got \(1, 4, 3\)"):
        ssl_hsic_loss(h[:1])
    with pytest.raises(IclmsrError, match="scale must be > 0 .* got -1.0 and 512"):
        ssl_hsic_loss(h, scale=-1.0)
