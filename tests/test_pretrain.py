# SPDX-License-Identifier: Apache-2.0
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from bits import assert_same

from iclmsr import checkpoint
from iclmsr.config import CheckpointConfig, MSRConfig, PretrainConfig, encode
from iclmsr.data.batches import Epoch
from iclmsr.data.sources import DataConfig, load
from iclmsr.data.synthetic import SyntheticConfig
from iclmsr.data.views import ViewConfig
from iclmsr.encoders import Preprocessing
from iclmsr.errors import IclmsrError
from iclmsr.files import write_json
from iclmsr.methods.simclr import SimCLRConfig
from iclmsr.networks import EncoderConfig, initial_encoder, read_encoder
from iclmsr.optim import OptimizerConfig, learning_rate
from iclmsr.pretrain import pretrain, resume
from iclmsr.schedule import Position, Update, plan
from iclmsr.stages import Batch, Place, TwoStages

TINY = PretrainConfig(
    epochs=2,
    batch_size=16,
    log_every=2,
    method=SimCLRConfig(hidden_dim=16, embedding_dim=8),
    encoder=EncoderConfig(width=2),
    data=DataConfig(
        source="synthetic",
        image_size=16,
        limit=70,
        synthetic=SyntheticConfig(train=80, test=40),
    ),
    views=ViewConfig(size=16),
    optimizer=OptimizerConfig(warmup_steps=2),
    msr=MSRConfig(enabled=True, strata=2, schedule="epoch", fraction=0.5),
)


