# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from iclmsr.errors import IclmsrError
from iclmsr.files import read_json, write_json
from iclmsr.runs import RunFolder, environment, is_run


def test_create_makes_all_or_nothing(tmp_path):
    folder = RunFolder.create(tmp_path / "deep" / "run", {"a": 1}, {"b": 2})
    assert folder.config() == {"a": 1}
    names = sorted(path.name for path in folder.path.iterdir())
    assert names == ["checkpoints", "config.json", "environment.json"]
    with pytest.raises(ValueError, match="not JSON compliant"):
        RunFolder.create(tmp_path / "other", {"a": float("nan")}, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep"]


def test_existing_folders(tmp_path):
    (tmp_path / "empty").mkdir()
    RunFolder.create(tmp_path / "empty", {}, {})
    with pytest.raises(IclmsrError, match="already exists: choose another --out, or continue"):
        RunFolder.create(tmp_path / "empty", {}, {})
    (tmp_path / "file").touch()
    with pytest.raises(IclmsrError, match="already exists and is no run folder: choose another"):
        RunFolder.create(tmp_path / "file", {}, {})
    with pytest.raises(IclmsrError, match="^cannot write .*below: File exists$"):
        RunFolder.create(tmp_path / "file" / "below", {}, {})


@pytest.mark.parametrize("call", ["pathlib.Path.stat", "tempfile.mkdtemp"])
def test_a_place_without_rights(tmp_path, monkeypatch, call):
    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    path = tmp_path / "run"
    monkeypatch.setattr(call, refused)  # root may do everything
    message = f"cannot write {path}: Permission denied: name a place that you may write to"
    with pytest.raises(IclmsrError, match=f"^{message}$"):
        RunFolder.create(path, {}, {})


def test_a_config_alone_makes_no_run(tmp_path):
    """timm and Hugging Face write one, too."""
    write_json(tmp_path / "config.json", {})
    assert not is_run(tmp_path)
    with pytest.raises(IclmsrError, match="not a run folder: it lacks config.json or environment"):
        RunFolder.open(tmp_path)
    write_json(tmp_path / "environment.json", {})
    assert is_run(str(tmp_path))
    RunFolder.open(tmp_path)


def test_an_evaluation_on_other_data_is_none(tmp_path):
    folder = RunFolder.create(tmp_path / "run", {"data": {"source": "cifar10"}}, {})
    assert folder.evaluation() is None
    for report in ({}, {"config": {"data": {"source": "cifar10"}}}):
        write_json(folder.path / "evaluation.json", report)
        assert folder.evaluation() == report
    write_json(folder.path / "evaluation.json", {"config": {"data": {"source": "stl10"}}})
    assert folder.evaluation() is None
    write_json(folder.path / "evaluation.json", [])
    with pytest.raises(IclmsrError, match="evaluation.json holds no JSON object"):
        folder.evaluation()


def test_metrics_are_taken_back(tmp_path):
    folder = RunFolder.create(tmp_path / "run", {}, {})
    folder.log(step=1, loss=0.5)
    size = folder.metrics_size()
    folder.log(step=2, loss=0.25)
    assert [record["step"] for record in folder.metrics()] == [1, 2]
    folder.truncate_metrics(size)
    assert folder.metrics() == [{"step": 1, "loss": 0.5}]
    folder.truncate_metrics(size + 100)
    assert folder.metrics_size() == size


def test_one_writer_at_a_time(tmp_path):
    folder = RunFolder.create(tmp_path / "run", {}, {})
    with (
        folder.lock(),
        pytest.raises(IclmsrError, match="is being written by another process"),
        RunFolder(folder.path).lock(),
    ):
        pass
    with folder.lock():
        pass


def test_environment_says_versions_machine_and_seed():
    found = environment(7, device="cpu")
    assert found["seed"] == 7
    assert found["device"] == "cpu"
    assert found["versions"]["torch"]
    assert found["machine"]["cores"] >= 1
    json.dumps(found)


def test_sessions_are_added(tmp_path):
    folder = RunFolder.create(tmp_path / "run", {}, {"seed": 1})
    folder.add_session({"seed": 2})
    folder.add_session({"seed": 3})
    known = read_json(folder.path / "environment.json")
    assert known == {"seed": 1, "resumed": [{"seed": 2}, {"seed": 3}]}


def test_files_are_named_in_errors(tmp_path):
    with pytest.raises(IclmsrError, match=r"cannot read .*none.json: No such file"):
        read_json(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(IclmsrError, match=r"bad.json is not valid JSON"):
        read_json(tmp_path / "bad.json")
    with pytest.raises(IclmsrError, match=r"cannot write .*: No such file"):
        write_json(tmp_path / "missing" / "x.json", 1)
