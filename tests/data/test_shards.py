# SPDX-License-Identifier: Apache-2.0
import pickle
import re

import numpy as np
import pytest
import torch
from flaky import STALL, serve
from PIL import Image

from iclmsr.config import PretrainConfig, decode, encode
from iclmsr.data import remote
from iclmsr.data.feed import feed_of
from iclmsr.data.file_set import FileSet
from iclmsr.data.listing import FOLDERS, Rules, list_folder
from iclmsr.data.remote import Patience
from iclmsr.data.shard_order import shard_order
from iclmsr.data.shard_writer import shard
from iclmsr.data.shards import ShardTree
from iclmsr.data.sources import DataConfig, load, open_split, prepare
from iclmsr.data.trees import open_tree
from iclmsr.errors import IclmsrError

GENERATOR = np.random.default_rng(0)
SIZE = 8
NAMES = [
    f"{split}/{name}/{number}.png"
    for split, count in (("train", 20), ("test", 4))
    for name in ("ant", "bee", "cat")
    for number in range(count)
]


def pixels(*shape):
    return GENERATOR.integers(0, 256, (SIZE, SIZE, *shape), np.uint8)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "images"
    for name in NAMES:
        save(root / name, pixels(3))
        save(root.parent / "masks" / name, pixels())
    return root


@pytest.fixture(scope="module")
def shards(source):
    out = source.parent / "shards"
    masks = open_tree(source.parent / "masks")
    shard(open_tree(source), out, masks=masks, shard_size=32 << 10)
    return out


@pytest.fixture(autouse=True)
def quick(tmp_path, monkeypatch):
    """Little patience, no sleep, small pieces, a cache of one's own."""
    patience = Patience(tries=4, timeout=STALL / 2, chunk=15_000, sleep=float)
    monkeypatch.setattr(remote.Remote.__init__, "__defaults__", (patience,))
    monkeypatch.setenv("ICLMSR_CACHE", str(tmp_path / "cache"))


def images(root, split="train", **options):
    return load(DataConfig("folder", root=root, image_size=SIZE, **options), split)


def same(found, expected):
    assert found.fingerprint() == expected.fingerprint()
    assert found.classes == expected.classes
    assert (found.masks is None) == (expected.masks is None)
    assert found.masks is None or torch.equal(found.masks, expected.masks)


@pytest.mark.parametrize("split", ["pretrain", "test"])
@pytest.mark.parametrize("limit", [None, 7])
def test_shards_read_like_the_folder(source, shards, split, limit):
    same(images(shards, split, limit=limit), images(source, split, limit=limit))
    with serve(shards) as server:
        same(images(server.url, split, limit=limit), images(source, split, limit=limit))
        same(images(f"{server.url}/", split), images(source, split))


def test_masks_and_class_list(source, shards, tmp_path):
    chosen = tmp_path / "classes.txt"
    chosen.write_text("ant\ncat\n")
    expected = images(source, masks=source.parent / "masks", class_list=chosen)
    assert expected.masks is not None
    same(images(shards, masks=shards, class_list=chosen), expected)
    same(images(shards, masks=source.parent / "masks", class_list=chosen), expected)
    with serve(shards) as server:
        same(images(server.url, masks=server.url, class_list=chosen), expected)
        same(images(source, masks=server.url, class_list=chosen), expected)


FAULTS = ["cut", None, 500, "stall", "wrong", None, "reset", "short", 503, None, None, "cut"]


def test_a_server_that_stalls_cuts_and_fails_in_between(source, shards):
    """Every sample's bytes are right, none is missing and none comes twice."""
    with serve(shards, FAULTS) as server:
        tree = open_tree(server.url)
        assert tree.files() == sorted(NAMES)
        found = list(tree.contents(NAMES))
        assert sorted(name for name, _ in found) == sorted(NAMES)
        assert dict(found) == {name: (source / name).read_bytes() for name in NAMES}
        assert len(server.requests) > len(FAULTS)  # all faults have come
    assert {name: tree.read(name) for name in NAMES} == dict(found)  # the server is gone


