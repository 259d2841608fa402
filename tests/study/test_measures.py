# SPDX-License-Identifier: Apache-2.0
"""Measures against values computed by hand or in naive loops."""

import pytest
import torch

from iclmsr.errors import IclmsrError
from iclmsr.study.measures import by_classifier, difference, interaction, ratio


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


def test_ratio_by_hand_and_its_interval():
    a = torch.tensor([True] * 60 + [False] * 40)
    b = torch.tensor([True] * 80 + [False] * 20)
    found = ratio(a, b)
    assert found.value == pytest.approx(0.75)
    # Of those right in b, a share of 3 / 4 is right in a: standard error sqrt(3 / 16 / 80).
    assert found.low == pytest.approx(0.75 - 1.96 * 0.0484, abs=0.02)
    assert found.high == pytest.approx(0.75 + 1.96 * 0.0484, abs=0.02)
    assert ratio(a, b) == found
    assert ratio(a, torch.zeros(100).bool()) is None
    one = ratio(torch.tensor([True, False]), torch.tensor([True, False]))
    assert one == (1, 1, 1), "resamples without an image that is right say nothing"
    with pytest.raises(IclmsrError, match="same images, got 100 and 2"):
        ratio(a, b[:2])


def test_interaction_by_hand():
    assert interaction(80, 60, 75, 55) == 0, "the same drop, whatever was trained on"
    assert interaction(90, 40, 30, 85) == 105
    assert interaction(90, 70, 80, 85) == 25


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
    assert found["background_robustness"]["linear"] == pytest.approx(5 / 8)
    assert found["background_robustness_low"]["linear"] < 5 / 8
    assert found["background_robustness_high"]["linear"] > 5 / 8
    none = by_classifier({"knn": {**right, "mixed_same": hits(0)}})
    assert none["background_robustness"] == {"knn": None}
