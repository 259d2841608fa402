# SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch

from iclmsr.errors import IclmsrError
from iclmsr.losses import nt_xent


def test_test_input_is_the_specified_one(waves):
    assert waves(0, 4, 3)[0].tolist() == pytest.approx(
        [0.909297426826, -0.157745694143, -0.993691003633], abs=1e-12
    )
    assert waves(1, 4, 3)[0].tolist() == pytest.approx(
        [0.778073196888, -0.611857890943, -0.803520155852], abs=1e-12
    )


@pytest.mark.parametrize(
    ("temperature", "expected", "digits"),
    [(0.5, 0.6313288461607154, 1e-14), (0.1, 0.0766839971434, 1e-12)],
)
def test_golden_values(waves, temperature, expected, digits):
    value = nt_xent(waves(0, 4, 3), waves(1, 4, 3), temperature=temperature)
    assert value.item() == pytest.approx(expected, abs=digits)


def test_orthonormal_and_collapsed():
    eye = torch.eye(2, dtype=torch.float64)
    assert nt_xent(eye, eye, temperature=0.5).item() == pytest.approx(
        math.log(1 + 2 * math.exp(-2)), abs=1e-14
    )
    ones = torch.ones(4, 3, dtype=torch.float64)
    assert nt_xent(ones, ones, temperature=0.5).item() == pytest.approx(math.log(7), abs=1e-14)


def test_equals_the_naive_double_loop(waves):
    a, b = waves(2, 5, 4), waves(3, 5, 4)
    rows = [row / row.norm() for row in torch.cat([a, b])]
    total = 0.0
    for i, row in enumerate(rows):
        scores = [math.exp(row @ other / 0.2) for j, other in enumerate(rows) if j != i]
        total -= math.log(math.exp(row @ rows[(i + 5) % 10] / 0.2) / sum(scores))
    assert nt_xent(a, b, temperature=0.2).item() == pytest.approx(total / 10, abs=1e-13)


def test_gradients(waves):
    a, b = waves(0, 4, 3).requires_grad_(), waves(1, 4, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: nt_xent(a, b, temperature=0.5), (a, b))
    assert torch.autograd.gradgradcheck(lambda a, b: nt_xent(a, b, temperature=0.5), (a, b))


def test_half_precision_is_computed_in_float32():
    a = torch.randn(32, 16, generator=torch.Generator().manual_seed(0)).bfloat16()
    a.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        value = nt_xent(a, a, temperature=0.01)
    value.backward()
    assert value.dtype == torch.float32
    assert a.grad.isfinite().all()
    exact = nt_xent(a.double(), a.double(), temperature=0.01)
    assert value.item() == pytest.approx(exact.item(), abs=1e-4)


@pytest.mark.parametrize("temperature", [0, -0.1, math.inf, math.nan])
def test_bad_temperature(temperature):
    with pytest.raises(IclmsrError, match="temperature must be > 0 and finite, got"):
        nt_xent(torch.ones(2, 3), torch.ones(2, 3), temperature=temperature)


def test_bad_shapes():
    with pytest.raises(IclmsrError, match=r"got \(2, 3\) and \(3, 3\)"):
        nt_xent(torch.ones(2, 3), torch.ones(3, 3), temperature=0.5)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_agrees_with_lightly(waves, temperature):
    lightly = pytest.importorskip("lightly.loss.ntx_ent_loss")
    a, b = waves(0, 16, 5), waves(1, 16, 5)
    theirs = lightly.NTXentLoss(temperature=temperature)(a, b)
    found = nt_xent(a, b, temperature=temperature)
    assert found.item() == pytest.approx(theirs.item(), abs=1e-10)
