# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from iclmsr.health import collapse, effective_rank, measure
from iclmsr.methods.base import Embeddings
from iclmsr.regularizer import MetaSemanticRegularizer


def embeddings(online, features):
    return Embeddings(online, online, features)


def test_effective_rank_by_hand():
    """Singular values 3 and 1: shares 3/4 and 1/4."""
    expected = torch.tensor([0.75, 0.25])
    expected = (-(expected * expected.log()).sum()).exp().item()
    assert effective_rank(torch.diag(torch.tensor([3.0, 1.0]))) == pytest.approx(expected)
    assert effective_rank(torch.zeros(3, 3)) == pytest.approx(1.0)


def test_healthy_embeddings():
    torch.manual_seed(0)
    found = measure(embeddings(torch.randn(2, 500, 32), torch.randn(2, 500, 16)), None)
    assert found["embedding_std"] == pytest.approx(1.0, abs=0.02)
    assert found["effective_rank"] == pytest.approx(16, abs=0.5)
    assert "saturated" not in found
    assert collapse(found) is None


def test_collapsed_embeddings_are_warned_of():
    torch.manual_seed(0)
    one_place = torch.randn(8) + 1e-3 * torch.randn(2, 50, 8)
    found = measure(embeddings(one_place, torch.randn(2, 50, 16)), None)
    assert found["embedding_std"] < 0.02
    assert "the embeddings collapse: spread 0.00" in collapse(found)


def test_features_of_rank_one_are_warned_of():
    torch.manual_seed(0)
    features = torch.randn(2, 50, 1) * torch.randn(16)
    found = measure(embeddings(torch.randn(2, 50, 8), features), None)
    assert found["effective_rank"] == pytest.approx(1.0, abs=1e-3)
    assert "effective rank 1.0" in collapse(found)


def test_saturation_of_the_regularizer():
    msr = MetaSemanticRegularizer(8, strata=2)
    with torch.no_grad():
        msr.logits[0] = 20.0
    found = measure(embeddings(torch.randn(2, 9, 8), torch.randn(2, 9, 4)), msr)
    assert found["saturated"] == 0.5
