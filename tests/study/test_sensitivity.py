# SPDX-License-Identifier: Apache-2.0
"""Measures of embeddings against values computed by hand or in naive loops."""

import json
from itertools import product

import pytest
import torch
from torch.nn.functional import cosine_similarity

from iclmsr.errors import IclmsrError
from iclmsr.study.sensitivity import (
    retrieval,
    swap_sensitivity,
    swap_similarity,
    variance_shares,
)


def test_swap_similarity_of_an_encoder_that_sees_only_one_of_them():
    draw = torch.Generator().manual_seed(0)
    foreground, one, other = (torch.randn(500, 32, generator=draw) for _ in range(3))
    blind = swap_similarity(foreground, foreground)
    assert blind["swap_cosine"] == pytest.approx(1)
    assert abs(blind["random_cosine"]) < 0.05
    fooled = swap_similarity(one, other)
    assert abs(fooled["swap_cosine"]) < 0.05
    half = swap_similarity(foreground + one, foreground + other)
    assert half["swap_cosine"] == pytest.approx(0.5, abs=0.05)


def test_uncentred_cosines_by_hand():
    """What all images have in common counts there: (3, 4) and (4, 3) have cosine 24 / 25."""
    features = torch.tensor([[3.0, 4.0], [4.0, 3.0]])
    found = swap_similarity(features, features)
    assert found["swap_cosine_uncentred"] == pytest.approx(1)
    assert found["random_cosine_uncentred"] == pytest.approx(24 / 25)
    assert found["random_cosine"] == pytest.approx(-1)
    turned = swap_similarity(features, features.flip(0))
    assert turned["swap_cosine_uncentred"] == pytest.approx(24 / 25)
    assert turned["swap_cosine"] == pytest.approx(-1)


def test_swap_sensitivity_against_loops():
    grid = torch.randn(4, 6, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    apart = {
        "": lambda a, b: ((a - b) ** 2).sum(),
        "_cosine": lambda a, b: 1 - cosine_similarity(a, b, 0),
    }
    for name, distance in apart.items():
        behind = [
            distance(grid[i, j], grid[i, k])
            for i, j, k in product(range(4), range(6), range(6))
            if j != k
        ]
        front = [
            distance(grid[i, j], grid[l, j])
            for i, l, j in product(range(4), range(4), range(6))
            if i != l
        ]
        expected = (sum(behind) / len(behind)) / (sum(front) / len(front))
        found = swap_sensitivity(grid)[f"swap_sensitivity{name}"]
        assert found == pytest.approx(expected.item())


def test_swap_sensitivity_of_pure_encoders():
    front, back = torch.randn(5, 1, 3), torch.randn(1, 7, 3)
    blind = swap_sensitivity(front.expand(5, 7, 3))
    assert blind == {"swap_sensitivity": 0, "swap_sensitivity_cosine": 0}
    fooled = swap_sensitivity(back.expand(5, 7, 3))
    assert fooled == {"swap_sensitivity": None, "swap_sensitivity_cosine": None}
    longer = torch.tensor([[[1.0], [1.0]], [[2.0], [3.0]]])  # lengths alone have no cosine
    assert swap_sensitivity(longer)["swap_sensitivity"] == pytest.approx(0.5 / 2.5)
    assert swap_sensitivity(longer)["swap_sensitivity_cosine"] is None


def test_variance_shares_against_loops_and_of_pure_encoders():
    grid = torch.randn(5, 7, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    mean = grid.mean((0, 1))
    total = sum(((grid[i, j] - mean) ** 2).sum() for i in range(5) for j in range(7))
    rows = sum(7 * ((grid[i].mean(0) - mean) ** 2).sum() for i in range(5))
    columns = sum(5 * ((grid[:, j].mean(0) - mean) ** 2).sum() for j in range(7))
    found = variance_shares(grid)
    assert found["variance_foreground"] == pytest.approx((rows / total).item())
    assert found["variance_background"] == pytest.approx((columns / total).item())
    assert sum(found.values()) == pytest.approx(1)
    only = variance_shares(torch.randn(5, 1, 3).expand(5, 7, 3))
    assert only["variance_foreground"] == pytest.approx(1)
    with pytest.raises(IclmsrError, match="needs \\(I, J, F\\) with I, J >= 2, got \\(2, 2\\)"):
        variance_shares(torch.ones(2, 2))


@pytest.mark.parametrize("value", [0.0, 0.1, 7.3])
def test_a_collapsed_encoder_has_no_shares(value):
    grid = torch.full((24, 24, 8), value)
    grid[0, 1] *= 1 + 1e-7  # the rounding of float32
    found = variance_shares(grid) | swap_sensitivity(grid)
    assert set(found.values()) == {None}
    assert json.loads(json.dumps(found)) == found
    assert variance_shares(grid + torch.arange(24)[:, None, None])["variance_foreground"] > 0.99


def test_retrieval_of_pure_encoders():
    front, back = torch.randn(4, 1, 8), torch.randn(1, 4, 8)
    noise = 0.01 * torch.randn(4, 4, 8)
    assert retrieval(front + noise)["neighbour_foreground"] == 100
    assert retrieval(back + noise)["neighbour_background"] == 100
