# SPDX-License-Identifier: Apache-2.0
"""Every method with background augmentations: it trains, and swaps mean what they should."""

import copy
import math
from dataclasses import replace
from itertools import permutations

import pytest
import torch

from iclmsr.data.backdrops import draw_donors
from iclmsr.data.sources import DataConfig
from iclmsr.data.synthetic import SyntheticConfig
from iclmsr.data.views import ViewConfig
from iclmsr.methods.base import Embeddings
from iclmsr.pretrain import pretrain
from iclmsr.runs import RunFolder

IN_BATCH = ("simclr", "lmcl", "moco-v3", "relic", "relic, no target")
"""Cases whose negatives are the other images of the batch."""
DATA = DataConfig(
    source="synthetic", image_size=16, synthetic=SyntheticConfig(train=16, test=8, val=8)
)


def weak(case):
    """The views that keep their backgrounds."""
    return (1,) if case == "ressl" else ()


@pytest.mark.parametrize("background", ["remove", "random", "swaps"])
def test_it_trains_with_it(case, configure, initial, tmp_path, monkeypatch, background):
    monkeypatch.setattr("iclmsr.stages.starting_encoder", lambda *_: copy.deepcopy(initial))
    views = ViewConfig(size=16, background=background, background_probability=1.0, weak=weak(case))
    config = replace(configure(case), epochs=1, data=DATA, views=views)
    run = pretrain(config, tmp_path / "run")
    (epoch,) = (record for record in RunFolder(run).metrics() if record["event"] == "epoch")
    assert epoch["step"] == 1
    assert math.isfinite(epoch["loss"])


def test_a_swapped_anchor_meets_a_negative_on_its_background(case, build, draw):
    """Of a batch of 16, for all views that the method compares; the loss sees them together."""
    kinds = [ViewConfig(background="swaps", weak=weak(case)).for_view(v).background for v in (0, 1)]
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    donors = draw_donors(kinds, 1.0, order, seed=0, epoch=0)
    method = build(case, double=True).method
    known = method(draw(1, dtype=torch.float64))
    online = known.online.detach().requires_grad_()
    target = online
    if known.target is not known.online:
        target = known.target.detach().requires_grad_()
    found = Embeddings(online, target, known.features, known.pairs)
    slope = None
    if case in IN_BATCH:
        (slope,) = torch.autograd.grad(method.loss(found), online, create_graph=True)
    for j, l in permutations(range(2), 2) if known.pairs is None else known.pairs:
        for i in range(16):
            assert donors[j][i] != donors[l][i], "the positive is on another background"
            (negative,) = (donors[l] == donors[j][i]).nonzero()[:, 0].tolist()
            assert negative != i
            if slope is not None:
                (felt,) = torch.autograd.grad(slope[j, i].sum(), target, retain_graph=True)
                assert felt[l, negative].abs().max() > 0, "the loss compares the two"
