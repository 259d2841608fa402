# SPDX-License-Identifier: Apache-2.0
"""The command line under torchrun: one run of two processes, stopped and resumed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from bits import assert_same

from iclmsr import checkpoint
from iclmsr.config import CheckpointConfig, MSRConfig, PretrainConfig, encode
from iclmsr.data.sources import DataConfig
from iclmsr.data.synthetic import SyntheticConfig
from iclmsr.data.views import ViewConfig
from iclmsr.methods.simclr import SimCLRConfig
from iclmsr.networks import EncoderConfig

CONFIG = PretrainConfig(
    epochs=2,
    batch_size=16,
    device="cpu",
    method=SimCLRConfig(hidden_dim=16, embedding_dim=8),
    encoder=EncoderConfig(
        "vit_tiny_patch16_224",  # with dropout: every process draws from a generator of its own
        options={
            "img_size": 16,
            "patch_size": 8,
            "embed_dim": 24,
            "depth": 1,
            "num_heads": 2,
            "drop_rate": 0.2,
            "proj_drop_rate": 0.2,
        },
    ),
    data=DataConfig(
        source="synthetic", image_size=16, synthetic=SyntheticConfig(train=64, test=16)
    ),
    views=ViewConfig(size=16),
    msr=MSRConfig(enabled=True, strata=2, every_steps=2),
    checkpoint=CheckpointConfig(every_steps=3, keep=10),
)


def torchrun(*words: str) -> subprocess.CompletedProcess[str]:
    return launch("-m", "iclmsr", "pretrain", *words)


def launch(*words: str) -> subprocess.CompletedProcess[str]:
    """What two processes did."""
    return subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node=2", *words),
        ],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def final(run: Path):
    return checkpoint.load(checkpoint.checkpoints(run / "checkpoints")[-1])


def test_two_processes_make_one_run_and_resume_it_exactly(tmp_path):
    config = tmp_path / "config.json"
    config.write_text(json.dumps(encode(CONFIG)))
    whole = tmp_path / "whole"
    done = torchrun("--config", str(config), "--out", str(whole))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch 1/2") == done.stdout.count("encoder: ") == 1
    assert json.loads((whole / "environment.json").read_text())["processes"] == 2
    files = checkpoint.checkpoints(whole / "checkpoints")
    assert len(files) == 4  # after 3, 4, 6 and 8 updates
    state = final(whole)
    assert len(state["random"]) == 2
    assert not torch.equal(*(ranks["torch"] for ranks in state["random"]))

    part = tmp_path / "part"
    (part / "checkpoints").mkdir(parents=True)
    for name in ("config.json", "environment.json", "metrics.jsonl"):
        (part / name).write_bytes((whole / name).read_bytes())
    (part / "checkpoints" / files[0].name).write_bytes(files[0].read_bytes())
    resumed = torchrun("--resume", str(part))
    assert resumed.returncode == 0, resumed.stderr
    for name in ("stages", "random"):
        assert_same(final(part)[name], state[name])

    again = torchrun("--config", str(config), "--out", str(whole))
    assert again.returncode != 0
    assert again.stderr.count("error: ") == 1
    assert f"{whole} already exists" in again.stderr


ENDS = """
import os, sys, time
import torch
from iclmsr.config import MSRConfig, PretrainConfig
from iclmsr.distributed import join
from iclmsr.methods.simclr import SimCLRConfig
from iclmsr.networks import EncoderConfig
from iclmsr.stages import Place, TwoStages

def threads():
    return len(os.listdir("/proc/self/task"))

config = PretrainConfig(
    batch_size=4, method=SimCLRConfig(hidden_dim=4, embedding_dim=2), encoder=EncoderConfig(width=2)
)
with join("cpu") as world:
    stages = TwoStages(config, torch.device("cpu"), world)
    stages.theta_step([torch.ones(2, 3, 8, 8)] * 2, Place(0, 0), lr=0.1, progress=0.0)
    before = threads()
deadline = time.monotonic() + 10  # a thread that was joined may be listed a moment longer
while threads() >= before:
    if time.monotonic() > deadline:
        sys.exit("threads of the default group outlive it")
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted in /proc")
def test_threads_of_the_last_messages_end_before_python_does(tmp_path):
    script = tmp_path / "ends.py"
    script.write_text(ENDS)
    done = launch(str(script))
    assert done.returncode == 0, done.stderr
