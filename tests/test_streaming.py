# SPDX-License-Identifier: Apache-2.0
"""Runs on images that stay in their files."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from bits import assert_same
from PIL import Image
from ranks import on_ranks

from iclmsr import checkpoint
from iclmsr.cli import main
from iclmsr.config import CheckpointConfig, MSRConfig, PretrainConfig, encode
from iclmsr.data import file_set
from iclmsr.data.decoded import Unreadable
from iclmsr.data.feed import Held, Streamed
from iclmsr.data.sources import DataConfig, open_split
from iclmsr.data.views import ViewConfig
from iclmsr.errors import IclmsrError
from iclmsr.evaluate import EvaluateConfig, evaluate
from iclmsr.evaluate.protocol import LinearProbeConfig
from iclmsr.files import write_json
from iclmsr.interruption import Interrupted
from iclmsr.methods.simclr import SimCLRConfig
from iclmsr.networks import EncoderConfig
from iclmsr.optim import OptimizerConfig
from iclmsr.pretrain import pretrain, resume
from iclmsr.runs import RunFolder
from iclmsr.seeds import generator
from iclmsr.session import Session

COUNT, BATCH = 40, 8
PLAIN = PretrainConfig(
    epochs=2,
    batch_size=BATCH,
    log_every=2,
    device="cpu",
    method=SimCLRConfig(hidden_dim=16, embedding_dim=8),
    encoder=EncoderConfig(width=2),
    views=ViewConfig(size=16),
    optimizer=OptimizerConfig(warmup_steps=2),
)
TIMED = ("images_per_second", "seconds", "data_wait")


@pytest.fixture
def root(tmp_path):
    numbers = np.random.default_rng(0)
    for split, count in (("train", COUNT), ("test", 12)):
        for i in range(count):
            path = tmp_path / "set" / split / "ab"[i % 2] / f"{i:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(numbers.integers(0, 256, (18, 20, 3), np.uint8)).save(path)
    return tmp_path / "set"


def config(root, resident="disk", workers=0, msr=MSRConfig(), **values):  # noqa: B008
    data = DataConfig(source="folder", root=root, image_size=16, resident=resident, workers=workers)
    return replace(PLAIN, data=data, msr=msr, **values)


def final(run):
    return checkpoint.load(checkpoint.checkpoints(run / "checkpoints")[-1])


def records(run, *, timed=False):
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [{k: v for k, v in line.items() if timed or k not in TIMED} for line in lines]


def assert_same_run(one, other):
    for name in ("stages", "random"):
        assert_same(final(one)[name], final(other)[name])
    assert records(one) == records(other)


@pytest.mark.parametrize(
    "msr",
    [
        MSRConfig(enabled=True, strata=2, schedule="epoch", fraction=0.5),
        MSRConfig(enabled=True, strata=2, every_steps=2, outer_batch="fresh"),
    ],
    ids=["epoch", "interleaved-fresh"],
)
def test_the_same_bits_from_memory_and_disk_by_any_workers_and_resumed(
    tmp_path, root, msr, monkeypatch
):
    every = CheckpointConfig(every_steps=1, keep=100)
    memory = pretrain(config(root, "memory", msr=msr), tmp_path / "memory")
    alone = pretrain(config(root, workers=0, msr=msr, checkpoint=every), tmp_path / "alone")
    # Everything was announced: two workers decode all of it.
    monkeypatch.setattr("iclmsr.data.feed.decode", None)
    two = pretrain(config(root, workers=2, msr=msr), tmp_path / "two")
    assert_same_run(alone, memory)
    assert_same_run(two, memory)
    for path in checkpoint.checkpoints(alone / "checkpoints")[3:]:
        path.unlink()
    resume(alone, workers=1)
    assert_same_run(alone, memory)


@pytest.mark.parametrize("background", ["remove", "random", "swaps"])
def test_backgrounds_are_exchanged_on_disk_as_in_memory(tmp_path, root, background, monkeypatch):
    for number, path in enumerate(sorted(root.glob("train/*/*"))):
        mask = np.zeros((18, 20), np.uint8)
        mask[number % 7 : 10, 4 : 8 + number % 9] = 255
        place = root / "masks" / path.relative_to(root)
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(place)
    views = ViewConfig(size=16, background=background, background_probability=0.6)

    def masked(resident, **values):
        plain = config(root, resident, views=views, **values)
        return replace(plain, data=replace(plain.data, masks=root))

    memory = pretrain(masked("memory"), tmp_path / "memory")
    every = CheckpointConfig(every_steps=1, keep=100)
    alone = pretrain(masked("disk", checkpoint=every), tmp_path / "alone")
    assert_same_run(alone, memory)
    for path in checkpoint.checkpoints(alone / "checkpoints")[3:]:
        path.unlink()
    monkeypatch.setattr("iclmsr.data.feed.decode", None)  # all that is needed was announced
    resume(alone, workers=2)
    assert_same_run(alone, memory)
    plain = pretrain(config(root, "memory"), tmp_path / "plain")
    assert records(plain) != records(memory)


@pytest.mark.filterwarnings("default")
def test_a_corrupt_file_in_the_middle_of_a_run(tmp_path, root, capsys):
    order = torch.randperm(COUNT, generator=generator(PLAIN.seed, "order", 0)).tolist()
    names = sorted((root / "train").glob("*/*"))
    bad = names[order[3 * BATCH + 1]]
    bad.write_bytes(bad.read_bytes()[:90])
    write_json(tmp_path / "config.json", encode(config(root, workers=2)))
    run = tmp_path / "run"
    words = ["pretrain", "--config", str(tmp_path / "config.json"), "--out", str(run)]
    assert main(words) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"error: {bad} does not decode (")
    again = f"--resume {run} --data.on-corrupt skip"
    assert message.endswith(f"nothing is lost, go on with: iclmsr pretrain {again}\n")
    assert len(message.splitlines()) == 1
    assert final(run)["position"]["updates"] == 3
    assert main(["pretrain", *again.split()]) == 0
    assert "takes its place" in capsys.readouterr().err
    skipping = config(root, workers=0)
    skipping = replace(skipping, data=replace(skipping.data, on_corrupt="skip"))
    with pytest.warns(UserWarning, match="takes its place"):
        whole = pretrain(skipping, tmp_path / "whole")
    assert_same_run(run, whole)
    assert [r for r in records(run) if r["event"] == "replaced"] == [
        {"event": "replaced", "epoch": 1, "files": [str(bad)]}
    ]


@pytest.mark.filterwarnings("ignore:.*takes its place")
@pytest.mark.parametrize("done", [2, 4, 7])
def test_a_run_that_goes_on_logs_what_was_replaced_as_if_it_was_not_cut_short(tmp_path, root, done):
    """Of two files that do not decode one is met in the second update, the other in the fourth."""
    order = torch.randperm(COUNT, generator=generator(PLAIN.seed, "order", 0)).tolist()
    names = sorted((root / "train").glob("*/*"))
    bad = [names[order[batch * BATCH]] for batch in (1, 3)]
    for path in bad:
        path.write_text("no image")
    skipping = config(root, checkpoint=CheckpointConfig(every_steps=1, keep=100))
    skipping = replace(skipping, data=replace(skipping.data, on_corrupt="skip"))
    whole = pretrain(skipping, tmp_path / "whole")
    assert [line["files"] for line in records(whole) if line["event"] == "replaced"] == [
        sorted(map(str, bad))
    ]
    cut = shutil.copytree(whole, tmp_path / "cut")
    for path in checkpoint.checkpoints(cut / "checkpoints")[done:]:
        path.unlink()
    assert_same_run(resume(cut), whole)


def test_a_lost_worker_costs_nothing(tmp_path, root, monkeypatch):
    whole = pretrain(config(root), tmp_path / "whole")
    fetch, calls = Streamed.fetch, []

    def lose(self, index):
        calls.append(index)
        if len(calls) == 8:
            raise Unreadable("a worker is gone", "--data.workers 1")
        return fetch(self, index)

    monkeypatch.setattr(Streamed, "fetch", lose)
    message = "a worker is gone; nothing is lost, go on with: .* --data.workers 1"
    with pytest.raises(IclmsrError, match=message):
        pretrain(config(root), tmp_path / "run")
    assert final(tmp_path / "run")["position"]["updates"] == 7
    assert_same_run(resume(tmp_path / "run"), whole)


def lose_a_part(world, path):
    """A run of two ranks; a file that only one of them needs does not decode."""
    settings = config(Path(path) / "set")
    folder = RunFolder(Path(path) / "run")
    session = Session(
        settings, folder, open_split(settings.data, "pretrain"), world, torch.device("cpu")
    )
    try:
        session.run()
    except IclmsrError as error:
        return type(error).__name__, error.exit_code, str(error)


def test_ranks_stop_together(tmp_path, root):
    order = torch.randperm(COUNT, generator=generator(PLAIN.seed, "order", 0)).tolist()
    bad = sorted((root / "train").glob("*/*"))[order[3 * BATCH - 1]]
    bad.write_text("no image")
    RunFolder.create(tmp_path / "run", {}, {})
    first, second = on_ranks(lose_a_part, 2, str(tmp_path))
    assert first[:2] == ("Elsewhere", 2)
    assert second[:2] == ("IclmsrError", 2)
    assert second[2].startswith(f"{bad} does not decode")
    assert final(tmp_path / "run")["position"]["updates"] == 2


def test_ctrl_c_goes_to_all_processes_of_a_run(tmp_path, root):
    write_json(tmp_path / "config.json", encode(config(root, workers=2, epochs=500)))
    run, log = tmp_path / "run", tmp_path / "log"
    words = ("--out", str(run), "--config", str(tmp_path / "config.json"))
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "iclmsr", "pretrain", *words],
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        end = time.monotonic() + 120
        while not (run / "metrics.jsonl").exists():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=60) == 128 + signal.SIGINT
    finally:
        process.kill()
        process.wait()
    said = log.read_text()
    assert "error: stopped by SIGINT after step" in said
    assert said.splitlines()[-1].endswith(f"iclmsr pretrain --resume {run}")
    for word in ("Traceback", "warning", "leaked", "Exception"):
        assert word not in said
    assert len(checkpoint.checkpoints(run / "checkpoints")) >= 1


def test_a_signal_that_ends_the_workers_first_stops_the_run_as_ever(tmp_path, root, monkeypatch):
    """As a batch system sends it to all processes."""
    whole = pretrain(config(root), tmp_path / "whole")
    fetch, calls = Streamed.fetch, []

    def lose(self, index):
        calls.append(index)
        if len(calls) == 5:
            os.kill(os.getpid(), signal.SIGTERM)
            raise Unreadable("the workers are gone")
        return fetch(self, index)

    monkeypatch.setattr(Streamed, "fetch", lose)
    with pytest.raises(Interrupted, match="stopped by SIGTERM after step 4; go on") as error:
        pretrain(config(root), tmp_path / "run")
    assert error.value.exit_code == 128 + signal.SIGTERM
    assert_same_run(resume(tmp_path / "run"), whole)


def test_the_wait_for_data_is_logged(tmp_path, root, monkeypatch, capsys):
    fetch = Held.fetch
    quick = pretrain(config(root, "memory"), tmp_path / "quick")
    monkeypatch.setattr(Held, "fetch", lambda self, index: time.sleep(0.1) or fetch(self, index))
    slow = pretrain(config(root, "memory"), tmp_path / "slow")
    shares = {
        run: [r["data_wait"] for r in records(run, timed=True) if r["event"] == "epoch"]
        for run in (quick, slow)
    }
    assert all(len(found) == 2 and 0 < min(found) <= max(found) <= 1 for found in shares.values())
    assert min(shares[slow]) > 0.5
    seconds = [r["seconds"] for r in records(slow, timed=True) if r["event"] == "epoch"]
    assert min(seconds) * max(shares[slow]) > 0.45
    assert re.search(r"waited for data \d+ %", capsys.readouterr().out.splitlines()[-1])


def test_a_run_goes_on_where_its_images_were(tmp_path, root, monkeypatch):
    """On a machine with another memory, auto would choose otherwise."""
    memory, most = 10**9, CheckpointConfig(every_steps=3, keep=100)
    runs = {}
    for kind, size in (("memory", memory), ("disk", 1)):
        monkeypatch.setattr(file_set, "machine_memory", lambda size=size: size)
        run = runs[kind] = pretrain(config(root, "auto", checkpoint=most), tmp_path / kind)
        assert json.loads((run / "environment.json").read_text())["resident"] == kind
    for kind, size in (("memory", 1), ("disk", memory)):
        monkeypatch.setattr(file_set, "machine_memory", lambda size=size: size)
        run = runs[kind]
        checkpoint.checkpoints(run / "checkpoints")[-1].unlink()
        resume(run)
        resumed = json.loads((run / "environment.json").read_text())["resumed"]
        assert [session["resident"] for session in resumed] == [kind]
    assert_same_run(runs["memory"], runs["disk"])
    checkpoint.checkpoints(runs["disk"] / "checkpoints")[-1].unlink()
    next((root / "train").glob("*/*")).write_bytes(b"other")
    with pytest.raises(IclmsrError, match="are not those that .* was trained on"):
        resume(runs["disk"])


@pytest.mark.filterwarnings("ignore")
def test_evaluation_of_images_on_disk(tmp_path, root):
    run = pretrain(config(root, epochs=1), tmp_path / "run")
    probe = LinearProbeConfig(epochs=3)
    defaults = EvaluateConfig.of_run(run)
    assert defaults.data.resident == "disk"
    on_disk = replace(defaults, linear_probe=probe, batch_size=7)
    in_memory = replace(on_disk, data=replace(on_disk.data, resident="memory"))
    found, expected = (evaluate(run, each, say=lambda _: None) for each in (on_disk, in_memory))
    assert found["results"] == expected["results"]
    with pytest.raises(IclmsrError, match="leave out --baselines"):
        evaluate(run, replace(on_disk, baselines=True), say=lambda _: None)

    (root / "train" / "a" / "02.png").write_text("no image")
    skipping = [
        replace(each, data=replace(each.data, on_corrupt="skip")) for each in (on_disk, in_memory)
    ]
    found, expected = (evaluate(run, each, say=lambda _: None) for each in skipping)
    assert found["results"] == expected["results"]
    assert found["data"]["train"]["skipped"] == expected["data"]["train"]["skipped"] == 1
