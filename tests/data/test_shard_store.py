# SPDX-License-Identifier: Apache-2.0
import fcntl
import hashlib
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from flaky import STALL, serve

from iclmsr.data.remote import Patience, Remote
from iclmsr.data.shard_store import ShardStore
from iclmsr.errors import Damaged, IclmsrError

CHUNK = 1000
SIZE = 3500
CONTENT = {
    f"{number:06d}.tar": np.random.default_rng(number).bytes(SIZE + number) for number in range(4)
}


class Naps(list):
    """Stands for time.sleep and notes for how long."""

    def __call__(self, seconds):
        self.append(seconds)


@pytest.fixture
def folder(tmp_path):
    served = tmp_path / "served"
    served.mkdir()
    for name, content in CONTENT.items():
        (served / name).write_bytes(content)
    return served


@pytest.fixture
def store(tmp_path):
    patience = Patience(tries=4, timeout=STALL / 2, chunk=CHUNK, sleep=Naps())
    return ShardStore(tmp_path / "cache" / "shards", 10 * SIZE, Remote(patience))


def naps(store):
    return store.remote.patience.sleep


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def fetch(store, server, number=0, **changed):
    name = f"{number:06d}.tar"
    expected = {"size": len(CONTENT[name]), "sha256": sha256(CONTENT[name])} | changed
    with store.open(f"{server.url}/{name}", **expected) as file:
        return os.pread(file.fileno(), 10 * SIZE, 0)


def fails(message, store, server, number=0, **changed):
    with pytest.raises(IclmsrError, match=f"^{message}$"):
        fetch(store, server, number, **changed)
    assert [path.name for path in store.folder.iterdir() if path.name != ".lock"] == []


def test_a_shard_is_fetched_once_and_in_pieces(folder, store):
    with serve(folder) as server:
        for _ in range(2):
            assert fetch(store, server) == CONTENT["000000.tar"]
        assert [wanted for _, wanted, _ in server.requests] == [
            "bytes=0-999",
            "bytes=1000-1999",
            "bytes=2000-2999",
            "bytes=3000-3499",
        ]
    assert sorted(path.name for path in store.folder.iterdir()) == [
        ".lock",
        f"{sha256(CONTENT['000000.tar'])}.tar",
    ]
    assert naps(store) == []


@pytest.mark.parametrize("fault", ["stall", "cut", "short", "reset", 500, 503, 429, 408])
def test_faults_are_waited_out_and_only_the_lost_piece_is_asked_for_again(folder, store, fault):
    with serve(folder, [None, fault, fault, None, fault]) as server:
        assert fetch(store, server) == CONTENT["000000.tar"]
        asked = [int(wanted[6:].split("-")[0]) for _, wanted, _ in server.requests]
    assert asked == [0, 1000, 1000, 1000, 2000, 2000, 3000]
    # A kept connection that is closed before an answer is opened again at once, one level below.
    assert naps(store) == ([0.5] if fault == "reset" else [0.5, 1.0, 0.5])


def test_wrong_bytes_are_noticed_and_fetched_anew(folder, store):
    with serve(folder, [None, "wrong"]) as server:
        assert fetch(store, server) == CONTENT["000000.tar"]
        assert len(server.requests) == 8
    assert naps(store) == [0.5]


@pytest.mark.parametrize(
    ("asked", "waited"),
    [("7", 7.0), ("0", 0.5), ("86400", 30.0), ("Fri, 31 Dec 1999 23:59:59 GMT", 0.5), ("-1", 0.5)],
)
def test_a_server_that_asks_to_be_left_alone(folder, store, asked, waited):
    with serve(folder, [(503, ("Retry-After", asked))]) as server:
        assert fetch(store, server) == CONTENT["000000.tar"]
    assert naps(store) == [waited]


@pytest.mark.parametrize("faults", [[], ["cut"], ["wrong"], ["short"], [500, "stall"]])
def test_a_server_without_ranges(folder, store, faults):
    with serve(folder, faults, ranges=False) as server:
        assert fetch(store, server) == CONTENT["000000.tar"]


@pytest.mark.parametrize(
    ("fault", "tries", "reason"),
    [
        ("stall", "4 times", r"nothing came for 0\.15 seconds"),
        ("cut", "4 times", r"\w+: .*"),
        ("short", "4 times", r"EOFError: got 500 bytes of 1,000"),
        ("reset", "4 times", r"\w+: .*"),
        (500, "4 times", r"ClientResponseError: 500, .*"),
        (403, "once", r"ClientResponseError: 403, .*"),
        (404, "once", r"FileNotFoundError: http.*"),
        ((302, ("Location", "/000000.tar")), "once", r"TooManyRedirects: 0, .*"),
        (
            "wrong",
            "4 times",
            r"ValueError: wrong content, its SHA-256 is [0-9a-f]{64}, expected [0-9a-f]{64}",
        ),
    ],
)
def test_what_never_heals_is_an_error_and_nothing_is_left(folder, store, fault, tries, reason):
    with serve(folder, always=fault) as server:
        url = re.escape(f"{server.url}/000000.tar")
        once = tries == "once"
        remedy = "mend the address or your rights" if once else "try later, or another copy"
        fails(rf"cannot read {url}: tried {tries}, last: {reason}: {remedy}", store, server)
    assert naps(store) == ([] if tries == "once" else [0.5, 1.0, 2.0])


