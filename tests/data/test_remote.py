# SPDX-License-Identifier: Apache-2.0
"""Any store that fsspec knows: its own in memory stands for S3, well and ill."""

import itertools
from types import SimpleNamespace

import aiohttp
import fsspec
import numpy as np
import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image

from iclmsr.data.remote import Patience, Remote
from iclmsr.data.shard_store import ShardStore
from iclmsr.data.shard_writer import shard
from iclmsr.data.shards import open_shards
from iclmsr.data.sources import DataConfig, load
from iclmsr.data.trees import open_tree
from iclmsr.errors import IclmsrError


def short(content):
    return content[: len(content) // 2]


class Failing(MemoryFileSystem):
    """The same files, of which every other read fails in a way of its own."""

    protocol = "failing"
    store: dict = {}  # noqa: RUF012 - as the class above has it
    pseudo_dirs = [""]  # noqa: RUF012
    faults = itertools.repeat(None)

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("failing:/"))

    def cat_file(self, path, start=None, end=None, **kwargs):
        fault = next(self.faults)
        if isinstance(fault, Exception):
            raise fault
        content = super().cat_file(path, start, end, **kwargs)
        return fault(content) if fault is not None else content


fsspec.register_implementation("failing", Failing, clobber=True)


@pytest.fixture
def images(tmp_path, monkeypatch):
    """A folder of images; every cache is the test's own."""
    monkeypatch.setenv("ICLMSR_CACHE", str(tmp_path / "cache"))
    for number in range(12):
        path = tmp_path / "images" / "train" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), np.uint8)
        Image.fromarray(pixels).save(path)
    shard(open_tree(tmp_path / "images"), tmp_path / "shards", shard_size=4000)
    return tmp_path / "images"


@pytest.fixture(params=["memory", "failing"])
def url(request, images):
    """The shards of the images in a bucket."""
    files = fsspec.filesystem(request.param)
    shards = images.with_name("shards")
    for path in shards.rglob("*"):
        if path.is_file():
            files.pipe_file(f"/bucket/set/{path.relative_to(shards)}", path.read_bytes())
    yield f"{request.param}://bucket/set"
    files.rm("/bucket", recursive=True)


@pytest.fixture
def faults(monkeypatch):
    """``faults(...)``: what happens at each read, over and over."""

    def set_faults(*found):
        monkeypatch.setattr(Failing, "faults", itertools.cycle(found))

    return set_faults


def patient(tmp_path):
    patience = Patience(tries=4, chunk=1000, sleep=lambda _: None)
    return ShardStore(tmp_path / "cache" / "shards", remote=Remote(patience))


def test_images_from_a_bucket_are_those_of_the_folder(images, url):
    expected = load(DataConfig("folder", images, 16), "train")
    found = load(DataConfig("folder", url, 16), "train")
    assert torch.equal(found.images, expected.images)
    assert torch.equal(found.labels, expected.labels)
    assert found.classes == expected.classes


@pytest.mark.parametrize(
    "fault",
    [OSError(5, "Please reduce your request rate"), TimeoutError(), short],
    ids=["busy", "silent", "short"],
)
@pytest.mark.parametrize("url", ["failing"], indirect=True)
def test_what_fails_now_and_then_is_tried_again(images, url, fault, faults, tmp_path):
    tree = open_shards(url, patient(tmp_path))
    faults(fault, None)
    folder = open_tree(images)
    assert sorted(tree.files()) == sorted(folder.files())
    assert dict(tree.contents(tree.files())) == dict(folder.contents(folder.files()))


@pytest.mark.parametrize("url", ["failing"], indirect=True)
@pytest.mark.parametrize(
    "fault",
    [short, lambda content: content.replace(b"png", b"jpg", 1), lambda _: b"<html>"],
    ids=["short", "wrong", "page"],
)
def test_an_index_that_comes_damaged_is_fetched_again(images, url, fault, faults, tmp_path):
    faults(fault, fault, None)
    tree = open_shards(url, patient(tmp_path))
    assert sorted(tree.files()) == sorted(open_tree(images).files())
    faults(fault)
    with pytest.raises(IclmsrError, match=f"^{url}/index.json is no index of shards or is damaged"):
        open_shards(url, patient(tmp_path))


@pytest.mark.parametrize("url", ["failing"], indirect=True)
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (
            OSError(5, "Please reduce your request rate"),
            "tried 4 times, last: OSError: .*reduce.*: try later, or another copy",
        ),
        (
            TimeoutError(),
            "tried 4 times, last: nothing came for 60 seconds: try later, or another copy",
        ),
        (
            PermissionError(13, "Access Denied"),
            "tried once, last: PermissionError: .*Denied: mend the address or your rights",
        ),
    ],
    ids=["busy", "silent", "denied"],
)
def test_what_does_not_heal_is_said_in_one_line_and_leaves_nothing(
    url, fault, reason, faults, tmp_path
):
    tree = open_shards(url, patient(tmp_path))
    faults(fault)
    with pytest.raises(IclmsrError, match=f"^cannot read {url}/train/000000.tar: {reason}$"):
        tree.fetch(0)
    store = tmp_path / "cache" / "shards"
    assert [path.name for path in store.iterdir() if path.name != ".lock"] == []