def weights(run: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(run / "encoder.safetensors")


def final_state(run: Path) -> dict:
    return checkpoint.load(checkpoint.checkpoints(run / "checkpoints")[-1])


def untimed(line: str) -> dict:
    timed = ("images_per_second", "seconds", "data_wait")
    return {name: value for name, value in json.loads(line).items() if name not in timed}


def test_plan_of_both_schedules():
    msr = MSRConfig(enabled=True, schedule="epoch", fraction=0.3, start_epoch=1)
    config = replace(TINY, msr=msr)
    theta = [Update("theta", batch) for batch in range(4)]
    assert plan(config, 4, 0) == theta
    assert plan(config, 4, 1) == [*theta, Update("psi", 0), Update("psi", 1)]
    config = replace(TINY, msr=MSRConfig(enabled=True, schedule="interleaved", every_steps=2))
    assert plan(config, 5, 0) == [
        theta[0], Update("both", 1), theta[2], Update("both", 3), Update("theta", 4)
    ]  # fmt: skip
    assert plan(replace(TINY, msr=MSRConfig()), 2, 0) == theta[:2]


def test_position_means():
    position = Position()
    for value in (1.0, 2.0):
        position.add({"loss": value})
    position.add({"outer": 5.0})
    assert position.means() == {"loss": 1.5, "outer": 5.0}


def test_a_run_folder_is_complete(tmp_path, capsys):
    run = pretrain(TINY, tmp_path / "run")
    names = {path.name for path in run.iterdir()}
    assert names >= {
        "config.json",
        "environment.json",
        "metrics.jsonl",
        "tensorboard",
        "checkpoints",
        "encoder.safetensors",
    }
    assert json.loads((run / "config.json").read_text()) == encode(TINY)
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [r["epoch"] for r in records if r["event"] == "epoch"] == [1, 2]
    assert [r["step"] for r in records if r["event"] == "step"] == [2, 4, 6, 8]
    last = records[-1]
    expected = {"loss", "contrastive", "interventional", "outer", "embedding_std"}
    assert expected | {"effective_rank", "saturated", "images_per_second"} <= last.keys()
    assert last["loss"] == pytest.approx(last["contrastive"] + last["interventional"], rel=1e-5)
    lines = capsys.readouterr().out.splitlines()
    assert lines.pop(0).startswith("stage 2 by engine difference: ")
    assert len(lines) == 2
    assert lines[0].startswith("epoch 1/2  loss ")
    for word in ("contrastive", "interventional", "outer", "images/s", "ETA", "spread", "rank"):
        assert word in lines[1]
    events = list((run / "tensorboard").iterdir())
    assert len(events) == 1
    assert events[0].stat().st_size > 200


def test_training_moves_theta_and_psi_and_lowers_the_loss(tmp_path):
    optimizer = OptimizerConfig(lr=1e-2, warmup_steps=2, schedule="constant")
    run = pretrain(replace(TINY, epochs=12, optimizer=optimizer), tmp_path / "run")
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [r["contrastive"] for r in records if r["event"] == "epoch"]
    assert sum(losses[-3:]) / 3 < losses[0] - 0.15
    start = TwoStages(TINY, torch.device("cpu"))
    state = final_state(run)["stages"]
    assert not torch.equal(start.msr.logits, state["msr"]["logits"])
    trained, metadata = read_encoder(run / "encoder.safetensors")
    assert metadata.pop("preprocessing") == Preprocessing.of(TINY.data).to_json()
    assert metadata == {"epoch": 12, "step": 48}
    initial = initial_encoder(TINY.encoder, TINY.seed).state_dict()
    moved = [not torch.equal(v, initial[name]) for name, v in trained.state_dict().items()]
    assert all(moved)


@pytest.mark.parametrize("schedule", ["epoch", "interleaved"])
@pytest.mark.parametrize("outer_batch", ["same", "fresh"])
def test_each_update_gets_its_batch_and_rate(tmp_path, monkeypatch, outer_batch, schedule):
    """4 batches an epoch, stage 2 on the first two or with every second one."""
    msr = replace(TINY.msr, outer_batch=outer_batch, schedule=schedule, every_steps=2)
    config = replace(TINY, msr=msr)
    images = load(config.data, "train").images
    seen = []
    theta_step, psi_step = TwoStages.theta_step, TwoStages.psi_step

    def theta(self, views, place, *, lr, outer=None, **more):
        kind = "theta" if outer is None else "both"
        seen.append((kind, [Batch(views, place), *([outer] if outer else [])], lr))
        return theta_step(self, views, place, lr=lr, outer=outer, **more)

    def psi(self, inner, outer, *, lr):
        seen.append(("psi", [inner, outer], lr))
        return psi_step(self, inner, outer, lr=lr)

    monkeypatch.setattr(TwoStages, "theta_step", theta)
    monkeypatch.setattr(TwoStages, "psi_step", psi)
    pretrain(config, tmp_path / "run")
    ahead = 1 if outer_batch == "fresh" else 0
    expected = []
    for epoch in range(2):
        rates = [
            learning_rate(config.optimizer, 4 * epoch + batch, steps_per_epoch=4, epochs=2)
            for batch in range(4)
        ]
        if schedule == "epoch":
            expected += [("theta", [batch], rates[batch]) for batch in range(4)]
            expected += [("psi", [batch, batch + ahead], rates[3]) for batch in range(2)]
        else:
            expected += [
                ("theta", [0], rates[0]), ("both", [1, 1 + ahead], rates[1]),
                ("theta", [2], rates[2]), ("both", [3, (3 + ahead) % 4], rates[3]),
            ]  # fmt: skip
    found = [(kind, [batch.place.batch for batch in got], lr) for kind, got, lr in seen]
    assert found == expected
    data = Epoch(
        images, config.views, view_count=2, batch_size=16, seed=config.seed, epoch=1,
        mean=config.data.mean, std=config.data.std,
    )  # fmt: skip
    for _, got, _ in seen[len(seen) // 2 :]:
        for views, place in got:
            assert place.epoch == 1
            assert_same(views, data.views(place.batch))


def test_same_seed_same_bits_and_other_seed_others(tmp_path):
    torch.manual_seed(123)
    first = pretrain(TINY, tmp_path / "a")
    torch.manual_seed(456)
    torch.rand(7)
    second = pretrain(TINY, tmp_path / "b")
    other = pretrain(replace(TINY, seed=1), tmp_path / "c")
    assert_same(final_state(first)["stages"], final_state(second)["stages"])
    assert not torch.equal(weights(first)["conv1.weight"], weights(other)["conv1.weight"])


def test_the_regularizer_changes_theta_only_through_its_loss(tmp_path):
    """With lambda = 0 the run is the plain method's, bit for bit, whatever psi does."""
    plain = pretrain(replace(TINY, msr=MSRConfig()), tmp_path / "plain")
    muted = replace(TINY, msr=replace(TINY.msr, loss_weight=0.0))
    assert_same(weights(pretrain(muted, tmp_path / "muted")), weights(plain))
    heard = pretrain(TINY, tmp_path / "heard")
    assert not torch.equal(weights(heard)["conv1.weight"], weights(plain)["conv1.weight"])


@pytest.mark.parametrize(
    "msr",
    [
        MSRConfig(enabled=True, source="features", prior="learned", diversity_weight=0.1),
        MSRConfig(enabled=True, source="features-attached", outer_batch="fresh", bound="softmax"),
        MSRConfig(enabled=True, every_steps=2, negatives="both_views", average=3, images=8),
        MSRConfig(),
    ],
    ids=["features", "attached", "interleaved", "plain"],
)
def test_resuming_from_any_checkpoint_gives_the_same_bits(tmp_path, msr):
    """Every update is checkpointed; from each of them the run ends in the same state."""
    config = replace(TINY, msr=msr, checkpoint=CheckpointConfig(every_steps=1, keep=100))
    whole = pretrain(config, tmp_path / "whole")
    expected = final_state(whole)
    log = (whole / "metrics.jsonl").read_text().splitlines()
    files = checkpoint.checkpoints(whole / "checkpoints")
    for last in range(0, len(files) - 1, 3):
        part = tmp_path / f"part{last}"
        (part / "checkpoints").mkdir(parents=True)
        for name in ("config.json", "environment.json", "metrics.jsonl"):
            (part / name).write_bytes((whole / name).read_bytes())
        target = part / "checkpoints" / files[last].name
        target.write_bytes(files[last].read_bytes())
        resume(part)
        assert_same(final_state(part)["stages"], expected["stages"])
        assert_same(final_state(part)["random"], expected["random"])
        found = (part / "metrics.jsonl").read_text().splitlines()
        for one, other in zip(found, log, strict=True):
            assert untimed(one) == untimed(other)


def launch(out: Path, *words: str) -> subprocess.Popen:
    """``iclmsr pretrain`` in a process of its own; what it says goes to a file beside ``out``."""
    with out.with_suffix(".log").open("w") as log:
        command = [sys.executable, "-m", "iclmsr", "pretrain", *words]
        return subprocess.Popen(command, stdout=log, stderr=log)


def start(config: PretrainConfig, out: Path) -> subprocess.Popen:
    path = out.with_suffix(".json")
    write_json(path, encode(config))
    return launch(out, "--config", str(path), "--out", str(out))


def wait_for(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the run was over before"
        assert time.monotonic() < end, "the run did not get there"
        time.sleep(0.005)


KILLED = replace(
    TINY, epochs=24, checkpoint=CheckpointConfig(every_steps=3), msr=replace(TINY.msr, strata=3)
)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    return pretrain(KILLED, tmp_path_factory.mktemp("whole") / "run")


def test_killed_at_random_moments_and_resumed(tmp_path, uninterrupted):
    """SIGKILL three times, at moments drawn anew in every test run; move the folder; resume."""
    run = tmp_path / "run"
    moments = random.Random(time.time_ns())
    process = start(KILLED, run)
    for attempt in range(3):
        folder = run / "checkpoints"
        seen = checkpoint.checkpoints(folder)[-1:]
        wait_for(lambda f=folder, s=seen: checkpoint.checkpoints(f)[-1:] != s, process)
        time.sleep(moments.uniform(0, 0.15))
        process.kill()
        assert process.wait() == -signal.SIGKILL, "the run was over before it was killed"
        moved = tmp_path / f"moved{attempt}"
        run.rename(moved)
        run = moved
        if attempt < 2:
            process = launch(run, "--resume", str(run))
    resume(run)
    assert_same(weights(run), weights(uninterrupted))
    assert_same(final_state(run)["stages"], final_state(uninterrupted)["stages"])


def test_killed_before_the_first_checkpoint(tmp_path):
    run = tmp_path / "run"
    process = start(replace(TINY, checkpoint=CheckpointConfig(every_epochs=100)), run)
    wait_for(lambda: (run / "metrics.jsonl").exists(), process)
    process.kill()
    process.wait()
    assert not checkpoint.checkpoints(run / "checkpoints")
    resume(run)
    whole = replace(TINY, checkpoint=CheckpointConfig(every_epochs=100))
    assert_same(weights(run), weights(pretrain(whole, tmp_path / "whole")))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_polite_signal_checkpoints_and_says_how_to_go_on(tmp_path, number, uninterrupted):
    run = tmp_path / "run"
    process = start(replace(KILLED, checkpoint=CheckpointConfig(every_epochs=100)), run)
    wait_for(lambda: (run / "metrics.jsonl").exists(), process)
    process.send_signal(number)
    assert process.wait(timeout=60) == 128 + number
    errors = run.with_suffix(".log").read_text()
    assert f"go on with: iclmsr pretrain --resume {run}" in errors
    assert "Traceback" not in errors
    assert len(checkpoint.checkpoints(run / "checkpoints")) == 1
    assert_same(weights(resume(run)), weights(uninterrupted))


def test_a_truncated_newest_checkpoint_costs_only_time(tmp_path, uninterrupted):
    config = replace(KILLED, checkpoint=CheckpointConfig(every_steps=3, keep=2))
    run = pretrain(config, tmp_path / "run")
    newest = checkpoint.checkpoints(run / "checkpoints")[-1]
    os.truncate(newest, newest.stat().st_size // 2)
    with pytest.warns(UserWarning, match="is damaged"):
        resume(run)
    assert_same(weights(run), weights(uninterrupted))


def test_resuming_a_finished_run_changes_nothing_but_scraps(tmp_path):
    run = pretrain(TINY, tmp_path / "run")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    (run / "checkpoints" / ".checkpoint-0000000099-00000000.pt.123.tmp").write_bytes(b"half")
    assert resume(run) == run
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_resume_refuses_other_data(tmp_path):
    config = replace(TINY, checkpoint=CheckpointConfig(every_steps=1, keep=100))
    run = pretrain(config, tmp_path / "run")
    checkpoint.checkpoints(run / "checkpoints")[-1].unlink()
    changed = replace(config, data=replace(config.data, seed=9))
    write_json(run / "config.json", encode(changed))
    with pytest.raises(IclmsrError, match="are not those that .* was trained on"):
        resume(run)


def test_batch_larger_than_the_data_set(tmp_path):
    with pytest.raises(IclmsrError, match="batch size 512 is larger than the data set of 70"):
        pretrain(replace(TINY, batch_size=512), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    config = replace(
        TINY,
        optimizer=OptimizerConfig(name="sgd", lr=1e30, warmup_steps=0),
        checkpoint=CheckpointConfig(every_steps=1),
    )
    with pytest.raises(IclmsrError) as error:
        pretrain(config, tmp_path / "run")
    message = str(error.value)
    assert "loss not finite at step" in message
    assert "nan" in message or "inf" in message
    assert str(checkpoint.checkpoints(tmp_path / "run" / "checkpoints")[-1]) in message
    good = final_state(tmp_path / "run")
    assert math.isfinite(sum(total for total, _ in good["position"]["sums"].values()))


def test_a_full_disk_keeps_the_last_good_checkpoint(tmp_path, monkeypatch):
    config = replace(TINY, checkpoint=CheckpointConfig(every_steps=1))
    real, calls = checkpoint.write_atomic, []

    def full(path, data):
        calls.append(path)
        if len(calls) > 3:
            raise IclmsrError(f"cannot write {path}: No space left on device")
        real(path, data)

    monkeypatch.setattr(checkpoint, "write_atomic", full)
    with pytest.raises(IclmsrError, match=r"No space left on device; the last good checkpoint is"):
        pretrain(config, tmp_path / "run")
    monkeypatch.undo()
    assert_same(weights(resume(tmp_path / "run")), weights(pretrain(config, tmp_path / "whole")))


def test_unknown_device(tmp_path):
    with pytest.raises(IclmsrError, match="device 'abacus' is not to be had here"):
        pretrain(replace(TINY, device="abacus"), tmp_path / "run")


def test_two_steps_under_bf16_stay_finite():
    stages = TwoStages(replace(TINY, precision="bf16"), torch.device("cpu"))
    views = [torch.randn(16, 3, 32, 32) for _ in range(2)]
    for batch in range(2):
        place = Place(0, batch)
        losses, health = stages.theta_step(views, place, lr=1e-3, progress=0.5, health=True)
        losses |= stages.psi_step(Batch(views, place), Batch(views, place), lr=1e-3)
        assert all(math.isfinite(value) for value in (losses | health).values())
    assert all(p.dtype == torch.float32 for p in stages.method.parameters())


def test_dropout_resumes_exactly(tmp_path):
    """A timm encoder that draws from torch's global generator while it trains."""
    config = replace(
        TINY,
        encoder=EncoderConfig(
            "vit_tiny_patch16_224",
            options={
                "img_size": 16,
                "patch_size": 8,
                "embed_dim": 24,
                "depth": 1,
                "num_heads": 2,
                "proj_drop_rate": 0.2,
            },
        ),
        checkpoint=CheckpointConfig(every_steps=2, keep=100),
    )
    whole = pretrain(config, tmp_path / "run")
    expected = final_state(whole)
    files = checkpoint.checkpoints(whole / "checkpoints")
    for path in files[2:]:
        path.unlink()
    resume(whole)
    assert_same(final_state(whole)["stages"], expected["stages"])
