# SPDX-License-Identifier: Apache-2.0
from itertools import combinations

import numpy as np
import pytest
import torch

from iclmsr.errors import IclmsrError
from iclmsr.methods.w_mse import WMSEConfig, w_mse_loss, whiten

FIRST_ROW = (1.198336345346, -0.276985459212, -1.430756440077)


def views(waves, *ks, n=16):
    return torch.stack([waves(k, n, 3) for k in ks])


def test_whitened_rows_have_identity_covariance(waves):
    z = whiten(waves(0, 16, 3))
    assert torch.allclose(z.T.cov(), torch.eye(3, dtype=torch.float64), atol=1e-12)
    assert z.mean(0).abs().max() < 1e-12
    assert z.square().sum(1).mean().item() == pytest.approx(2.8125, abs=1e-12)  # D (w - 1) / w
    assert z[0].tolist() == pytest.approx(FIRST_ROW, abs=1e-11)


def test_whitening_ignores_a_triangular_map_and_a_shift(waves):
    x = waves(0, 16, 3)
    lower = torch.tensor([[2.0, 0, 0], [0.3, 1.5, 0], [-0.7, 0.2, 0.6]], dtype=torch.float64)
    shift = torch.tensor([5.0, -2.0, 1.0], dtype=torch.float64)
    assert torch.allclose(whiten(x @ lower.T + shift), whiten(x), atol=1e-12)


def test_golden_values(waves):
    two = views(waves, 0, 1)
    assert w_mse_loss(two, sub_batch=16).item() == pytest.approx(0.23348347214110966, abs=1e-12)
    assert w_mse_loss(two, sub_batch=8).item() == pytest.approx(0.14866966136306337, abs=1e-12)
    plain = w_mse_loss(two, sub_batch=8, normalize=False).item()
    assert plain == pytest.approx(0.14806908375664363, abs=1e-12)
    four = w_mse_loss(views(waves, 0, 1, 2, 3), sub_batch=16).item()
    assert four == pytest.approx(0.7787886661085744, abs=1e-12)


def test_alike_and_opposite_views(waves):
    x = waves(0, 16, 3)
    assert w_mse_loss(torch.stack([x, x]), sub_batch=16).item() == pytest.approx(0, abs=1e-12)
    assert w_mse_loss(torch.stack([x, -x]), sub_batch=16).item() == pytest.approx(4, abs=1e-12)


def test_one_dimension_counts_signs(waves):
    x = torch.stack([waves(0, 16, 1), waves(9, 16, 1)])
    signs = [whiten(view).sign() for view in x]
    share = (signs[0] != signs[1]).double().mean().item()
    assert 0 < share < 1
    assert w_mse_loss(x, sub_batch=16).item() == pytest.approx(4 * share, abs=1e-12)


def test_gradients(waves):
    x = views(waves, 0, 1).requires_grad_()
    (slope,) = torch.autograd.grad(w_mse_loss(x, sub_batch=16), x)
    assert slope[0].norm().item() == pytest.approx(0.196300068, abs=1e-8)
    assert slope[1].norm().item() == pytest.approx(0.194744873, abs=1e-8)
    assert slope.sum(1).abs().max() < 1e-12
    assert torch.autograd.gradcheck(lambda v: w_mse_loss(v, sub_batch=8), x)
    assert torch.autograd.gradgradcheck(lambda v: w_mse_loss(v, sub_batch=8), x[:, :8])


def test_against_numpy_for_a_random_order(waves):
    """A naive loop: every sub-batch of the permutation, every view, every pair."""
    x = views(waves, 0, 1, 2)
    found = w_mse_loss(x, sub_batch=8, iterations=2, generator=torch.Generator().manual_seed(3))
    orders = torch.Generator().manual_seed(3)
    losses = []
    for _ in range(2):
        order = torch.randperm(16, generator=orders).numpy()
        for part in (order[:8], order[8:]):
            white = []
            for view in x.numpy():
                rows = view[part] - view[part].mean(0)
                lower = np.linalg.cholesky(rows.T @ rows / 7)
                z = rows @ np.linalg.inv(lower).T
                white.append(z / np.linalg.norm(z, axis=1, keepdims=True))
            losses += [np.mean(2 - 2 * (a * b).sum(1)) for a, b in combinations(white, 2)]
    assert found.item() == pytest.approx(np.mean(losses), abs=1e-12)
    assert found.item() != pytest.approx(w_mse_loss(x, sub_batch=8).item(), abs=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_agrees_with_lightly():
    lightly = pytest.importorskip("lightly.loss.wmse_loss")
    torch.manual_seed(0)
    x = torch.randn(2, 32, 4, dtype=torch.float64)
    theirs = lightly.WMSELoss(embedding_dim=4, w_size=32, w_iter=1)
    assert w_mse_loss(x, sub_batch=32).item() == pytest.approx(
        theirs(x.flatten(0, 1)).item(), abs=1e-10
    )


def test_float32_input_is_whitened_in_float64():
    torch.manual_seed(0)
    turn = torch.linalg.qr(torch.randn(8, 8)).Q
    x = torch.randn(128, 8) @ torch.diag(10.0 ** torch.arange(0, -4, -0.5)) @ turn
    exact = whiten(x.double())
    assert whiten(x).dtype == torch.float32
    assert (whiten(x) - exact).abs().max() < 1e-6
    assert (whiten(x, double=False) - exact).abs().max() > 1e-3


def test_runs_under_autocast():
    x = torch.randn(2, 16, 3, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        assert w_mse_loss(x, sub_batch=16).dtype == torch.float32


def test_eps_mixes_in_the_identity(waves):
    x = waves(0, 16, 3)
    z = whiten(x, eps=0.25)
    mixed = 0.75 * x.T.cov() + 0.25 * torch.eye(3, dtype=torch.float64)
    lower = torch.linalg.cholesky(mixed)
    assert torch.allclose(lower @ z.T, (x - x.mean(0)).T, atol=1e-12)
    assert whiten(torch.ones(4, 3), eps=0.1).abs().max() == 0  # collapsed, and still defined


def test_singular_covariance_says_sizes():
    with pytest.raises(IclmsrError, match=r"covariance of 8 embeddings of size 3 is singular"):
        whiten(torch.ones(8, 3))
    with pytest.raises(IclmsrError, match=r"w > D, got \(3, 3\)"):
        whiten(torch.randn(3, 3))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sub_batch": 127}, "method.sub-batch must be at least twice .* 64, got 127"),
        ({"iterations": 0}, "method.iterations must be >= 1, got 0"),
        ({"eps": 2.0}, r"method.eps must be in \[0, 1\], got 2.0"),
    ],
)
def test_bad_config(changes, message):
    with pytest.raises(IclmsrError, match=message):
        WMSEConfig(**changes)


def test_sub_batch_that_does_not_divide(waves):
    with pytest.raises(IclmsrError, match="must divide the batch of 16 .* got 5 and 1"):
        w_mse_loss(views(waves, 0, 1), sub_batch=5)
    with pytest.raises(IclmsrError, match="method.sub-batch 128 must divide batch-size 100"):
        WMSEConfig().check_batch(100, 2)