def test_no_server(folder, store):
    with serve(folder) as server:
        pass
    fails(r"cannot read http://127.* tried 4 times, last: ClientConnector\w+: .*", store, server)


@pytest.mark.parametrize("length", [SIZE - 100, SIZE + 100])
def test_a_shard_of_another_length(folder, store, length):
    (folder / "000000.tar").write_bytes(bytes(length))
    with serve(folder) as server:
        fails(r"cannot read http.*: tried 4 times, last: \w+: .*", store, server)


def test_the_room_is_kept_and_the_least_recently_used_goes(folder, store, tmp_path):
    store = ShardStore(store.folder, 2 * SIZE + 200, store.remote)
    with serve(folder) as server:
        for number in (0, 1, 0, 2):
            fetch(store, server, number)
        assert sum(path.stat().st_size for path in store.folder.iterdir()) <= store.room
        there = {path.name for path in store.folder.glob("*.tar")}
        assert there == {f"{sha256(CONTENT[f'{number:06d}.tar'])}.tar" for number in (0, 2)}
        assert len(server.requests) == 12


def test_what_is_read_is_not_removed(folder, store):
    store = ShardStore(store.folder, SIZE + 200, store.remote)
    name = "000000.tar"
    with serve(folder) as server:
        with store.open(f"{server.url}/{name}", SIZE, sha256(CONTENT[name])) as file:
            fetch(store, server, 1)
            assert (store.folder / f"{sha256(CONTENT[name])}.tar").exists()
            assert os.pread(file.fileno(), SIZE, 0) == CONTENT[name]
        fetch(store, server, 2)
    assert len(list(store.folder.glob("*.tar"))) == 1


def test_a_shard_that_cannot_fit(folder, store):
    store = ShardStore(store.folder, SIZE - 1, store.remote)
    with serve(folder) as server, pytest.raises(IclmsrError) as caught:
        fetch(store, server)
    assert str(caught.value) == (
        f"{server.url}/000000.tar takes 3,500 bytes, more than the 3,499 that shards may take: "
        "pass a larger --data.shard-cache"
    )


def test_what_a_killed_process_left_is_gone_on_with_or_removed(folder, store):
    store.folder.mkdir(parents=True)
    content = CONTENT["000000.tar"]
    part = store.folder / f".{sha256(content)}.{SIZE}.part"
    part.write_bytes(content[:2500])
    with serve(folder) as server:
        assert fetch(store, server) == content
        assert [wanted for _, wanted, _ in server.requests] == ["bytes=2500-3499"]
        part.write_bytes(b"x" * 2500)  # of a shard that is there: never mind
        store = ShardStore(store.folder, SIZE + 10, store.remote)
        fetch(store, server, 1)
    assert not list(store.folder.glob(".*.part"))
    assert len(list(store.folder.glob("*.tar"))) == 1


def test_a_spoilt_part_is_fetched_anew(folder, store):
    store.folder.mkdir(parents=True)
    content = CONTENT["000000.tar"]
    for spoilt in (b"x" * 2500, b"x" * SIZE, b"x" * (SIZE + 1)):
        (store.folder / f".{sha256(content)}.{SIZE}.part").write_bytes(spoilt)
        with serve(folder) as server:
            assert fetch(store, server) == content
        (store.folder / f"{sha256(content)}.tar").unlink()


def test_a_shard_that_was_cut_in_the_cache_is_fetched_anew(folder, store):
    with serve(folder) as server:
        fetch(store, server)
        path = store.folder / f"{sha256(CONTENT['000000.tar'])}.tar"
        path.write_bytes(path.read_bytes()[:100])
        assert fetch(store, server) == CONTENT["000000.tar"]


def test_a_shard_that_changed_in_the_cache_is_fetched_anew_once_it_is_checked(folder, store):
    with serve(folder) as server:
        fetch(store, server)
        path = store.folder / f"{sha256(CONTENT['000000.tar'])}.tar"
        store.check(path.stem)
        assert path.exists()
        path.write_bytes(bytes(SIZE))
        assert fetch(store, server) == bytes(SIZE)
        store.check(path.stem)
        assert fetch(store, server) == CONTENT["000000.tar"]
    path.unlink()
    store.check(path.stem)  # it may be gone by then


def test_what_is_none_of_ours_in_the_cache_is_passed_over(folder, store):
    store = ShardStore(store.folder, SIZE + 200, store.remote)
    others = ["mine.part", ".part", f".{'a' * 64}.part", "photos.tar", f"{'b' * 64}.json"]
    folders = [f"{'c' * 64}.tar", f".{'d' * 64}.9999.part"]
    store.folder.mkdir(parents=True)
    for name in others:
        (store.folder / name).write_bytes(bytes(SIZE))
    for name in folders:
        (store.folder / name).mkdir()
    with serve(folder) as server:
        for number in range(3):
            assert fetch(store, server, number) == CONTENT[f"{number:06d}.tar"]
    there = {path.name for path in store.folder.iterdir()}
    assert there == {*others, *folders, ".lock", f"{sha256(CONTENT['000002.tar'])}.tar"}


