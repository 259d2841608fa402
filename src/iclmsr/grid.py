# SPDX-License-Identifier: Apache-2.0
"""Cells of a study: run folders that are made once, by whoever comes first."""

from pathlib import Path
from typing import Literal

from iclmsr.config import PretrainConfig, decode, encode
from iclmsr.errors import IclmsrError
from iclmsr.neutral import telling
from iclmsr.pretrain import pretrain, resume
from iclmsr.runs import Busy, RunFolder, Taken

State = Literal["done", "made", "busy"]


def finish(config: PretrainConfig, out: Path) -> State:
    """Pretrains to the end, from where a run folder is if there is one.

    Several processes and machines that share a file system with locks may call it at once for
    the same folder: one trains, the others are told that it is busy. Settings that move no number
    may be others for each of them, as device and data.root (:data:`iclmsr.neutral.NEUTRAL`): who
    goes on with a run takes its own device, data.root and data.workers.

    Args:
        config: The whole run.
        out: The run folder, to make or to go on with.

    Returns:
        ``done``: it was finished before; ``made``: it is now; ``busy``: another process is at it.

    Raises:
        IclmsrError: ``out`` holds a run with other settings. As :func:`iclmsr.pretrain.pretrain`.
    """
    if not (out / "config.json").is_file():
        try:
            pretrain(config, out)
        except (Busy, Taken):  # another process has made the folder meanwhile
            return "busy"
        return "made"
    folder = check_same(config, out)
    if folder.epochs_done() >= config.epochs:
        return "done"
    try:
        data = config.data
        resume(out, device=config.device, root=data.root, workers=data.workers)
    except Busy:
        return "busy"
    return "made"


def check_same(config: PretrainConfig, out: Path) -> RunFolder:
    """The run folder at ``out``, which holds this run, but for settings that move no number.

    Args:
        config: The whole run.
        out: Its folder.

    Raises:
        IclmsrError: ``out`` is no run folder, or holds a run with other settings.
    """
    folder = RunFolder.open(out)
    known = decode(PretrainConfig, folder.config())
    if telling(encode(known)) != telling(encode(config)):
        raise IclmsrError(
            f"{out} holds a run with other settings: choose another folder, or remove it"
        )
    return folder
