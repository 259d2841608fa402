# SPDX-License-Identifier: Apache-2.0
"""Whole runs of the methods that have state besides parameters and batch norm statistics."""

import json
from dataclasses import replace

import pytest
import torch
from bits import assert_same
from torch import nn

from iclmsr import checkpoint
from iclmsr.config import CheckpointConfig
from iclmsr.data.sources import DataConfig
from iclmsr.data.synthetic import SyntheticConfig
from iclmsr.data.views import ViewConfig
from iclmsr.pretrain import pretrain, resume

STATEFUL = ["byol", "ressl", "ssl-hsic", "relic", "moco-v3", "dino"]
RESUMED = ["byol", "ressl", "ssl-hsic", "dino"]
DATA = DataConfig(
    source="synthetic", image_size=16, limit=35, synthetic=SyntheticConfig(train=40, test=40)
)


def has_state(method):
    """A tensor that training moves, no trainable one and no batch norm's."""
    norms = [module for module in method.modules() if isinstance(module, nn.BatchNorm1d)]
    norms += [module for module in method.modules() if isinstance(module, nn.BatchNorm2d)]
    known = {id(buffer) for norm in norms for buffer in norm.buffers()}
    frozen = any(not parameter.requires_grad for parameter in method.parameters())
    return frozen or any(id(buffer) not in known for buffer in method.buffers())


def test_which_have_state_of_their_own(case, build):
    assert has_state(build(case).method) == (case in STATEFUL)


def untimed(line):
    timed = ("images_per_second", "seconds", "data_wait")
    return {name: value for name, value in json.loads(line).items() if name not in timed}


@pytest.mark.parametrize("name", RESUMED)
def test_resuming_from_any_checkpoint_gives_the_same_bits(tmp_path, configure, name):
    """2 batches an epoch, stage 2 on one of them."""
    config = replace(
        configure(name, "static", msr={"schedule": "epoch", "fraction": 0.5}),
        epochs=2,
        log_every=2,
        data=DATA,
        views=ViewConfig(size=16),
        checkpoint=CheckpointConfig(every_steps=2, keep=100),
    )
    torch.manual_seed(1)
    whole = pretrain(config, tmp_path / "whole")
    files = checkpoint.checkpoints(whole / "checkpoints")
    assert len(files) == 4  # after 2, 3, 4 and 6 updates
    expected = checkpoint.load(files[-1])
    log = (whole / "metrics.jsonl").read_text().splitlines()
    for last in (0, 2):  # before stage 2; in stage 1, when the queue has just wrapped around
        part = tmp_path / f"part{last}"
        (part / "checkpoints").mkdir(parents=True)
        for file in ("config.json", "environment.json", "metrics.jsonl"):
            (part / file).write_bytes((whole / file).read_bytes())
        (part / "checkpoints" / files[last].name).write_bytes(files[last].read_bytes())
        torch.manual_seed(2)
        resume(part)
        ended = checkpoint.load(checkpoint.checkpoints(part / "checkpoints")[-1])
        for key in ("stages", "random", "data"):
            assert_same(ended[key], expected[key])
        found = (part / "metrics.jsonl").read_text().splitlines()
        for one, other in zip(found, log, strict=True):
            assert untimed(one) == untimed(other)
