# SPDX-License-Identifier: Apache-2.0
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.multiprocessing.reductions import shared_cache
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from iclmsr.data import feed as feed_module
from iclmsr.data.batches import Epoch
from iclmsr.data.decode import FaintMask
from iclmsr.data.decoded import Unreadable
from iclmsr.data.feed import Streamed, feed_of
from iclmsr.data.file_set import FileSet
from iclmsr.data.sources import DataConfig, load, open_split
from iclmsr.data.views import ViewConfig

CPU = torch.device("cpu")
COUNT = 60


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    root = tmp_path_factory.mktemp("set")
    numbers = np.random.default_rng(0)
    for i in range(COUNT):
        path = root / "ab"[i % 2] / f"{i:02}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(numbers.integers(0, 256, (14, 12, 3), np.uint8)).save(path)
    return DataConfig(source="folder", root=root, image_size=10, resident="disk")


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(feed_module, "PIECE", 4)


@pytest.fixture
def files(config):
    return open_split(config, "pretrain")


@pytest.fixture
def feed(files):
    with feed_of(files, CPU, 2) as feed:
        yield feed


def processes(feed):
    return feed.loader._iterator._workers


def test_views_of_an_epoch_have_the_same_bits_from_memory_and_disk(
    config, files, feed, monkeypatch
):
    """Batches come again, and out of order; two epochs, the second with the same workers."""
    plan, part = [0, 1, 0, 3, 2, 2], (1, 2)
    known = {
        "view_count": 2,
        "batch_size": 14,
        "seed": 3,
        "part": part,
        "mean": config.mean,
        "std": config.std,
    }
    held = load(config, "pretrain").images
    pids = set()
    for number in range(2):
        expected = Epoch(held, ViewConfig(size=10), epoch=number, **known)
        alone = Epoch(feed_of(files, CPU, 0), ViewConfig(size=10), epoch=number, **known)
        found = Epoch(feed, ViewConfig(size=10), epoch=number, **known)
        for epoch in (alone, found):
            epoch.expect(plan)
        for batch in plan:
            views = expected.views(batch)
            assert len(views[0]) == 7
            for epoch in (alone, found):
                assert all(map(torch.equal, epoch.views(batch), views))
        assert not feed.expected
        pids |= {worker.pid for worker in processes(feed)}
    assert len(pids) == 2
    # The workers did it: what was not announced is decoded by this process.
    monkeypatch.setattr(feed_module, "decode", None)
    found.expect([2, 1])
    assert torch.equal(found.views(2)[0], expected.views(2)[0])
    with pytest.raises(TypeError):
        found.views(3)


def test_what_lies_ahead_is_bounded(files, monkeypatch):
    """Of 300 batches no more than a few are read before they are asked for."""
    asked = []
    tasks = FileSet.tasks
    monkeypatch.setattr(
        FileSet, "tasks", lambda self, index: asked.append(len(index)) or tasks(self, index)
    )
    batches = [torch.arange(8) for _ in range(300)]
    with feed_of(files, CPU, 2) as feed:
        feed.expect(batches)
        for done, batch in enumerate(batches[:20], start=1):
            assert len(feed.fetch(batch)) == 8
            assert sum(asked) <= 8 * done + 2 * 2 * 4 + 4
            assert len(shared_cache) <= 2 * 2 + 1  # and this process maps no more of them


def test_a_run_draws_no_random_numbers_for_its_workers(files, feed):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    feed.expect([torch.arange(4)] * 2)
    feed.fetch(torch.arange(4))
    assert torch.equal(torch.get_rng_state(), before)


def test_workers_leave_interrupts_to_the_run_and_end_with_it(files):
    feed = feed_of(files, CPU, 2)
    batches = [torch.arange(8)] * 50
    feed.expect(batches)
    feed.fetch(batches[0])
    workers = processes(feed)
    for worker in workers:
        os.kill(worker.pid, signal.SIGINT)
    for batch in batches[1:10]:
        feed.fetch(batch)
    feed.close()
    end = time.monotonic() + 4
    while any(worker.is_alive() for worker in workers):
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_worker_that_does_not_react_is_killed(files, monkeypatch):
    """As one that the disk lets wait, or that is stopped; at its exit Python would wait for it."""
    monkeypatch.setattr(feed_module, "GRACE", 0.1)
    feed = feed_of(files, CPU, 2)
    feed.expect([torch.arange(8)] * 50)
    feed.fetch(torch.arange(8))
    workers = processes(feed)
    os.kill(workers[0].pid, signal.SIGSTOP)
    with pytest.raises(KeyError), feed:
        raise KeyError
    assert not any(worker.is_alive() for worker in workers)


TRACKER = """
import signal
from multiprocessing import resource_tracker
from iclmsr.data.workers import without_interrupts

with without_interrupts():
    resource_tracker.ensure_running()  # as a fork server does before it is started
    print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))
print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))
"""


