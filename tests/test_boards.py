# SPDX-License-Identifier: Apache-2.0
import json
import warnings
from dataclasses import replace

import pytest

from iclmsr import boards
from iclmsr.config import PretrainConfig
from iclmsr.data.sources import DataConfig
from iclmsr.data.synthetic import SyntheticConfig
from iclmsr.data.views import ViewConfig
from iclmsr.errors import IclmsrError
from iclmsr.methods.simclr import SimCLRConfig
from iclmsr.networks import EncoderConfig
from iclmsr.pretrain import pretrain, resume
from iclmsr.runs import RunFolder

TINY = PretrainConfig(
    epochs=2,
    batch_size=16,
    log_every=2,
    method=SimCLRConfig(hidden_dim=16, embedding_dim=8),
    encoder=EncoderConfig(width=2),
    data=DataConfig(
        source="synthetic", image_size=16, synthetic=SyntheticConfig(train=48, test=16)
    ),
    views=ViewConfig(size=16),
)


class Recorder:
    """A logger that remembers what it was told, and fails when asked to."""

    told: list = []  # noqa: RUF012 - what the class saw over sessions is the point
    fails_at: int | None = None

    def __init__(self, folder, config, run_id):
        self.run_id = run_id or f"run-{len(Recorder.told)}"
        Recorder.told.append(("open", run_id))

    def add(self, values, step):
        if step == Recorder.fails_at:
            raise ConnectionError("the server\nis gone")
        Recorder.told.append((step, dict(values)))

    def close(self):
        Recorder.told.append(("close", self.run_id))


@pytest.fixture
def recorder(monkeypatch):
    monkeypatch.setitem(boards._LOGGERS, "wandb", Recorder)
    monkeypatch.setattr(boards, "check_loggers", lambda names: None)
    monkeypatch.setattr(Recorder, "told", [])
    monkeypatch.setattr(Recorder, "fails_at", None)
    return Recorder


def test_a_logger_gets_every_record_and_its_run_again(tmp_path, recorder):
    run = pretrain(replace(TINY, loggers=("wandb",)), tmp_path / "run")
    expected = [
        (record["step"], record["event"], set(record) - {"event", "epoch", "step"})
        for record in RunFolder(run).metrics()
    ]
    found = recorder.told[1:-1]
    assert [step for step, _ in found] == [step for step, _, _ in expected]
    for (_, values), (_, event, names) in zip(found, expected, strict=True):
        assert set(values) == {f"{event}/{name}" for name in names}
    assert json.loads((run / "loggers.json").read_text()) == {"wandb": "run-0"}
    for checkpoint in (run / "checkpoints").iterdir():
        checkpoint.unlink()
    recorder.told.clear()
    resume(run)
    assert recorder.told[0] == ("open", "run-0")
    assert recorder.told[-1] == ("close", "run-0")


def test_a_logger_that_fails_is_one_warning(tmp_path, recorder):
    recorder.fails_at = 2
    with pytest.warns(UserWarning, match="failed") as caught:
        run = pretrain(replace(TINY, loggers=("wandb",)), tmp_path / "run")
    said = [str(warning.message) for warning in caught]
    assert said == ["logger wandb failed and is left alone now: the server is gone"]
    assert RunFolder(run).epochs_done() == 2
    assert [entry[0] for entry in recorder.told] == ["open"]


def test_a_logger_that_does_not_begin_is_one_warning(tmp_path, monkeypatch, recorder):
    def refuse(*_):
        raise RuntimeError("not logged in")

    monkeypatch.setitem(boards._LOGGERS, "wandb", refuse)
    with pytest.warns(UserWarning, match="logger wandb failed .*: not logged in") as caught:
        run = pretrain(replace(TINY, loggers=("wandb",)), tmp_path / "run")
    assert len(caught) == 1
    assert not (run / "loggers.json").exists()


def test_a_missing_package_is_said_before_the_folder_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr(boards.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(IclmsrError, match=r"loggers mlflow needs .*pip install 'iclmsr\[mlflow\]'"):
        pretrain(replace(TINY, loggers=("mlflow",)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_wandb_offline(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", ResourceWarning)
        run = pretrain(replace(TINY, loggers=("wandb",)), tmp_path / "run")
        wandb.teardown()  # as when the process ends: its service writes the rest of the file
    known = json.loads((run / "loggers.json").read_text())["wandb"]
    files = list((run / "wandb").glob(f"offline-run-*-{known}/run-{known}.wandb"))
    assert len(files) == 1
    assert b"epoch/loss" in files[0].read_bytes()


def test_mlflow_in_a_local_store(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = pretrain(replace(TINY, loggers=("mlflow",)), tmp_path / "run")
        from mlflow.tracking import MlflowClient

        client = MlflowClient()
        known = json.loads((run / "loggers.json").read_text())["mlflow"]
        found = client.get_run(known)
        (run / "checkpoints" / sorted(p.name for p in (run / "checkpoints").iterdir())[-1]).unlink()
        resume(run)
        history = client.get_metric_history(known, "epoch/loss")
    assert found.data.params["method.name"] == "simclr"
    assert found.info.status == "FINISHED"
    records = {r["epoch"]: r["loss"] for r in RunFolder(run).metrics() if r["event"] == "epoch"}
    assert sorted({(m.step, m.value) for m in history}) == [
        (3 * epoch, pytest.approx(loss)) for epoch, loss in records.items()
    ]
