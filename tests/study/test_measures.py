# SPDX-License-Identifier: Apache-2.0
"""Measures against values computed by hand or in naive loops."""

import pytest
import torch

from iclmsr.errors import IclmsrError
from iclmsr.study.measures import (
    by_classifier,
    difference,
    retrieval,
    swap_similarity,
    variance_shares,
    worst_group,
)


def test_difference_by_hand_and_its_interval():
    a = torch.tensor([True] * 60 + [False] * 40)
    b = torch.tensor([True] * 40 + [False] * 60)
    found = difference(a, b)
    assert found.value == pytest.approx(20.0)
    # Paired differences are 1 (20 of 100) or 0: standard error 4 points.
    assert found.low == pytest.approx(20 - 1.96 * 4, abs=1.5)
    assert found.high == pytest.approx(20 + 1.96 * 4, abs=1.5)
    assert difference(a, b) == found
    with pytest.raises(IclmsrError, match="same images, got 100 and 2"):
        difference(a, b[:2])


def test_worst_group_against_a_loop():
    draw = torch.Generator().manual_seed(1)
    labels = torch.randint(3, (400,), generator=draw)
    backgrounds = torch.randint(4, (400,), generator=draw)
    correct = torch.rand(400, generator=draw) < 0.3 + 0.15 * labels
    shares = {}
    for label in range(3):
        for background in range(4):
            own = [
                bool(hit)
                for hit, a, b in zip(correct, labels, backgrounds, strict=True)
                if a == label and b == background
            ]
            shares[label, background] = 100 * sum(own) / len(own)
    found = worst_group(correct, labels, backgrounds)
    worst = min(shares, key=shares.get)
    assert (found["label"], found["background"]) == worst
    assert found["accuracy"] == pytest.approx(shares[worst])
    assert found["mean"] == pytest.approx(sum(shares.values()) / 12)
    assert found["groups"] == 12
    assert worst_group(correct, labels, backgrounds, least=1000) is None


def test_small_groups_do_not_count():
    correct = torch.tensor([False] + [True] * 10)
    labels = torch.tensor([0] + [1] * 10)
    found = worst_group(correct, labels, torch.zeros(11).long(), least=10)
    assert found["label"] == 1
    assert found["accuracy"] == 100.0


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
    with pytest.raises(IclmsrError, match="collapsed"):
        variance_shares(torch.ones(2, 2, 3))
    with pytest.raises(IclmsrError, match="need \\(I, J, F\\)"):
        variance_shares(torch.ones(2, 2))


def test_retrieval_of_pure_encoders():
    front, back = torch.randn(4, 1, 8), torch.randn(1, 4, 8)
    noise = 0.01 * torch.randn(4, 4, 8)
    assert retrieval(front + noise)["neighbour_foreground"] == 100
    assert retrieval(back + noise)["neighbour_background"] == 100


def test_challenge_numbers_by_hand():
    def hits(count):
        return torch.tensor([True] * count + [False] * (10 - count))

    right = {
        "original": hits(9), "only_fg": hits(6), "only_bg_t": hits(4), "mixed_same": hits(8),
        "mixed_rand": hits(5),
    }  # fmt: skip
    found = by_classifier({"linear": right})
    assert found["bg_gap"]["linear"] == pytest.approx(30)
    assert found["bg_gap_low"]["linear"] < 30 < found["bg_gap_high"]["linear"]
    assert found["foreground_drop"]["linear"] == pytest.approx(30)
    assert found["background_only"]["linear"] == pytest.approx(40)
