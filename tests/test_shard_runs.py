# SPDX-License-Identifier: Apache-2.0
"""Runs on shards from a URL: fetched by workers when needed, exact, stopped by an outage."""

import contextlib
import os
import shutil
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import flaky
import numpy as np
import pytest
import torch
from bits import assert_same
from PIL import Image
from ranks import on_ranks

from iclmsr import checkpoint
from iclmsr.config import CheckpointConfig, PretrainConfig
from iclmsr.data.feed import Streamed
from iclmsr.data.file_set import SHARDS_MIXED
from iclmsr.data.shard_writer import shard
from iclmsr.data.sources import DataConfig, load, open_split
from iclmsr.data.trees import open_tree
from iclmsr.data.views import ViewConfig
from iclmsr.errors import IclmsrError
from iclmsr.interruption import Interrupted
from iclmsr.methods.simclr import SimCLRConfig
from iclmsr.networks import EncoderConfig
from iclmsr.pretrain import pretrain, resume
from iclmsr.runs import RunFolder
from iclmsr.session import Session

IMAGES = 60


@pytest.fixture
def shards(tmp_path, monkeypatch):
    """A folder of more shards than are mixed with each other."""
    monkeypatch.setenv("ICLMSR_CACHE", str(tmp_path / "cache"))
    for number in range(IMAGES):
        path = tmp_path / "images" / "train" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), np.uint8)
        Image.fromarray(pixels).save(path)
    index = shard(open_tree(tmp_path / "images"), tmp_path / "shards", shard_size=12000)
    assert len(index.shards) > SHARDS_MIXED
    return tmp_path / "shards"


def run_on(url, workers):
    return PretrainConfig(
        epochs=2,
        batch_size=8,
        device="cpu",
        method=SimCLRConfig(hidden_dim=16, embedding_dim=8),
        encoder=EncoderConfig(width=2),
        views=ViewConfig(size=16),
        data=DataConfig("folder", url, 16, resident="disk", workers=workers),
        checkpoint=CheckpointConfig(every_steps=5, keep=10),
    )


def states(run):
    return [checkpoint.load(path)["stages"] for path in checkpoint.checkpoints(run / "checkpoints")]


def test_workers_fetch_and_nothing_changes(shards, tmp_path, monkeypatch):
    with flaky.serve(shards) as server:
        none = pretrain(run_on(server.url, 0), tmp_path / "none")
        monkeypatch.setenv("ICLMSR_CACHE", str(tmp_path / "another"))
        two = pretrain(run_on(server.url, 2), tmp_path / "two")
        fetched = [path for path, _, _ in server.requests]
    assert len(fetched) == 2 * len(list(shards.rglob("*.tar")))  # each once by each run
    assert_same(states(two), states(none))


