# SPDX-License-Identifier: Apache-2.0
"""Cells are made once, by any number of processes, whatever stops them on the way."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from iclmsr import cli
from iclmsr.config import PretrainConfig, decode
from iclmsr.errors import IclmsrError
from iclmsr.reproduce import ROWS, cells, collect, reproduce, summarize
from iclmsr.reproduce.runner import judged
from iclmsr.runs import RunFolder

SMALL = [
    *("--width", "2", "--images", "16", "--batch-size", "8", "--method.hidden-dim", "8"),
    *("--method.embedding-dim", "4", "--device", "cpu"),
]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two classes with 12 images to train on and 4 to test on each, dark ones and bright ones."""
    folder = tmp_path_factory.mktemp("images")
    for split, count in (("train", 12), ("test", 4)):
        for shift, name in enumerate(("airplane", "ship")):
            for number in range(count):
                file = folder / split / name / f"{number}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                numbers = np.random.default_rng([shift, number, count])
                pixels = numbers.integers(0, 128, (32, 32, 3)) + 127 * shift
                Image.fromarray(pixels.astype(np.uint8)).save(file)
    return folder


def words(root, out, *more, methods=("simclr", "simclr+msr"), seeds=("0", "1"), epochs=1):
    return [
        *("reproduce", "table", "--methods", *methods, "--datasets", "cifar10"),
        *("--seeds", *seeds, "--root", f"cifar10={root}", "--epochs", str(epochs)),
        *("--out", str(out), *SMALL, *more),
    ]


def run(*given, capsys):
    code = cli.main([str(word) for word in given])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_a_grid_is_run_judged_and_shown_and_never_run_again(root, tmp_path, capsys):
    out = tmp_path / "grid"
    code, printed, _ = run(*words(root, out), capsys=capsys)
    assert code == 0
    assert "24 images to pretrain on, 24 to learn classes from, 8 to test on" in printed
    table = summarize(collect(out))
    made = [line for line in table.lines if line.protocol]
    assert {(line.row.name, line.seeds, line.epochs) for line in made} == {
        ("simclr", (0, 1), 1),
        ("simclr+msr", (0, 1), 1),
    }
    assert "epochs 1 instead of 1,000" in table.protocols["A"]
    assert "16 of 24 images to pretrain on" in table.protocols["A"]
    for folder in (path.parent for path in out.glob("*/evaluation.json")):
        report = json.loads((folder / "evaluation.json").read_text())
        assert report["data"]["train"]["images"] == 24  # the judgement takes all images
        assert report["protocol"] == "w-mse-2021"
    for name in ("table.md", "table.csv", "table.tex", "table.json"):
        assert (out / name).read_text()
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/*")}
    assert run(*words(root, out), capsys=capsys)[0] == 0
    assert {path: path.stat().st_mtime_ns for path in out.glob("*/*")} == before
    shown = run("reproduce", "show", out, capsys=capsys)[1]
    only = run("reproduce", "table", "--table-only", "--out", out, capsys=capsys)[1]
    assert shown.strip() == only.strip()
    assert shown.count("BYOL") == 8  # not run, shown all the same


def test_what_was_pretrained_but_not_judged_is_only_judged(root, tmp_path, capsys):
    out = tmp_path / "grid"
    given = words(root, out, methods=("byol",), seeds=("0",))
    run(*given, capsys=capsys)
    (folder,) = (path.parent for path in out.glob("*/config.json"))
    before = (folder / "encoder.safetensors").stat().st_mtime_ns
    value = json.loads((folder / "evaluation.json").read_text())["results"]
    (folder / "evaluation.json").unlink()
    assert collect(out).unfinished == ((folder.name, 1, 1),)
    run(*given, capsys=capsys)
    assert (folder / "encoder.safetensors").stat().st_mtime_ns == before
    assert json.loads((folder / "evaluation.json").read_text())["results"] == value


