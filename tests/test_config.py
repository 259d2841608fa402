# SPDX-License-Identifier: Apache-2.0
import json
from dataclasses import replace
from pathlib import Path

import pytest

from iclmsr.config import MSRConfig, PretrainConfig, decode, encode
from iclmsr.data.sources import DataConfig
from iclmsr.data.views import ViewConfig
from iclmsr.errors import IclmsrError
from iclmsr.methods.simclr import SimCLRConfig
from iclmsr.networks import EncoderConfig
from iclmsr.recipes import RECIPES


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_survives_json(name):
    config = RECIPES[name].config
    assert config.recipe == name
    assert decode(PretrainConfig, json.loads(json.dumps(encode(config)))) == config


def test_changed_values_survive_json():
    config = PretrainConfig(
        method=SimCLRConfig(temperature=0.2),
        encoder=EncoderConfig("vit_tiny_patch16_224", options={"img_size": 32}),
        data=DataConfig(root=Path("/somewhere"), limit=7),
        views=ViewConfig(blur=(1.0, 0.1), solarize=0.3),
        msr=MSRConfig(enabled=True, temperature=0.1, inner_lr=None),
    )
    assert decode(PretrainConfig, json.loads(json.dumps(encode(config)))) == config


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"epochz": 3}, "unknown field 'epochz': did you mean 'epochs'"),
        ({"msr": {"strate": 3}}, "unknown field 'msr.strate': did you mean 'strata'"),
        ({"epochs": "ten"}, "epochs must be int, got 'ten'"),
        ({"epochs": True}, "epochs must be int, got True"),
        ({"precision": "fp8"}, "precision must be .*'fp32', 'bf16'.* got 'fp8'"),
        ({"method": {"name": "simclr", "temperature": -1}}, "temperature must be > 0"),
        ({"method": {"name": "simklr"}}, r"method.* must be .*, got"),
        ({"data": {"mean": [0.1, 0.2]}}, r"data.mean must be tuple.*, got \[0.1, 0.2\]"),
        ({"data": 5}, "data must be DataConfig, got 5"),
    ],
)
def test_bad_json_is_named(value, message):
    with pytest.raises(IclmsrError, match=message):
        decode(PretrainConfig, value)


def test_integers_are_taken_for_floats():
    assert decode(MSRConfig, {"loss_weight": 2}) == replace(MSRConfig(), loss_weight=2.0)


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        (PretrainConfig, {"epochs": 0}, "epochs must be >= 1, got 0"),
        (PretrainConfig, {"batch_size": 1}, "batch-size must be >= 2, got 1"),
        (PretrainConfig, {"view_count": 1}, "view-count must be >= 2, got 1"),
        (MSRConfig, {"strata": 0}, "msr.strata must be >= 1, got 0"),
        (MSRConfig, {"loss_weight": -1.0}, "msr.loss-weight must be >= 0, got -1.0"),
        (MSRConfig, {"fraction": 1.5}, r"msr.fraction must be in \[0, 1\], got 1.5"),
        (MSRConfig, {"temperature": 0.0}, "msr.temperature must be > 0, got 0.0"),
        (MSRConfig, {"lr": 0.0}, "msr.lr must be > 0, got 0.0"),
    ],
)
def test_bad_values(kind, change, message):
    with pytest.raises(IclmsrError, match=message):
        kind(**change)
