# SPDX-License-Identifier: Apache-2.0
"""The processes that were started to train together: who they are and where they meet."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist

from iclmsr.devices import choose_device
from iclmsr.errors import IclmsrError


@dataclass(frozen=True)
class World:
    """The ranks that train together, as one of them sees it.

    Attributes:
        rank: Which one this is, in [0, size).
        size: How many there are, >= 1.
        local_rank: Which one this is among those on its machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def main(self) -> bool:
        """Whether this is rank 0, the one that writes files and speaks."""
        return self.rank == 0


def launched(environ: Mapping[str, str]) -> tuple[World, str]:
    """The world that torchrun or srun started this process in, and where its ranks meet.

    torchrun's variables go before SLURM's. Those of SLURM count only in a step of srun: the body
    of a batch script and the shell of an allocation are one process, whatever SLURM_NTASKS says.

    Args:
        environ: Environment variables.

    Returns:
        The world, and ``host:port`` of rank 0, empty in a world of one.

    Raises:
        IclmsrError: A variable is missing or makes no sense.

    Source: torchrun's and srun's manuals. Departure: none.

    >>> launched({"SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_JOB_ID": "7"})  # not by srun
    (World(rank=0, size=1, local_rank=0), '')
    >>> launched({"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1",
    ...           "MASTER_ADDR": "node3", "MASTER_PORT": "29500"})
    (World(rank=5, size=8, local_rank=1), 'node3:29500')
    """
    if "RANK" in environ or "WORLD_SIZE" in environ:
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    elif "SLURM_STEP_ID" in environ and "SLURM_PROCID" in environ:
        # In the shell of an allocation SLURM_NTASKS may be the job's, not the step's.
        of_step = "SLURM_STEP_NUM_TASKS" in environ
        size_name = "SLURM_STEP_NUM_TASKS" if of_step else "SLURM_NTASKS"
        names = ("SLURM_PROCID", size_name, "SLURM_LOCALID")
        environ = {**_slurm_meeting_point(environ), **environ}
    else:
        return World(), ""
    size = _number(environ, names[1], low=1)
    rank = _number(environ, names[0], high=size)
    if size == 1:
        return World(), ""
    host = environ.get("MASTER_ADDR")
    if not host:
        raise IclmsrError(
            f"MASTER_ADDR is missing for {size} ranks: start them with torchrun or srun, "
            "or set it to the host name of rank 0"
        )
    port = _number(environ, "MASTER_PORT", low=1, high=2**16)
    host = f"[{host}]" if ":" in host else host
    return World(rank, size, _number(environ, names[2], high=size)), f"{host}:{port}"


def speaks() -> bool:
    """Whether this process is the one that talks to the user: rank 0, or the only one."""
    return launched(os.environ)[0].main


def _slurm_meeting_point(environ: Mapping[str, str]) -> dict[str, str]:
    """MASTER_ADDR and MASTER_PORT for a step of SLURM, the same on all its ranks."""
    nodes = environ.get("SLURM_STEP_NODELIST") or environ.get("SLURM_JOB_NODELIST") or ""
    job = _number(environ, "SLURM_JOB_ID")
    return {"MASTER_ADDR": first_host(nodes), "MASTER_PORT": str(15000 + job % 17000)}


def first_host(nodes: str) -> str:
    """The first of SLURM's list of host names.

    >>> first_host("gpu[003-005,7],login1"), first_host("a,b"), first_host("r[1,3]n[08-11]")
    ('gpu003', 'a', 'r1n08')
    """
    return re.sub(r"\[([^],-]+)[^]]*\]", r"\1", nodes).split(",")[0]


def _number(environ: Mapping[str, str], name: str, *, low: int = 0, high: int | None = None) -> int:
    """The whole number in [low, high) that a variable holds."""
    text = environ.get(name)
    if text is None:
        raise IclmsrError(f"{name} is missing: start the ranks with torchrun or srun")
    number = int(text) if text.isdecimal() else -1
    if number < low or (high is not None and number >= high):
        wanted = f">= {low}" if high is None else f"in [{low}, {high})"
        raise IclmsrError(f"{name} must be a whole number {wanted}, got {text!r}")
    return number


def device_of(world: World, name: str) -> torch.device:
    """The device that ``name`` means for this rank: with several, each takes a GPU of its own.

    Args:
        world: The world.
        name: As for :func:`iclmsr.devices.choose_device`.

    Raises:
        IclmsrError: No such device, or fewer GPUs than ranks on this machine.

    >>> device_of(World(rank=1, size=2, local_rank=1), "cpu")
    device(type='cpu')
    """
    if world.size > 1 and name.startswith("cuda:"):
        raise IclmsrError(f"device {name!r} is one GPU for {world.size} ranks: use cuda")
    if world.size > 1 and name in ("auto", "cuda") and torch.cuda.is_available():
        count = torch.cuda.device_count()
        # A launcher may show each rank nothing but its own GPU.
        index = world.local_rank if count > 1 else 0
        if index >= count:
            raise IclmsrError(
                f"rank {world.rank} is number {index} on its machine, which has {count} GPUs: "
                f"start at most {count} ranks there"
            )
        name = f"cuda:{index}"
    return choose_device(name)


@contextmanager
def join(device: str = "auto", *, timeout: float = 1800) -> Iterator[World]:
    """Joins the world that this process was started in, and leaves it at the end.

    Args:
        device: What the run computes on, as for :func:`device_of`.
        timeout: Seconds to wait for another rank before giving up, > 0.

    Yields:
        The world; of one rank, without any process group, when nothing else was asked for.

    Raises:
        IclmsrError: As :func:`launched` and :func:`device_of`, or the ranks do not meet.
    """
    world, address = launched(os.environ)
    if world.size == 1:
        yield world
        return
    chosen = device_of(world, device)
    backend = "gloo"
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
        backend = "cpu:gloo,cuda:nccl"  # flags and objects do not wait for the GPU
    try:
        dist.init_process_group(
            backend,
            init_method=f"tcp://{address}",
            rank=world.rank,
            world_size=world.size,
            timeout=timedelta(seconds=timeout),
        )
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise IclmsrError(
            f"rank {world.rank} did not meet the {world.size} ranks at {address}: {reason}"
        ) from error
    try:
        yield world
    finally:
        dist.destroy_process_group()