@pytest.mark.parametrize("url", ["memory"], indirect=True)
def test_a_shard_that_is_not_there(url, tmp_path):
    tree = open_shards(url, patient(tmp_path))
    fsspec.filesystem("memory").rm("/bucket/set/train/000000.tar")
    with pytest.raises(IclmsrError, match=f"^cannot read {url}/train/000000.tar: tried once, .*"):
        tree.fetch(0)
    with pytest.raises(IclmsrError, match="^cannot read memory://elsewhere/index.json: .*"):
        open_shards("memory://elsewhere", patient(tmp_path))


def from_s3():
    """As s3fs says that a key is not there: with its client's own error as the cause."""
    error = FileNotFoundError("The specified key does not exist.")
    error.__cause__ = RuntimeError("An error occurred (NoSuchKey) when calling GetObject")
    return error


def from_http(cause):
    """As fsspec's HTTP says whatever it was."""
    error = FileNotFoundError("http://x/0.tar")
    error.__cause__ = cause
    return error


def from_aiohttp(status, why=None):
    """An answer with a status; or one that cannot be read, for which aiohttp makes one up."""
    asked = SimpleNamespace(real_url="http://x/0.tar")
    error = aiohttp.ClientResponseError(asked, (), status=status, message=str(why))
    error.__cause__ = why
    return error


GARBAGE = aiohttp.http_exceptions.BadStatusLine("\x7f" * 40_000)


@pytest.mark.parametrize(
    ("error", "tries"),
    [
        (from_aiohttp(400), 1),
        (from_aiohttp(416), 3),
        (from_aiohttp(400, GARBAGE), 3),
        (from_http(from_aiohttp(400, GARBAGE)), 3),
        (from_s3(), 1),
        (FileNotFoundError("0.tar"), 1),
        (PermissionError(13, "Access Denied"), 1),
        (from_http(from_aiohttp(403)), 1),
        (from_http(from_aiohttp(503)), 3),
        (from_http(aiohttp.ServerDisconnectedError()), 3),
        (from_http(ConnectionResetError(104, "reset")), 3),
        (from_http(TimeoutError()), 3),
        (OSError(5, "Please reduce your request rate"), 3),
    ],
)
def test_what_is_tried_again(error, tries):
    tried = []

    def action():
        tried.append(1)
        raise error

    with pytest.raises(IclmsrError, match="^cannot read s3://x: tried ") as caught:
        Patience(tries=3, sleep=lambda _: None).keep_trying("s3://x", action)
    assert len(tried) == tries
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("cause", "said"),
    [
        (from_aiohttp(403), "ClientResponseError: 403, "),
        (from_aiohttp(503), "ClientResponseError: 503, "),
        (TimeoutError(), "nothing came for 60 seconds"),
        (ConnectionResetError(104, "reset"), r"ConnectionResetError: \[Errno 104\] reset"),
    ],
)
def test_a_message_has_the_servers_answer_and_not_what_stands_for_it(cause, said):
    def action():
        raise from_http(cause)

    with pytest.raises(IclmsrError, match=f"^cannot read http://x: tried .*, last: {said}"):
        Patience(tries=2, sleep=lambda _: None).keep_trying("http://x", action)


def test_a_wait_that_is_asked_for_behind_what_stands_for_it():
    answer, naps = from_aiohttp(429), []
    answer.headers = {"Retry-After": "7"}

    def action():
        raise from_http(answer)

    with pytest.raises(IclmsrError, match="429"):
        Patience(tries=2, sleep=naps.append).keep_trying("http://x", action)
    assert naps == [7.0]


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://127.0.0.1:99999/x", "Port out of range 0-65535"),
        ("http://127.0.0.1:http/x", "Invalid URL: port can't be converted to integer"),
        ("https:///x", "it names no server"),
        ("github://x", r".* missing 2 required positional arguments: 'org' and 'repo'"),
    ],
)
def test_an_address_that_is_none_is_not_tried(url, why):
    remote = Remote(Patience(sleep=pytest.fail))
    for ask in (remote.read, remote.facts):
        with pytest.raises(IclmsrError, match=f"^cannot read {url}: {why}: mend the address$"):
            ask(url)


def test_a_server_that_does_not_say_how_long_a_file_is(monkeypatch):
    monkeypatch.setattr(Failing, "info", lambda self, path: {"name": path, "size": None})
    with pytest.raises(IclmsrError, match="^cannot read failing://x: .* `iclmsr data shard` makes"):
        Remote().facts("failing://x")


def test_a_kind_of_url_that_nobody_knows(tmp_path):
    with pytest.raises(IclmsrError, match="^cannot read nothing://x/index.json: .*nothing"):
        open_shards("nothing://x", patient(tmp_path))
