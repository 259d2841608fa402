# SPDX-License-Identifier: Apache-2.0
"""Which images an encoder is judged on unless somebody says otherwise."""

from dataclasses import replace

import pytest

from iclmsr.config import PretrainConfig, encode
from iclmsr.data.sources import DataConfig
from iclmsr.encoders import Preprocessing, load_encoder
from iclmsr.errors import IclmsrError
from iclmsr.evaluate.settings import EvaluateConfig, data_of, is_run
from iclmsr.files import write_json
from iclmsr.networks import EncoderConfig, initial_encoder, write_encoder
from iclmsr.runs import RunFolder

CONFIG = EncoderConfig(width=2)


def test_a_run_is_judged_on_all_of_its_data(tmp_path):
    data = DataConfig(source="synthetic", limit=5, masks=tmp_path / "masks")
    RunFolder.create(tmp_path / "run", encode(PretrainConfig(data=data)), {})
    assert data_of(tmp_path / "run") == replace(data, limit=None)
    assert EvaluateConfig.of(tmp_path / "run").data == replace(data, limit=None, masks=None)


def test_an_export_is_no_run_and_keeps_how_images_are_cut(tmp_path):
    """A timm export has a config.json, too."""
    about = Preprocessing((0.5,) * 3, (0.25,) * 3, 96, resize=70, crop=64)
    file = tmp_path / "model.safetensors"
    write_encoder(file, initial_encoder(CONFIG, 0), CONFIG, preprocessing=about.to_json())
    write_json(tmp_path / "config.json", {"architecture": "resnet18"})
    assert not is_run(tmp_path)
    assert Preprocessing.of(data_of(tmp_path)) == about
    load_encoder(tmp_path).check_size(data_of(tmp_path))


def test_nothing_there():
    with pytest.raises(IclmsrError, match="/nowhere is not a run folder"):
        data_of("/nowhere")