def test_a_server_that_forks_workers_never_gets_an_interrupt():
    done = subprocess.run([sys.executable, "-c", TRACKER], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("True\nFalse\n", "")


EMPLOYER = """
import sys, time, torch
from iclmsr.data.config import DataConfig
from iclmsr.data.feed import feed_of
from iclmsr.data.sources import open_split

if __name__ == "__main__":
    config = DataConfig(source="folder", root=sys.argv[1], image_size=10, resident="disk")
    feed = feed_of(open_split(config, "pretrain"), torch.device("cpu"), 2)
    feed.expect([torch.arange(8)] * 50)
    feed.fetch(torch.arange(8))
    print(*(worker.pid for worker in feed.loader._iterator._workers), flush=True)
    time.sleep(60)
"""


def lives(pid):
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_workers_end_with_a_run_that_is_killed(config, tmp_path):
    script = tmp_path / "employer.py"
    script.write_text(EMPLOYER)
    command = [sys.executable, script, config.root]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        workers = run.stdout.readline().split()
        assert len(workers) == 2
        assert all(map(lives, workers))
        run.kill()
    end = time.monotonic() + 10
    while any(map(lives, workers)):
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_worker_that_dies_is_said_in_one_line(files, feed, monkeypatch, capfd):
    monkeypatch.setattr(_MultiProcessingDataLoaderIter._try_get_data, "__defaults__", (0.1,))
    batches = [torch.arange(8)] * 50
    feed.expect(batches)
    feed.fetch(batches[0])
    os.kill(processes(feed)[1].pid, signal.SIGKILL)
    with pytest.raises(Unreadable, match="^a worker process of the 2 .* failed .* killed") as error:
        torch.cat([feed.fetch(batch) for batch in batches[1:]])
    assert "\n" not in str(error.value)
    feed.expect(batches)  # with new ones
    assert len(feed.fetch(batches[0])) == 8
    assert "Traceback" not in capfd.readouterr().err


def test_an_error_in_a_worker_is_said_in_one_line(files, feed):
    files.image_size = -1
    feed.expect([torch.arange(8)])
    with pytest.raises(Unreadable, match=r"failed \(RuntimeError: .* dimension.*\): ") as error:
        feed.fetch(torch.arange(8))
    assert "\n" not in str(error.value)


@pytest.mark.filterwarnings("ignore")
def test_a_corrupt_file_met_by_a_worker(config, tmp_path):
    for path in config.root.glob("*/*"):
        (tmp_path / path.parent.name).mkdir(exist_ok=True)
        (tmp_path / path.parent.name / path.name).symlink_to(path)
    bad = tmp_path / "a" / "08.png"
    bad.unlink()
    bad.write_bytes((tmp_path / "a" / "10.png").read_bytes()[:200])
    changed = replace(config, root=tmp_path)
    batches = list(torch.arange(COUNT).view(6, 10))
    with feed_of(open_split(changed, "pretrain"), CPU, 2) as feed:
        feed.expect(batches)
        with pytest.raises(Unreadable, match=rf"{bad} does not decode \(.*: mend it"):
            feed.fetch(batches[0])
    with feed_of(open_split(replace(changed, on_corrupt="skip"), "pretrain"), CPU, 2) as feed:
        feed.expect(batches * 2)
        images = torch.cat([feed.fetch(batch) for batch in batches])
        again = torch.cat([feed.fetch(batch) for batch in batches])
    held = load(replace(config, on_corrupt="skip"), "pretrain").images
    assert torch.equal(images, held[[*range(4), 5, *range(5, COUNT)]])
    assert torch.equal(again, images)


@pytest.mark.parametrize("workers", [0, 2])
def test_masks_of_0_and_1_are_told_of_once(config, tmp_path, workers):
    for path in config.root.glob("*/*.png"):
        mask = tmp_path / path.relative_to(config.root)
        mask.parent.mkdir(exist_ok=True)
        Image.new("L", (12, 14), 1).save(mask)
    files = open_split(replace(config, masks=tmp_path), "pretrain")
    batches = list(torch.arange(COUNT).split(20))
    with feed_of(files, CPU, workers) as feed:
        feed.expect(batches)
        with pytest.warns(FaintMask, match="^a mask has no value above 1: 128 and more"):
            assert not feed.fetch_masked(batches[0]).masks.any()
        for batch in batches[1:]:  # a warning would be an error
            assert not feed.fetch_masked(batch).masks.any()


def test_more_workers_than_cores_are_no_warning(files):
    with feed_of(files, CPU, len(os.sched_getaffinity(0)) + 1) as feed:
        feed.expect([torch.arange(8)])
        assert len(feed.fetch(torch.arange(8))) == 8


def test_workers_by_the_cores_and_ranks(files, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)))
    assert feed_of(files, CPU).workers == 6
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert feed_of(files, CPU).workers == 1
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "12")
    assert feed_of(files, CPU).workers == 1
    assert isinstance(feed_of(files, CPU, 0), Streamed)
