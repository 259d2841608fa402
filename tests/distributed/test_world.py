# SPDX-License-Identifier: Apache-2.0
"""Who the ranks are, from what launched them; and the tests' own ranks neither hide nor hang."""

import socket
import time

import pytest
import torch
import torch.distributed as dist
from ranks import on_ranks

from iclmsr.distributed import World, barrier, device_of, join, world
from iclmsr.distributed.world import launched
from iclmsr.errors import IclmsrError

TORCHRUN = {
    "RANK": "5",
    "WORLD_SIZE": "8",
    "LOCAL_RANK": "1",
    "MASTER_ADDR": "node3",
    "MASTER_PORT": "29500",
}
SBATCH = {
    "SLURM_JOB_ID": "20007",
    "SLURM_JOB_NODELIST": "gpu[003-005,7],cpu1",
    "SLURM_LOCALID": "0",
    "SLURM_NTASKS": "8",
    "SLURM_PROCID": "0",
}
SRUN = SBATCH | {
    "SLURM_LOCALID": "1",
    "SLURM_PROCID": "5",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NODELIST": "gpu[004-005]",
    "SLURM_STEP_NUM_TASKS": "8",
}
FIFTH = World(5, 8, 1)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, (World(), "")),
        (TORCHRUN, (FIFTH, "node3:29500")),
        (TORCHRUN | {"MASTER_ADDR": "fe80::1"}, (FIFTH, "[fe80::1]:29500")),
        (TORCHRUN | SRUN, (FIFTH, "node3:29500")),
        ({"RANK": "0", "WORLD_SIZE": "1"}, (World(), "")),
        (SBATCH, (World(), "")),
        ({"SLURM_NTASKS": "8", "SLURM_JOB_ID": "1"}, (World(), "")),  # salloc
        (SRUN | {"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}, (World(), "")),  # its shell
        (SRUN, (FIFTH, "gpu004:18007")),
        ({k: v for k, v in SRUN.items() if "SLURM_STEP_N" not in k}, (FIFTH, "gpu003:18007")),
        (SRUN | {"MASTER_ADDR": "a", "MASTER_PORT": "2"}, (FIFTH, "a:2")),
    ],
)
def test_how_ranks_were_launched(environ, expected):
    assert launched(environ) == expected


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        (TORCHRUN | {"WORLD_SIZE": "two"}, r"WORLD_SIZE must be a whole number >= 1, got 'two'"),
        (TORCHRUN | {"WORLD_SIZE": "0"}, r"WORLD_SIZE must be a whole number >= 1, got '0'"),
        (TORCHRUN | {"RANK": "8"}, r"RANK must be a whole number in \[0, 8\), got '8'"),
        (TORCHRUN | {"RANK": "-1"}, r"RANK must be a whole number in \[0, 8\), got '-1'"),
        (TORCHRUN | {"LOCAL_RANK": ""}, r"LOCAL_RANK must be a whole number in \[0, 8\), got ''"),
        (TORCHRUN | {"MASTER_PORT": "http"}, r"MASTER_PORT must be .* in \[1, 65536\), got 'http'"),
        (TORCHRUN | {"MASTER_ADDR": ""}, "MASTER_ADDR is missing for 8 ranks: start them with"),
        ({"RANK": "0"}, "WORLD_SIZE is missing: start the ranks with torchrun or srun"),
        ({"WORLD_SIZE": "2"}, "RANK is missing: start the ranks with torchrun or srun"),
        (SRUN | {"SLURM_PROCID": "9"}, r"SLURM_PROCID must be .* in \[0, 8\), got '9'"),
        (SRUN | {"SLURM_STEP_NODELIST": "", "SLURM_JOB_NODELIST": ""}, "MASTER_ADDR is missing"),
    ],
)
def test_nonsense_is_refused_in_one_line(environ, said):
    with pytest.raises(IclmsrError, match=f"^{said}") as refusal:
        launched(environ)
    assert "\n" not in str(refusal.value)


def test_ranks_that_do_not_come(monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    alone = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
    for name, value in (alone | {"MASTER_PORT": port}).items():
        monkeypatch.setenv(name, value)
    said = f"^rank 0 did not meet the 2 ranks at 127.0.0.1:{port}: "
    with pytest.raises(IclmsrError, match=said), join("cpu", timeout=1):
        pass
    assert not dist.is_initialized()


@pytest.mark.parametrize(
    ("rank", "count", "name", "index"),
    [(World(0, 4, 0), 2, "cuda", 0), (FIFTH, 2, "auto", 1), (World(3, 4, 3), 1, "cuda", 0)],
)
def test_each_rank_has_its_own_gpu(monkeypatch, rank, count, name, index):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(world, "choose_device", torch.device)
    assert device_of(rank, name) == torch.device("cuda", index)
    assert device_of(rank, "cpu") == torch.device("cpu")
    assert device_of(World(), "cuda:1") == torch.device("cuda:1")
    with pytest.raises(IclmsrError, match=f"'cuda:1' is one GPU for {rank.size} ranks: use cuda"):
        device_of(rank, "cuda:1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(IclmsrError, match=r"rank 2 is number 2 .* has 2 GPUs: start at most 2"):
        device_of(World(2, 3, 2), name)


def fail_on_rank_1(world):
    if world.rank == 1:
        raise ValueError("a word of rank 1")
    barrier()


def sleep_on_rank_0(world):
    time.sleep(60 if world.main else 0)


def test_a_rank_that_fails_is_heard():
    with pytest.raises(AssertionError, match="rank 1: .*(\n.*)*ValueError: a word of rank 1"):
        on_ranks(fail_on_rank_1, 2)


def test_a_rank_that_hangs_is_stopped():
    with pytest.raises(AssertionError, match="^rank 0: was not done after 2 s$"):
        on_ranks(sleep_on_rank_0, 2, timeout=2)
