# SPDX-License-Identifier: Apache-2.0
import json
import subprocess
import sys

import pytest
from report_runs import write_run

from iclmsr.errors import IclmsrError
from iclmsr.files import write_json
from iclmsr.report.status import accuracies, find_runs, status
from iclmsr.runs import Busy, RunFolder


def test_states(tmp_path):
    finished = write_run(tmp_path / "finished")
    half = write_run(tmp_path / "half", done=2, evaluated=False)
    died = write_run(tmp_path / "died", done=0)
    found = {path.name: status(path) for path in (finished, half, died)}
    assert {name: one.state for name, one in found.items()} == {
        "finished": "finished", "half": "resumable", "died": "died"
    }  # fmt: skip
    assert (found["half"].epochs_done, found["half"].epochs) == (2, 4)
    assert found["finished"].last == {"linear": 60.0, "knn": 50.0}
    assert found["half"].last == {}
    assert not found["finished"].best_online
    with RunFolder(half).lock():
        assert status(half).state == "running"
    assert status(half).state == "resumable"


def test_looking_takes_no_lock_from_a_run(tmp_path):
    folder = RunFolder(write_run(tmp_path / "run"))
    assert not folder.busy()
    assert not (folder.path / ".lock").exists()
    with folder.lock():
        assert folder.busy()
        with pytest.raises(Busy):
            RunFolder(folder.path).lock().__enter__()
    assert not folder.busy()


def test_last_and_best_of_online_and_final_accuracy(tmp_path):
    run = write_run(tmp_path / "run", done=3, evaluated=False)
    folder = RunFolder(run)
    for epoch, linear, knn in ((1, 30.0, 20.0), (2, 45.0, 41.0), (3, 40.0, 42.0)):
        folder.log(event="online", epoch=epoch, step=epoch, linear_top1=linear, knn_top1=knn)
    known = status(run)
    assert known.online
    assert known.best_online
    assert known.last == {"linear": 40.0, "knn": 42.0}
    assert known.best == {"linear": 45.0, "knn": 42.0}
    results = {"encoder": {"linear": {"top1": 44.0}, "knn": {"top1": 43.0}}}
    elsewhere = {"results": results, "config": {"data": {"source": "stl10"}}}
    write_json(run / "evaluation.json", elsewhere)
    assert status(run) == known
    write_json(run / "evaluation.json", {"results": results})
    known = status(run)
    assert not known.online
    assert known.best_online  # of the linear probe
    assert known.last == {"linear": 44.0, "knn": 43.0}
    assert known.best == {"linear": 45.0, "knn": 43.0}


def test_a_damaged_folder_does_not_hide_the_others(tmp_path):
    write_run(tmp_path / "good")
    bad = write_run(tmp_path / "bad")
    (bad / "config.json").write_text("{")
    worse = write_run(tmp_path / "worse")
    (worse / "encoder.safetensors").write_bytes(b"12")
    odd = write_run(tmp_path / "odd")
    (odd / "evaluation.json").write_text("{}")
    found = {path.name: status(path) for path in find_runs(tmp_path)}
    states = {name: one.state for name, one in found.items()}
    assert states == {"good": "finished", "bad": "damaged", "worse": "damaged", "odd": "damaged"}
    assert "config.json is not valid JSON" in found["bad"].note
    assert "is no encoder" in found["worse"].note
    assert "results" in found["odd"].note


def test_runs_are_found_at_depth_and_in_themselves(tmp_path):
    deep = write_run(tmp_path / "study" / "cells" / "a")
    other = write_run(tmp_path / "b")
    (tmp_path / ".hidden").mkdir()
    write_run(tmp_path / ".hidden" / "c")
    (tmp_path / "no-run").mkdir()
    assert find_runs(tmp_path) == [other, deep]
    assert find_runs(deep) == [deep]
    with pytest.raises(IclmsrError, match="is not a folder"):
        find_runs(tmp_path / "nowhere")


def test_accuracies_of_what_was_judged():
    value = {"results": {"encoder": {"linear": {"top1": 1}, "knn": {}}, "pixels": {}}}
    assert accuracies(value) == {"linear": 1.0}
    assert accuracies(value, "untrained") == {}


def test_needs_no_torch():
    script = (
        "import sys, json; import iclmsr.report, iclmsr.report.page; "
        "print(json.dumps([n for n in ('torch', 'torchvision', 'timm') if n in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert json.loads(done.stdout) == []
