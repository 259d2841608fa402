# SPDX-License-Identifier: Apache-2.0
"""Groups of images against naive loops."""

import pytest
import torch

from iclmsr.study.groups import balanced, worst_group


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
    assert (found["groups"], found["counted"]) == (12, 12)


def test_small_groups_do_not_count():
    correct = torch.tensor([False] + [True] * 10)
    labels = torch.tensor([0] + [1] * 10)
    found = worst_group(correct, labels, torch.zeros(11).long(), least=10)
    assert found["label"] == 1
    assert found["accuracy"] == 100.0
    assert (found["groups"], found["counted"]) == (2, 1)
    none = worst_group(correct, labels, torch.zeros(11).long(), least=11)
    assert (none["groups"], none["counted"], none["accuracy"], none["mean"]) == (2, 0, None, None)
    assert none.keys() == found.keys()


def test_a_balanced_choice_has_every_class_on_every_background_equally_often():
    """Of 90 images in four groups, 22 from each: a quarter of the large one, all small ones."""
    labels = torch.tensor([0] * 75 + [0] * 10 + [1] * 2 + [1] * 3)
    backgrounds = torch.tensor([0] * 75 + [1] * 10 + [0] * 2 + [1] * 3)
    shuffle = torch.randperm(90, generator=torch.Generator().manual_seed(0))
    labels, backgrounds = labels[shuffle], backgrounds[shuffle]
    chosen = balanced(labels, backgrounds)
    group = 2 * labels + backgrounds
    assert group[chosen].bincount().tolist() == [22] * 4
    for number, size in enumerate((75, 10, 2, 3)):
        own = chosen[group[chosen] == number]
        counts = own.bincount(minlength=90)[group == number]
        assert len(counts) == size
        assert counts.max() - counts.min() <= 1, "as equally often as possible"
    assert torch.equal(balanced(labels, backgrounds), chosen)
    assert not torch.equal(balanced(labels, backgrounds, seed=1), chosen)


def test_what_cannot_be_balanced():
    labels = torch.tensor([0, 0, 1, 1, 1])
    assert balanced(labels, labels) is None
    assert balanced(labels, torch.tensor([0, 1, 0, 0, 0])) is None
    assert balanced(labels, torch.tensor([0, 1, 0, 1, 1])) is not None
