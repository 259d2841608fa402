# SPDX-License-Identifier: Apache-2.0
import errno
import os
import pickle
import random
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from iclmsr import checkpoint
from iclmsr.errors import IclmsrError


def test_round_trip_and_keep(tmp_path):
    for update in (1, 2, 10):
        checkpoint.save(tmp_path, update, {"update": update, "w": torch.ones(3) * update}, keep=2)
    assert [int(path.name[11:21]) for path in checkpoint.checkpoints(tmp_path)] == [2, 10]
    state = checkpoint.load_newest(tmp_path)
    assert state["update"] == 10
    assert torch.equal(state["w"], torch.ones(3) * 10)


def test_nothing_there(tmp_path):
    assert checkpoint.load_newest(tmp_path) is None


@pytest.mark.parametrize("damage", ["truncate", "empty", "flip"])
def test_a_damaged_newest_falls_back_with_a_warning(tmp_path, damage):
    checkpoint.save(tmp_path, 1, {"update": 1})
    newest = checkpoint.save(tmp_path, 2, {"update": 2})
    data = bytearray(newest.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
    newest.write_bytes({"truncate": data[: len(data) // 2], "empty": b"", "flip": data}[damage])
    with pytest.warns(UserWarning, match=f"{newest.name} is damaged.*falling back"):
        state = checkpoint.load_newest(tmp_path)
    assert state["update"] == 1


def test_all_damaged_is_an_error(tmp_path):
    checkpoint.save(tmp_path, 1, {"update": 1}).write_bytes(b"x")
    with (
        pytest.warns(UserWarning, match="damaged"),
        pytest.raises(IclmsrError, match="every checkpoint in .* is damaged"),
    ):
        checkpoint.load_newest(tmp_path)


class Evil:
    def __reduce__(self):
        return os.system, ("touch evil",)


def test_code_in_a_checkpoint_does_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"w": Evil()}, "bare")
    data = Path("bare").read_bytes()
    path = tmp_path / f"checkpoint-{1:010d}-{zlib.crc32(data):08x}.pt"
    path.write_bytes(data)
    with pytest.raises(IclmsrError, match="does not load"):
        checkpoint.load(path)
    assert not Path("evil").exists()
    assert pickle.loads(pickle.dumps(1)) == 1  # the module is there; only Evil was refused


def test_a_full_disk_leaves_the_last_good_one_and_no_scrap(tmp_path, monkeypatch):
    good = checkpoint.save(tmp_path, 1, {"update": 1})

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        IclmsrError, match=f"No space left on device: free .*; the last good.*{good.name}"
    ):
        checkpoint.save(tmp_path, 2, {"update": 2})
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == [good.name]
    assert checkpoint.load_newest(tmp_path)["update"] == 1


def test_random_states_round_trip():
    def draw():
        return torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random()

    states = checkpoint.random_states()
    first = draw()
    checkpoint.restore_random_states(states)
    assert draw() == first