def start(given):
    return subprocess.Popen(
        [sys.executable, "-m", "iclmsr", *map(str, given)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_two_processes_with_one_command_share_the_cells(root, tmp_path):
    out = tmp_path / "grid"
    given = words(root, out, epochs=3)
    both = [start(given) for _ in range(2)]
    said = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    finished = [re.findall(r"^(\S+) is finished", text, re.MULTILINE) for text, _ in said]
    assert len(finished[0]) + len(finished[1]) == 4
    assert len({*finished[0], *finished[1]}) == 4
    for folder in out.glob("*/config.json"):
        lines = [json.loads(x) for x in (folder.parent / "metrics.jsonl").read_text().splitlines()]
        assert [one["epoch"] for one in lines if one["event"] == "epoch"] == [1, 2, 3]
        assert "resumed" not in json.loads((folder.parent / "environment.json").read_text())


def test_ctrl_c_says_what_to_type_and_that_gives_the_same_encoder(root, tmp_path, capsys):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    given = {"methods": ("simclr+msr",), "seeds": ("0",), "epochs": 12}
    run(*words(root, whole, **given), capsys=capsys)

    def interrupt():
        while not list(cut.glob("*/encoder.safetensors")):
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    code, _, error = run(*words(root, cut, **given), capsys=capsys)
    thread.join()
    assert code == 130, error
    assert error.count("\n") == 1
    assert "0 of 1 cells are finished" in error
    (again,) = re.findall(r"go on with: iclmsr (.*)", error)
    assert collect(cut).unfinished[0][1] < 12
    assert cli.main(shlex.split(again)) == 0
    (one,), (other,) = (list(each.glob("*/encoder.safetensors")) for each in (whole, cut))
    assert one.read_bytes() == other.read_bytes()
    values = [[r.accuracy for r in collect(folder).finished] for folder in (whole, cut)]
    assert values[0] == values[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_judging(number, root, tmp_path, capsys, monkeypatch):
    before = signal.getsignal(signal.SIGTERM)

    def stop(*_, **__):
        os.kill(os.getpid(), number)
        time.sleep(60)

    monkeypatch.setattr("iclmsr.reproduce.runner.evaluate", stop)
    given = words(root, tmp_path / "grid", methods=("simclr",), seeds=("0",))
    code, _, error = run(*given, capsys=capsys)
    assert code == 128 + number
    assert f"go on with: iclmsr {shlex.join(given)}" in error
    assert signal.getsignal(signal.SIGTERM) == before
    monkeypatch.undo()
    assert run(*given, capsys=capsys)[0] == 0


def test_a_cell_in_other_hands_is_left_to_them(root, tmp_path, capsys):
    out = tmp_path / "grid"
    one, two = words(root, out, seeds=("0",)), words(root, out, seeds=("0", "1"))
    run(*one, capsys=capsys)
    busy = next(out.glob("simclr-msr-*/config.json")).parent
    (busy / "evaluation.json").unlink()
    with RunFolder.open(busy).lock():
        code, printed, _ = run(*two, capsys=capsys)
    assert code == 0
    assert "1 of 4 cells are in the hands of other processes" in printed
    assert not (busy / "evaluation.json").exists()
    assert len(collect(out).finished) == 3


def test_a_cell_that_fails_stops_no_other(root, tmp_path, capsys):
    out = tmp_path / "grid"
    given = words(root, out, methods=("simclr", "byol", "lmcl"), seeds=("0",))
    run(*given, capsys=capsys)
    for name in ("byol", "lmcl"):
        (next(out.glob(f"{name}-*/evaluation.json"))).unlink()
    (next(out.glob("byol-*/encoder.safetensors"))).write_bytes(b"broken")
    code, _, error = run(*given, capsys=capsys)
    assert code == 2
    assert "1 of 3 cells failed, byol-cifar10-" in error
    collected = collect(out)
    assert {run.row.name for run in collected.finished} == {"simclr", "lmcl"}
    ((name, why),) = collected.damaged
    assert name.startswith("byol-")
    assert "is no encoder of a run" in why


def test_data_that_lie_elsewhere_go_on_where_they_were(root, tmp_path, capsys):
    out, first, moved = tmp_path / "grid", tmp_path / "first", tmp_path / "moved"
    shutil.copytree(root, first)
    run(*words(first, out, methods=("simclr",), seeds=("0",)), capsys=capsys)
    (run_folder,) = (path.parent for path in out.glob("*/config.json"))
    (run_folder / "evaluation.json").unlink()
    (run_folder / "encoder.safetensors").unlink()
    shutil.rmtree(run_folder / "checkpoints")
    (run_folder / "checkpoints").mkdir()
    first.rename(moved)
    code, _, error = run(*words(moved, out, methods=("simclr",), seeds=("0",)), capsys=capsys)
    assert code == 0, error
    report = json.loads((run_folder / "evaluation.json").read_text())
    assert report["config"]["data"]["root"] == str(moved)
    assert len(collect(out).finished) == 1


def test_torchrun_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("RANK", "0")
    for name, value in (("WORLD_SIZE", "2"), ("LOCAL_RANK", "0"), ("MASTER_PORT", "29500")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    with pytest.raises(IclmsrError, match="start it without torchrun, once for each GPU"):
        reproduce([], tmp_path, "again")


def test_data_are_read_before_anything_is_run(tmp_path):
    grid = cells(ROWS[:1], ["cifar10"], [0], {"cifar10": tmp_path / "none"})
    with pytest.raises(IclmsrError, match="data.root .*none does not exist"):
        reproduce(grid, tmp_path / "out", "again")
    assert not (tmp_path / "out").exists()


def test_only_the_tables_own_judgement_finishes_a_cell(root, tmp_path, capsys):
    """Whatever else the user asked of its encoder on the way."""
    out = tmp_path / "grid"
    given = words(root, out, methods=("simclr",), seeds=("0",))
    run(*given, capsys=capsys)
    (folder,) = (path.parent for path in out.glob("*/config.json"))
    config = decode(PretrainConfig, RunFolder.open(folder).config())
    assert judged(folder, config)
    assert not judged(folder, replace(config, epochs=2))
    path = folder / "evaluation.json"
    whole = json.loads(path.read_text())
    data = whole["config"]["data"]
    moved = {**whole["config"], "data": {**data, "root": "/elsewhere"}}
    path.write_text(json.dumps({**whole, "config": moved}))
    assert judged(folder, config)
    for change in (
        {"protocol": "w-mse-2021, changed"},
        {"protocol": "linear-lbfgs"},
        {"protocol_version": 0},
        {"config": {**whole["config"], "data": {**data, "limit": 9}}},
        {"config": {**whole["config"], "data": {**data, "source": "cifar100"}}},
    ):
        path.write_text(json.dumps({**whole, **change}))
        assert not judged(folder, config)
    run(*given, capsys=capsys)
    assert judged(folder, config)
    assert run("evaluate", folder, "--data.limit", "12", "--device", "cpu", capsys=capsys)[0] == 0
    assert judged(folder, config)
    assert (folder / "evaluation-cifar10.json").is_file()