def test_a_server_that_never_heals(shards):
    with serve(shards, always=503) as server:
        url = re.escape(server.url)
        with pytest.raises(IclmsrError) as caught:
            images(server.url)
        assert re.fullmatch(
            rf"cannot read {url}/train/000000\.tar: tried 4 times, last: \w+: 503, .*",
            str(caught.value),
        )


def test_no_shards_at_a_url(source):
    with serve(source) as server:
        with pytest.raises(IclmsrError, match=r"cannot read .*/index\.json: tried once, last: F.*"):
            images(server.url)
        (source.parent / "index.json").write_text("<html>")
    with serve(source.parent) as server, pytest.raises(IclmsrError, match="is no index of shards"):
        images(server.url)
    with pytest.raises(IclmsrError, match="cannot read gopher://x/index.json: .*gopher"):
        images("gopher://x")


def test_other_file_systems(source, shards):
    same(images(f"file://{shards}"), images(source))


def test_one_file_is_read_from_the_one_shard_that_has_it(source, shards):
    with serve(shards) as server:
        tree = open_tree(server.url)
        assert tree.read(NAMES[5]) == (source / NAMES[5]).read_bytes()
        asked = {path for path, _, _ in server.requests}
        number = tree.shards_of([NAMES[5]]).item()
        assert asked == {f"/{tree.shards[number].name}"}
        copy = pickle.loads(pickle.dumps(tree))
        assert copy.read(NAMES[5]) == (source / NAMES[5]).read_bytes()
        with pytest.raises(FileNotFoundError):
            tree.read("train/ant/none.png")


def test_the_cache_has_room_for_some_shards_only(source, shards, monkeypatch):
    monkeypatch.setattr("iclmsr.data.shard_store.GIB", 70_000)
    monkeypatch.setattr("iclmsr.data.trees.SHARD_CACHE", 1.0)
    with serve(shards) as server:
        same(images(server.url, shard_cache=1.0), images(source))
        assert len({path for path, _, _ in server.requests}) > 3
    with pytest.raises(IclmsrError, match="data.shard-cache must be > 0 GiB, got 0"):
        DataConfig(shard_cache=0)


@pytest.mark.parametrize("resident", ["memory", "disk"])
def test_a_copy_that_was_damaged_in_the_cache_is_no_damage(source, shards, tmp_path, resident):
    """Images and masks whose bytes in the cache are zeros, under any length."""
    options = {"masks": f"file://{shards}", "resident": resident}
    config = DataConfig("folder", f"file://{shards}", SIZE, **options)
    expected = images(source, masks=source.parent / "masks")

    def pixels_and_masks():
        found = open_split(config, "pretrain")
        if isinstance(found, FileSet):
            index = torch.arange(len(found))
            with feed_of(found, torch.device("cpu"), 0) as feed:
                return feed.fetch_masked(index)
        return found.images, found.masks

    pixels_and_masks()
    for path in (tmp_path / "cache" / "shards").glob("*.tar"):
        path.write_bytes(bytes(path.stat().st_size))
    for found, one in zip(pixels_and_masks(), (expected.images, expected.masks), strict=True):
        assert torch.equal(found, one)


def test_the_tree_from_a_folder_in_it(shards):
    tree = open_tree(shards)
    assert isinstance(tree, ShardTree)
    assert tree.folders() == ["test", "train"]
    assert tree.folders("train") == ["ant", "bee", "cat"]
    assert tree.folders("train/ant") == []
    assert tree.folders("tr") == tree.files("tr") == []
    inner = tree.below("train").below("ant")
    assert inner.files() == sorted(f"{number}.png" for number in range(20))
    assert inner.read("3.png") == tree.read("train/ant/3.png")
    assert inner.where("3.png") == f"{shards}/train/ant/3.png"
    assert tree.masks().read("train/ant/3.png") != tree.read("train/ant/3.png")