def test_a_folder_where_a_shard_belongs(folder, store):
    path = store.folder / f"{sha256(CONTENT['000000.tar'])}.tar"
    path.mkdir(parents=True)
    with serve(folder) as server, pytest.raises(IclmsrError) as caught:
        fetch(store, server)
    assert str(caught.value) == (
        f"cannot read {path}, a shard in the cache: Is a directory: remove it, or set ICLMSR_CACHE "
        "to another folder"
    )


def test_a_shard_in_a_cache_that_may_not_be_searched(store, monkeypatch):
    def refused(self, *_):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr("pathlib.Path.open", refused)  # root may search everything
    message = (
        f"cannot read {store.folder}/x.tar, a shard in the cache: Permission denied: make it "
        "readable, or set ICLMSR_CACHE to another folder"
    )
    with pytest.raises(IclmsrError, match=f"^{message}$"):
        store.open("http://unused/0.tar", SIZE, "x")


@pytest.mark.parametrize("size", [SIZE, SIZE + 1])
def test_a_shard_that_is_replaced_while_it_is_read_without_an_index(folder, store, size):
    """Neither version comes of it, nor a mixture."""
    path, pieces = folder / "000000.tar", Remote.pieces

    def replaced(self, *args):
        for number, piece in enumerate(pieces(self, *args)):
            yield piece
            if number == 0:
                path.write_bytes(bytes(size))
                os.utime(path, (0, 0))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Remote, "pieces", replaced)
        url = f"file://{path}"
        with pytest.raises(Damaged, match=f"^{url} was replaced while it was read: try later$"):
            store.open_unknown(url)
    assert [one.name for one in store.folder.iterdir() if one.name != ".lock"] == []
    file, found, digest = store.open_unknown(url)
    with file:
        assert (file.read(), found, digest) == (bytes(size), size, sha256(bytes(size)))


def test_full_disk(folder, store, monkeypatch):
    def refuse(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", refuse)
    with serve(folder) as server:
        fails(
            f"cannot write to the cache {store.folder}: No space left on device; set ICLMSR_CACHE "
            "to another folder or pass a smaller --data.shard-cache",
            store,
            server,
        )


def test_a_cache_that_cannot_be_made(folder, store):
    store.folder.parent.write_text("a file")
    with serve(folder) as server, pytest.raises(IclmsrError, match="^cannot write to the cache .*"):
        fetch(store, server)


FETCH = """
import sys
from pathlib import Path
from iclmsr.data.shard_store import ShardStore
folder, url, size, sha256 = sys.argv[1:]
with ShardStore(Path(folder)).open(url, int(size), sha256) as file:
    print(len(file.read()))
"""


def test_several_processes_fetch_a_shard_once(folder, store):
    content = CONTENT["000000.tar"]
    with serve(folder, ["cut"]) as server:
        words = [str(store.folder), f"{server.url}/000000.tar", str(SIZE), sha256(content)]
        command = [sys.executable, "-c", FETCH, *words]
        both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        assert [one.communicate()[0] for one in both] == ["3500\n"] * 2
        assert [fault for _, _, fault in server.requests] == ["cut", None]


def test_one_waits_for_another_that_fetches(folder, store):
    """And finds what that one has renamed, and asks for nothing."""
    store.folder.mkdir(parents=True)
    content = CONTENT["000000.tar"]
    part = store.folder / f".{sha256(content)}.{SIZE}.part"
    with serve(folder) as server, part.open("wb") as file, ThreadPoolExecutor(1) as pool:
        fcntl.flock(file, fcntl.LOCK_EX)
        found = pool.submit(fetch, store, server)
        with pytest.raises(TimeoutError):
            found.result(0.2)
        file.write(content)
        file.flush()
        part.rename(store.folder / f"{sha256(content)}.tar")
        fcntl.flock(file, fcntl.LOCK_UN)
        assert found.result(10) == content
        assert server.requests == []


def test_one_waits_for_another_that_fails(folder, store):
    """And fetches the shard itself."""
    store.folder.mkdir(parents=True)
    content = CONTENT["000000.tar"]
    part = store.folder / f".{sha256(content)}.{SIZE}.part"
    with serve(folder) as server, part.open("wb") as file, ThreadPoolExecutor(1) as pool:
        fcntl.flock(file, fcntl.LOCK_EX)
        found = pool.submit(fetch, store, server)
        with pytest.raises(TimeoutError):
            found.result(0.2)
        part.unlink()
        fcntl.flock(file, fcntl.LOCK_UN)
        assert found.result(10) == content


def test_a_shard_that_came_before_the_lock_did(folder, store):
    content = CONTENT["000000.tar"]
    with serve(folder) as server:
        fetch(store, server)
        count = len(server.requests)
        digest = sha256(content)
        assert store._fetch(f"{server.url}/000000.tar", SIZE, digest, digest) is None
        assert len(server.requests) == count
    assert not list(store.folder.glob(".*.part"))
