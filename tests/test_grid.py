# SPDX-License-Identifier: Apache-2.0
import json
from dataclasses import replace

import pytest

import iclmsr.grid
from iclmsr.config import CheckpointConfig, PretrainConfig
from iclmsr.data.sources import DataConfig
from iclmsr.data.synthetic import SyntheticConfig
from iclmsr.data.views import ViewConfig
from iclmsr.errors import IclmsrError
from iclmsr.grid import finish
from iclmsr.methods.simclr import SimCLRConfig
from iclmsr.networks import EncoderConfig
from iclmsr.pretrain import pretrain, resume
from iclmsr.runs import RunFolder

TINY = PretrainConfig(
    epochs=2,
    batch_size=8,
    method=SimCLRConfig(hidden_dim=8, embedding_dim=4),
    encoder=EncoderConfig(width=2),
    data=DataConfig(source="synthetic", image_size=16, synthetic=SyntheticConfig(train=16, test=8)),
    views=ViewConfig(size=16),
)


def test_a_cell_is_made_once(tmp_path):
    out = tmp_path / "cell"
    assert finish(TINY, out) == "made"
    before = (out / "encoder.safetensors").stat().st_mtime_ns
    assert RunFolder.open(out).epochs_done() == 2
    assert finish(TINY, out) == "done"
    assert (out / "encoder.safetensors").stat().st_mtime_ns == before


def test_a_cell_that_was_cut_off_goes_on(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    finish(TINY, whole)
    finish(TINY, cut)
    (cut / "encoder.safetensors").unlink()  # as if killed before the run's last file was there
    for name in sorted((cut / "checkpoints").iterdir())[-1:]:
        name.unlink()
    assert finish(TINY, cut) == "made"
    assert (cut / "encoder.safetensors").read_bytes() == (
        whole / "encoder.safetensors"
    ).read_bytes()


def test_a_cell_that_another_process_makes_is_busy(tmp_path):
    out = tmp_path / "cell"
    finish(TINY, out)
    (out / "encoder.safetensors").unlink()
    with RunFolder.open(out).lock():
        assert finish(TINY, out) == "busy"


def test_a_cell_that_another_process_has_made_meanwhile_is_busy(tmp_path, monkeypatch):
    """It came between the look for config.json and the making of the folder."""
    out = tmp_path / "cell"

    def overtaken(config, out):
        pretrain(config, out)
        return pretrain(config, out)

    monkeypatch.setattr("iclmsr.grid.pretrain", overtaken)
    assert finish(TINY, out) == "busy"
    (out / "config.json").unlink()
    with pytest.raises(IclmsrError, match="already exists"):
        finish(TINY, out)


def test_data_and_options_may_have_moved_since(tmp_path):
    """A config written before an option existed is of a run with that option's default."""
    out = tmp_path / "cell"
    finish(TINY, out)
    config = json.loads((out / "config.json").read_text())
    del config["msr"]["images"]
    (out / "config.json").write_text(json.dumps(config))
    moved = replace(TINY, data=replace(TINY.data, root=tmp_path))
    assert finish(moved, out) == "done"
    (out / "encoder.safetensors").unlink()
    assert finish(moved, out) == "made"


def test_a_cell_with_other_settings_is_refused(tmp_path):
    finish(TINY, tmp_path / "cell")
    with pytest.raises(IclmsrError, match="holds a run with other settings"):
        finish(replace(TINY, seed=1), tmp_path / "cell")


ELSEWHERE = {
    "device": "cpu",
    "log_every": 7,
    "recipe": "x",
    "checkpoint": CheckpointConfig(3, 4, 5),
}


def test_who_goes_on_with_a_cell_may_compute_it_otherwise(tmp_path, monkeypatch):
    out = tmp_path / "cell"
    finish(replace(TINY, device="auto"), out)
    data = replace(TINY.data, root=tmp_path, workers=0, cache=False, resident="memory")
    other = replace(TINY, **ELSEWHERE, data=data)
    assert finish(other, out) == "done"
    (out / "encoder.safetensors").unlink()
    asked = []
    real = iclmsr.grid.resume
    monkeypatch.setattr("iclmsr.grid.resume", lambda *a, **k: (asked.append(k), real(*a, **k)))
    assert finish(other, out) == "made"
    assert asked == [{"device": "cpu", "root": tmp_path, "workers": 0}]
    assert RunFolder.open(out).epochs_done() == 2


def test_a_run_goes_on_where_it_is_told_to(tmp_path):
    out = tmp_path / "cell"
    finish(TINY, out)
    (out / "encoder.safetensors").unlink()
    with pytest.raises(IclmsrError, match="device 'abacus' is not to be had here"):
        resume(out, device="abacus")