def test_classes_are_in_the_order_of_the_folders(tmp_path):
    names = ["tree", "tree frog", "tree-frog", "tree.frog"]
    for name in names:
        save(tmp_path / "set" / "train" / name / "0.png", pixels(3))
    shard(open_tree(tmp_path / "set"), tmp_path / "shards")
    tree = open_tree(tmp_path / "shards")
    assert tree.folders("train") == open_tree(tmp_path / "set").folders("train") == names
    same(images(tmp_path / "shards"), images(tmp_path / "set"))


def test_an_epoch_needs_few_shards_at_a_time(shards):
    tree = open_tree(shards)
    files = list_folder(tree, "train", Rules(FOLDERS)).files
    which = tree.shards_of(files)
    generator = torch.Generator().manual_seed(0)
    order = shard_order(which, window=2, generator=generator)
    seen = which[order].tolist()
    changes = [shard for at, shard in enumerate(seen) if shard not in seen[:at]]
    for at, one in enumerate(seen):
        assert changes.index(one) // 2 == changes.index(seen[max(at - 1, 0)]) // 2 or (
            one not in seen[:at]
        )
    with pytest.raises(KeyError):
        tree.shards_of(["none.png"])


def test_a_truncated_shard_and_a_damaged_index(source, shards, tmp_path):
    copy = tmp_path / "copy"
    for path in [*shards.glob("*/*.tar"), shards / "index.json"]:
        (copy / path.relative_to(shards)).parent.mkdir(parents=True, exist_ok=True)
        (copy / path.relative_to(shards)).write_bytes(path.read_bytes())
    same(images(copy), images(source))
    first = copy / "train" / "000000.tar"
    content = first.read_bytes()
    first.write_bytes(content[:-100])
    message = f"{first} is damaged: {len(content) - 100:,} bytes, expected {len(content):,}: copy"
    with pytest.raises(IclmsrError, match=message):
        images(copy)
    first.unlink()
    with pytest.raises(IclmsrError, match=f"cannot read {first}: No such file"):
        images(copy)
    first.write_bytes(content)
    index = (copy / "index.json").read_bytes()
    for spoilt in (index[:-50], index[50:], b"", index.replace(b"ant", b"cow")):
        (copy / "index.json").write_bytes(spoilt)
        with pytest.raises(IclmsrError, match=f"{copy}/index.json is no index .* is damaged"):
            images(copy)


def test_an_index_json_of_something_else(source, tmp_path):
    save(tmp_path / "set" / "a" / "0.png", pixels(3))
    (tmp_path / "set" / "index.json").write_text("{}")
    assert len(images(tmp_path / "set")) == 1


def test_a_folder_of_shards_can_be_prepared_and_a_url_cannot(source, shards):
    config = DataConfig("folder", root=shards, image_size=SIZE)
    same(prepare(config, "train"), images(source, "train"))
    same(load(config, "train"), images(source, "train"))
    with pytest.raises(IclmsrError, match="data.root http://x .* only files in folders and"):
        prepare(DataConfig("folder", root="http://x"), "train")


@pytest.mark.parametrize("source_name", ["cifar10", "cifar100", "stl10", "tiny-imagenet"])
def test_sources_that_have_files_of_their_own(source_name):
    with pytest.raises(IclmsrError, match="cannot be read from http://x/y: a URL has shards"):
        load(DataConfig(source_name, root="http://x/y"), "train")


@pytest.mark.parametrize("root", ["http://host//a/b?c=d", "s3://bucket/x-{000..009}.tar", "a/b"])
def test_a_url_stays_one(root):
    data = DataConfig("folder", root=root, masks=root)
    assert str(data.root) == str(data.masks) == root
    assert isinstance(data.root, str) == ("://" in root)
    config = PretrainConfig(data=data)
    assert decode(PretrainConfig, encode(config)) == config
