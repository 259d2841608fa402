# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from iclmsr.errors import IclmsrError
from iclmsr.losses import nt_xent
from iclmsr.methods.base import Embeddings
from iclmsr.methods.lmcl import LMCLConfig, distance_polarization
from iclmsr.networks import EncoderConfig, build_encoder


def make(**changes):
    torch.manual_seed(0)
    config = LMCLConfig(hidden_dim=16, embedding_dim=8, **changes)
    return config.build(build_encoder(EncoderConfig(width=2)))


@pytest.fixture
def rows(waves):
    return torch.cat([waves(0), waves(1)])


@pytest.mark.parametrize(
    ("lower", "upper", "total", "mean"),
    [(0.2, 0.5, 0.115555248895, 0.0020634865874165), (0.1, 0.9, 4.831087139184, 0.0862694131997)],
)
def test_golden_values(rows, lower, upper, total, mean):
    found = distance_polarization(rows, lower=lower, upper=upper, reduction="sum")
    assert found.item() == pytest.approx(total, abs=1e-11)
    found = distance_polarization(rows, lower=lower, upper=upper)
    assert found.item() == pytest.approx(mean, abs=1e-12)


def test_golden_value_of_the_whole_loss(waves):
    z = torch.stack([waves(0), waves(1)])
    assert make().loss(Embeddings(z, z)).item() == pytest.approx(0.6333923327481318, abs=1e-12)


def test_orthonormal_rows():
    eye = torch.eye(4, dtype=torch.float64)
    wide = distance_polarization(eye, lower=0.1, upper=0.9).item()
    assert wide == pytest.approx(0.16, abs=1e-12)
    assert distance_polarization(eye, lower=0.2, upper=0.5).item() == 0


def test_against_a_double_loop(rows):
    total = 0.0
    for i in range(8):
        for j in range(8):
            cosine = float(rows[i] @ rows[j] / rows[i].norm() / rows[j].norm())
            distance = (1 - cosine) / 2
            total += abs(min((distance - 0.15) * (distance - 0.7), 0.0))
    found = distance_polarization(rows, lower=0.15, upper=0.7, reduction="sum")
    assert found.item() == pytest.approx(total, abs=1e-12)


def test_pairs_below_the_middle_are_pulled_and_above_pushed():
    def slope(angle):
        rows = torch.tensor([[1.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
        angle = torch.tensor(angle, dtype=torch.float64, requires_grad=True)
        z = torch.stack([rows[0], torch.stack([angle.cos(), angle.sin()])])
        return torch.autograd.grad(distance_polarization(z, lower=0.2, upper=0.6), angle)[0].item()

    assert slope(1.2) > 0  # D = 0.32: descending closes the angle
    assert slope(1.6) < 0  # D = 0.51
    assert slope(0.5) == slope(2.5) == 0  # outside of the thresholds


def test_weight_zero_is_simclr_to_the_bit(waves):
    z = torch.stack([waves(0), waves(1)]).requires_grad_()
    found = make(polarization_weight=0.0).loss(Embeddings(z, z))
    expected = nt_xent(z[0], z[1], temperature=0.5)
    assert found.item() == expected.item()
    assert torch.equal(*(torch.autograd.grad(loss, z)[0] for loss in (found, expected)))


def test_polarization_spans_all_views(waves):
    z = torch.stack([waves(k) for k in range(3)])
    method = make(polarization_weight=2.0)
    contrastive = make(polarization_weight=0.0).loss(Embeddings(z, z))
    expected = contrastive + 2 * distance_polarization(z.flatten(0, 1), lower=0.2, upper=0.5)
    assert method.loss(Embeddings(z, z)).item() == pytest.approx(expected.item(), abs=1e-12)


def test_gradcheck(rows):
    assert torch.autograd.gradcheck(
        lambda z: distance_polarization(z, lower=0.2, upper=0.5), rows.requires_grad_()
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lower": 0.6}, "need 0 < method.lower < method.upper < 1, got 0.6 and 0.5"),
        ({"polarization_weight": -1.0}, "polarization-weight must be >= 0, got -1.0"),
        ({"temperature": 0.0}, "temperature must be > 0 and finite, got 0.0"),
    ],
)
def test_bad_config(changes, message):
    with pytest.raises(IclmsrError, match=message):
        LMCLConfig(**changes)


def test_bad_arguments(rows):
    with pytest.raises(IclmsrError, match="got 0.5 and 0.5"):
        distance_polarization(rows, lower=0.5, upper=0.5)
    with pytest.raises(IclmsrError, match="reduction must be mean or sum, got 'max'"):
        distance_polarization(rows, lower=0.2, upper=0.5, reduction="max")
    with pytest.raises(IclmsrError, match=r"M >= 2, got \(1, 3\)"):
        distance_polarization(rows[:1], lower=0.2, upper=0.5)
