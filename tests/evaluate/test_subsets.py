# SPDX-License-Identifier: Apache-2.0
import torch

from iclmsr.evaluate.subsets import held_out, stratified

LABELS = torch.tensor([0] * 100 + [1] * 40 + [3] * 3 + [4])[
    torch.randperm(144, generator=torch.Generator().manual_seed(0))
]


def test_each_class_has_its_share():
    chosen = stratified(LABELS, 0.1, seed=0, purpose="a")
    assert LABELS[chosen].bincount().tolist() == [10, 4, 0, 1, 1]
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    assert torch.equal(stratified(LABELS, 1.0, seed=0, purpose="a"), torch.arange(144))


def test_seed_purpose_and_draw_decide():
    first = stratified(LABELS, 0.1, seed=0, purpose="a")
    assert torch.equal(first, stratified(LABELS, 0.1, seed=0, purpose="a"))
    for other in (
        stratified(LABELS, 0.1, seed=1, purpose="a"),
        stratified(LABELS, 0.1, seed=0, purpose="b"),
        stratified(LABELS, 0.1, seed=0, purpose="a", draw=1),
    ):
        assert not torch.equal(first, other)


def test_held_out_leaves_every_class_something():
    kept, out = held_out(LABELS, 0.2, seed=0, purpose="a")
    assert torch.equal(torch.cat([kept, out]).sort().values, torch.arange(144))
    assert LABELS[kept].bincount().tolist() == [80, 32, 0, 2, 1]
    assert LABELS[out].bincount(minlength=5).tolist() == [20, 8, 0, 1, 0]


def test_classes_of_one_image_hold_nothing_out():
    kept, out = held_out(torch.arange(5), 0.5, seed=0, purpose="a")
    assert kept.tolist() == [0, 1, 2, 3, 4]
    assert out.tolist() == []