def test_an_epoch_needs_few_shards_at_a_time(shards):
    with flaky.serve(shards) as server:
        files = open_split(run_on(server.url, 0).data, "pretrain")
        order = files.order(torch.Generator().manual_seed(0))
    assert sorted(order.tolist()) == list(range(IMAGES))
    where = files.tree.shards_of(files.files)[order]
    first = where[: IMAGES // 4].unique()
    assert len(first) <= SHARDS_MIXED < len(where.unique())
    local = open_split(replace(run_on(shards, 0).data, root=shards), "pretrain")
    plain = local.order(torch.Generator().manual_seed(0))
    assert plain.equal(torch.randperm(IMAGES, generator=torch.Generator().manual_seed(0)))


@contextlib.contextmanager
def cut_short(shards, tmp_path, workers):
    """A run to stop in the folder cut, without a shard at hand; then it goes on to the same end."""
    with flaky.serve(shards) as server:
        whole = pretrain(run_on(server.url, workers), tmp_path / "whole")
    for path in (tmp_path / "cache").rglob("*"):
        if path.is_file() and path.stat().st_size > 4000:
            path.unlink()
    with flaky.serve(shards) as server:
        config = run_on(server.url, workers)
        load(replace(config.data, limit=1), "train")  # the index
        yield config, server
        server.always = None
        resume(tmp_path / "cut")
    assert_same(states(tmp_path / "cut")[-1], states(whole)[-1])


@pytest.mark.parametrize("workers", [0, 2])
def test_an_outage_stops_the_run_and_nothing_is_lost(shards, tmp_path, workers):
    with cut_short(shards, tmp_path, workers) as (config, server):
        server.always = 404
        with pytest.raises(IclmsrError) as raised:
            pretrain(config, tmp_path / "cut")
        message = str(raised.value)
        assert message.startswith(f"cannot read {server.url}/train/0000")
        assert "nothing is lost, go on with: iclmsr pretrain --resume" in message
        assert "\n" not in message


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stop_does_not_wait_for_a_server_that_stalls(shards, tmp_path, workers):
    with cut_short(shards, tmp_path, workers) as (config, server):
        server.always = "stall"
        watch = threading.Timer(3, os.kill, (os.getpid(), signal.SIGTERM))
        watch.start()
        began = time.monotonic()
        with pytest.raises(Interrupted, match="^stopped by SIGTERM after step .+; go on with: "):
            pretrain(config, tmp_path / "cut")
        assert 3 <= time.monotonic() - began < 8


def cut_copy(run, name, *, old=False):
    """A run as it was after 5 updates; its checkpoint as older versions wrote it, if asked for."""
    copy = run.with_name(name)
    shutil.copytree(run, copy)
    kept, *others = checkpoint.checkpoints(copy / "checkpoints")
    for path in others:
        path.unlink()
    if old:
        state = checkpoint.load(kept)
        del state["layout"], state["instead"], state["position"]["replaced"]
        kept.unlink()
        checkpoint.save(copy / "checkpoints", 5, state)
    return copy


def test_a_run_on_shards_goes_on_in_its_order_or_not_at_all(shards, tmp_path):
    """Otherwise images would come twice in an epoch, and others not at all."""
    moved = shutil.copytree(shards, tmp_path / "moved")
    others = tmp_path / "others"
    shard(open_tree(tmp_path / "images"), others, shard_size=24000)
    url = f"file://{shards}"
    whole = pretrain(run_on(url, 0), tmp_path / "whole")
    cut, old = cut_copy(whole, "cut"), cut_copy(whole, "old", old=True)
    again = r"pass --data.root with a URL of the same shards \(file:///FOLDER will do\)$"
    for run, places in ((cut, ()), (old, (f"file://{moved}",))):
        for place in (shards, tmp_path / "images", f"file://{others}", *places):
            says = f"^the images in {place} are those that {run} was trained on, but its order .*: "
            with pytest.raises(IclmsrError, match=says + again):
                resume(run, root=place)
    resume(cut, root=f"file://{moved}")
    resume(old)
    for run in (cut, old):
        assert_same(states(run)[-1], states(whole)[-1])


def test_a_run_on_files_goes_on_in_its_order_or_not_at_all(shards, tmp_path):
    whole = pretrain(run_on(shards, 0), tmp_path / "whole")
    cut, old = cut_copy(whole, "cut"), cut_copy(whole, "old", old=True)
    for run in (cut, old):
        with pytest.raises(IclmsrError, match=f"^the images in file://{shards} .*: pass --data"):
            resume(run, root=f"file://{shards}")
        resume(run, root=tmp_path / "images")
        assert_same(states(run)[-1], states(whole)[-1])


def share(world, urls, folder):
    """Trains as a node of its own, from the newest checkpoint on; the images of each batch."""
    os.environ["ICLMSR_CACHE"] = f"{folder}/node{world.rank}"
    config, seen = run_on(urls[world.rank], 0), []
    config = replace(config, checkpoint=replace(config.checkpoint, every_steps=2))
    run, fetch = RunFolder(Path(folder) / "run"), Streamed.fetch

    def record(self, index):
        seen.append(index.tolist())
        return fetch(self, index)

    Streamed.fetch = record
    images = open_split(config.data, "pretrain")
    session = Session(config, run, images, world, torch.device("cpu"))
    session.restore(checkpoint.load_newest(run.checkpoints))
    session.run()
    Streamed.fetch = fetch
    return seen, images.tree.shards_of(images.files).tolist()


def test_ranks_fetch_their_own_shards_and_resume_exactly(shards, tmp_path):
    steps = IMAGES // 8  # 7 an epoch
    RunFolder.create(tmp_path / "run", {}, {})
    with flaky.serve(shards) as one, flaky.serve(shards) as other:
        urls = [one.url, other.url]
        seen, (_, where) = zip(*on_ranks(share, 2, urls, str(tmp_path)), strict=True)
        fetched = [[path for path, *_ in server.requests] for server in (one, other)]
        for epoch in range(2):
            images = [
                image for rank in seen for batch in rank[epoch * steps :][:steps] for image in batch
            ]
            assert len(images) == len(set(images)) == steps * 8
        shared = set(fetched[0]) & set(fetched[1])
        assert len(shared) <= 1  # by images of both: the shards do not divide evenly
        assert all(len(paths) == len(set(paths)) for paths in fetched)  # nothing again in epoch 2
        assert len(set().union(*fetched)) == len(set(where))

        whole = checkpoint.load(checkpoint.checkpoints(tmp_path / "run" / "checkpoints")[-1])
        for path in checkpoint.checkpoints(tmp_path / "run" / "checkpoints")[2:]:
            path.unlink()  # 4 steps are done
        again = [found for found, _ in on_ranks(share, 2, urls, str(tmp_path))]
        assert again == [rank[4:] for rank in seen]
        state = checkpoint.load(checkpoint.checkpoints(tmp_path / "run" / "checkpoints")[-1])
        assert_same(state["stages"], whole["stages"])

        for path in checkpoint.checkpoints(tmp_path / "run" / "checkpoints")[2:]:
            path.unlink()
        ((alone, _),) = on_ranks(share, 1, urls, str(tmp_path))
    # The epoch under way ends in its own order; the next one has that of one rank.
    assert alone[: steps - 4] == [a + b for a, b in zip(*seen, strict=True)][4:steps]
    rest = [image for batch in alone[steps - 4 :] for image in batch]
    assert len(rest) == len(set(rest)) == steps * 8
    assert alone[steps - 4 :] != [a + b for a, b in zip(*seen, strict=True)][steps:]
