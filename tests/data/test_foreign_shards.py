# SPDX-License-Identifier: Apache-2.0
import gzip
import io
import json
import os
import re
import reprlib
import tarfile
import warnings
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from flaky import STALL, serve
from PIL import Image

from iclmsr.data import remote
from iclmsr.data.check import check
from iclmsr.data.found import guess
from iclmsr.data.remote import Patience
from iclmsr.data.shard_writer import shard
from iclmsr.data.sources import DataConfig, load
from iclmsr.data.trees import open_tree
from iclmsr.errors import IclmsrError

GENERATOR = np.random.default_rng(0)
SIZE = 8
NOTICE = "has no index: reading all shards once to make one"


def picture():
    buffer = io.BytesIO()
    Image.fromarray(GENERATOR.integers(0, 256, (SIZE, SIZE, 3), np.uint8)).save(buffer, "png")
    return buffer.getvalue()


def pack(path, members, kind=tarfile.REGTYPE):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size, member.type = len(content), kind
            archive.addfile(member, io.BytesIO(content))
    return path


def labelled(number, labels, label="cls"):
    """Keys that every shard has, as WebDataset's own writers make them."""
    for at, one in enumerate(labels):
        yield f"{at:04d}.png", picture()
        text = one if label == "cls" else json.dumps({"label": one, "caption": "x"})
        yield f"{at:04d}.{label}", str(text).encode()
        yield f"{at:04d}.txt", b"a caption"


@pytest.fixture(autouse=True)
def quick(tmp_path, monkeypatch):
    patience = Patience(tries=4, timeout=STALL / 2, sleep=float)
    monkeypatch.setattr(remote.Remote.__init__, "__defaults__", (patience,))
    monkeypatch.setenv("ICLMSR_CACHE", str(tmp_path / "cache"))


def opened(pattern):
    with pytest.warns(UserWarning, match=NOTICE):
        return open_tree(pattern)


def fails(message, pattern):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(IclmsrError, match=f"^{message}$"):
            open_tree(pattern)


@pytest.mark.parametrize("label", ["cls", "json"])
def test_numbers_are_classes_in_their_order(tmp_path, label):
    parts = [list(labelled(number, [10, 2, 0], label)) for number in range(2)]
    for number, members in enumerate(parts):
        pack(tmp_path / f"set-{number:06d}.tar", members)
    pattern = tmp_path / "set-{000000..000001}.tar"
    tree = opened(pattern)
    assert tree.folders() == ["00", "02", "10"]
    assert tree.files("10") == ["10/000000/0000.png", "10/000001/0000.png"]
    assert tree.read("02/000001/0001.png") == parts[1][3][1]
    found = load(DataConfig("folder", root=pattern, image_size=SIZE), "train")
    assert found.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert found.classes == ("00", "02", "10")


def test_shards_may_be_called_in_upper_case(tmp_path):
    for number in range(2):
        pack(tmp_path / f"{number}.TAR", labelled(number, [1, 0]))
    assert opened(tmp_path / "{0..1}.TAR").folders() == ["0", "1"]
    assert len(open_tree(tmp_path).files()) == 4


def test_names_are_classes(tmp_path):
    pack(tmp_path / "0.tar", labelled(0, ["cat", "a/b", "..", "cat"]))
    tree = opened(f"file://{tmp_path}/0.tar")
    assert tree.folders() == ["_.", "a_b", "cat"]


def test_minus_one_goes_before_all_other_numbers(tmp_path):
    pack(tmp_path / "0.tar", labelled(0, [10, -1, 2, 0]))
    assert opened(tmp_path / "{0..0}.tar").folders() == ["-1", "00", "02", "10"]


@pytest.mark.parametrize(
    ("labels", "name"), [(["a/b", "a_b"], "a_b"), ([".x", "_x"], "_x"), (["1", "01"], "01")]
)
def test_two_labels_are_never_one_class(tmp_path, labels, name):
    pack(tmp_path / "0.tar", labelled(0, labels))
    one, other = map(re.escape, map(repr, labels))
    message = rf"0000 in 0\.tar has label {one} and 0001 .* has {other}, which .*, '{name}': .*"
    fails(message, tmp_path / "{0..0}.tar")


def test_splits_by_the_shards_names(tmp_path):
    pack(tmp_path / "pets-train-0.tar", labelled(0, [0, 1]))
    pack(tmp_path / "pets-val-0.tar", labelled(0, [1, 0, 0]))
    root = tmp_path / "pets-{train,val}-0.tar"
    with pytest.warns(UserWarning, match=NOTICE):
        test = load(DataConfig("folder", root=root, image_size=SIZE), "test")
    train = load(DataConfig("folder", root=root, image_size=SIZE), "train")
    assert (train.labels.tolist(), test.labels.tolist()) == ([0, 1], [0, 0, 1])


def test_without_labels(tmp_path):
    for number in range(2):
        pack(tmp_path / f"{number}.tar", [(f"{at}.PNG", picture()) for at in range(2)])
    root = tmp_path / "{0..1}.tar"
    tree = opened(root)
    assert tree.files() == ["000000-0.png", "000000-1.png", "000001-0.png", "000001-1.png"]
    found = load(DataConfig("folder", root=root, image_size=SIZE), "pretrain")
    assert found.labels.tolist() == [-1] * 4


def sample(number, label, *, mask=False):
    buffer = io.BytesIO()
    Image.fromarray(np.eye(SIZE, dtype=np.uint8) * 255).save(buffer, "png")
    masks = [(f"{number}.mask.png", buffer.getvalue())] if mask else []
    return [(f"{number}.png", picture()), (f"{number}.cls", str(label).encode()), *masks]


@pytest.mark.parametrize("folder", ["set", "{a,b}"])
def test_one_shard_or_a_folder_of_them_without_a_pattern(tmp_path, folder):
    root = tmp_path / folder
    pack(root / "0.tar", sample(0, "cat", mask=True) + sample(1, "dog", mask=True))
    with pytest.warns(UserWarning, match=NOTICE):
        config = guess(root / "0.tar")
    assert config == DataConfig("folder", root / "0.tar", SIZE, masks=root / "0.tar")
    found = load(config, "train")
    assert found.classes == ("cat", "dog")
    assert found.masks.sum((1, 2)).tolist() == [SIZE, SIZE]
    assert check(config).problems() == []
    pack(root / "1.tar", sample(0, "cat"))
    (root / "README.txt").touch()
    with pytest.warns(UserWarning, match=NOTICE):
        found = load(DataConfig("folder", root, image_size=SIZE), "train")
    assert found.labels.tolist() == [0, 0, 1]


def test_a_class_of_shards_may_be_called_masks(tmp_path):
    root = pack(tmp_path / "0.tar", sample(0, "masks") + sample(1, "cat"))
    with pytest.warns(UserWarning, match=NOTICE):
        found = load(DataConfig("folder", root, image_size=SIZE), "train")
    assert found.classes == ("cat", "masks")
    assert check(guess(root)).splits["train"].counts() == {"cat": 1, "masks": 1}


@pytest.mark.parametrize("names", [("cat", "train"), ("TEST", "dog"), ("Train", "val")])
def test_a_class_of_shards_may_be_called_like_a_split(tmp_path, names):
    """CIFAR-100, VOC and COCO have a class train."""
    root = tmp_path / "set" / "{0..1}.tar"
    for number in range(2):
        pack(tmp_path / "set" / f"{number}.tar", labelled(number, names))
    tree = opened(root)
    assert tree.files() == [f"train/{names[i]}/00000{j}/000{i}.png" for i in (0, 1) for j in (0, 1)]
    config = DataConfig("folder", root=root, image_size=SIZE)
    found = load(config, "pretrain")
    assert (found.classes, found.labels.tolist()) == (names, [0, 0, 1, 1])
    assert check(config).splits["train"].counts() == dict.fromkeys(names, 2)
    assert check(config).notes()[0].startswith("no test images")
    index = shard(tree, tmp_path / "out")
    assert index.classes == {"train": names}


def test_a_class_called_train_in_shards_of_splits(tmp_path):
    for split in ("train", "test"):
        pack(tmp_path / f"{split}.tar", labelled(0, ["cat", "train"]))
    tree = opened(tmp_path / "{train,test}.tar")
    assert tree.folders() == ["test", "train"]
    assert tree.folders("train") == ["cat", "train"]


def test_either_all_shards_names_have_a_split_or_none(tmp_path):
    for name in ("train-0", "test-0", "extra-0"):
        pack(tmp_path / f"{name}.tar", labelled(0, [0, 1]))
    message = r"extra-0\.tar has no train, test or val in its name, but test-0\.tar has: rename .*"
    fails(message, tmp_path)
    fails(message.replace("test-0", "train-0"), tmp_path / "{train,extra}-0.tar")
    pack(tmp_path / "train-0.tar", [("train/cat/0.png", picture())])
    pack(tmp_path / "extra-0.tar", [("train/dog/0.png", picture())])
    tree = opened(tmp_path / "{train,extra}-0.tar")  # paths say it
    assert tree.files() == ["train/cat/0.png", "train/dog/0.png"]


def test_splits_in_folders_of_shards(tmp_path):
    for split, count in (("train", 3), ("val", 2)):
        pack(
            tmp_path / split / "000000.tar",
            chain.from_iterable(sample(n, n % 2) for n in range(count)),
        )
    with pytest.warns(UserWarning, match=NOTICE):
        test = load(DataConfig("folder", tmp_path, image_size=SIZE), "test")
    assert len(load(DataConfig("folder", tmp_path, image_size=SIZE), "train")) == 3
    assert test.labels.tolist() == [0, 1]


def test_archives_that_are_no_shards(tmp_path):
    plain = [("cat/0.png", picture()), ("cat/0.json", b"{}"), ("dog/1.png", picture())]
    assert open_tree(pack(tmp_path / "set" / "0.tar", plain)).folders() == ["cat", "dog"]
    fails(
        rf"no images in {tmp_path}/set, but 1 archives, and the first one, 0\.tar, has no labels .*"
        r": name one of them, or all as .*/set/NAME-\{000\.\.099\}\.tar",
        tmp_path / "set",
    )
    (tmp_path / "set" / "cat").mkdir()
    (tmp_path / "set" / "cat" / "0.png").touch()
    assert open_tree(tmp_path / "set").folders() == ["cat"]
    with tarfile.open(tmp_path / "0.tar.gz", "w:gz") as archive:
        for name in ("0.png", "0.cls"):
            archive.addfile(tarfile.TarInfo(name))
    fails(rf"{tmp_path}/0\.tar\.gz: a shard that is compressed .*", tmp_path / "0.tar.gz")


def test_tars_of_parts_of_a_folder(tmp_path):
    pack(tmp_path / "a.tar", [("train/cat/0.png", picture()), ("train/.x/1.png", b"")])
    pack(tmp_path / "b.tar", [("train/dog/0.png", picture()), ("._2.png", b"")])
    tree = opened(tmp_path / "{a,b}.tar")
    assert tree.files() == ["train/cat/0.png", "train/dog/0.png"]
    pack(tmp_path / "b.tar", [("train/cat/0.png", picture())])
    fails(r"b\.tar: another shard has an image train/cat/0\.png too: .*", tmp_path / "{a,b}.tar")


@pytest.mark.parametrize("inside", ["", "{}/"])
def test_splits_of_folders_by_the_shards_names(tmp_path, inside):
    for split in ("train", "val"):
        keys = [inside.format(split) + f"{name}/{split}0" for name in ("cat", "dog")]
        pack(tmp_path / f"pets-{split}-0.tar", [(f"{key}.png", picture()) for key in keys])
    tree = opened(tmp_path / "pets-{train,val}-0.tar")
    assert tree.files() == [
        f"{split}/{name}/{split}0.png" for split in ("train", "val") for name in ("cat", "dog")
    ]


def test_masks(tmp_path):
    mask = io.BytesIO()
    Image.fromarray(np.eye(SIZE, dtype=np.uint8) * 255).save(mask, "png")
    members = [
        (f"{at}.{kind}", content)
        for at in range(2)
        for kind, content in (("mask.png", mask.getvalue()), ("cls", b"0"), ("png", picture()))
    ]
    root = pack(tmp_path / "0.tar", members)
    with pytest.warns(UserWarning, match=NOTICE):
        open_tree(f"file://{root}")
    url = f"file://{root}"
    found = load(DataConfig("folder", root=url, masks=url, image_size=SIZE), "train")
    assert torch.equal(found.masks, torch.eye(SIZE).bool().expand(2, -1, -1))
    pack(root, labelled(0, ["0"]))
    with pytest.warns(UserWarning, match=NOTICE):
        tree = open_tree(root.with_name("{0..0}.tar"))
    with pytest.raises(IclmsrError, match="have no masks: leave out data.masks"):
        tree.masks()


def test_shards_of_ours_without_their_index(tmp_path):
    files = {f"{name}/{at}.png": picture() for name in "ab" for at in range(5)}
    for name, content in files.items():
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(content)
    index = shard(open_tree(tmp_path / "set"), tmp_path / "out", shard_size=8 << 10)
    assert len(index.shards) == 4
    tree = opened(tmp_path / "out" / "{000000..000003}.tar")
    assert {content for _, content in tree.contents(tree.files())} == set(files.values())


@pytest.mark.parametrize("fault", [None, "cut", "stall", 500, "short"])
def test_from_a_url_each_shard_is_read_once(tmp_path, fault):
    parts = [list(labelled(number, [0, 1])) for number in range(2)]
    for number, members in enumerate(parts):
        pack(tmp_path / "served" / f"{number}.tar", members)
    with serve(tmp_path / "served", [None, fault]) as server:
        pattern = server.url + "/{0..1}.tar"
        tree = opened(pattern)
        assert tree.read("1/000001/0001.png") == parts[1][3][1]
        count = len(server.requests)
        again = open_tree(pattern)  # known by now
        assert again.files() == tree.files()
        assert again.read("0/000000/0000.png") == parts[0][0][1]
        assert len(server.requests) == count == 2 + (fault is not None)


def test_a_shard_that_comes_damaged_is_fetched_again(tmp_path):
    pack(tmp_path / "served" / "0.tar", labelled(0, [0, 1]))
    with serve(tmp_path / "served", ["wrong", "wrong"]) as server:
        assert opened(f"{server.url}/0.tar").files() == ["0/000000/0000.png", "1/000000/0001.png"]
        assert len(server.requests) == 3
    with serve(tmp_path / "served", always="wrong") as server:
        fails(r"http.*/0\.tar: truncated or corrupt shard \(.+", f"{server.url}/0.tar")
        assert len(server.requests) == 4


@pytest.mark.parametrize("labels", [[0], [0] * 20])
def test_a_shard_that_is_not_as_noted(tmp_path, labels):
    """Its first transfer was spoilt, or it was replaced by one of another length."""
    path = pack(tmp_path / "served" / "0.tar", labelled(0, [0]))
    with serve(path.parent) as server:
        tree = opened(f"{server.url}/0.tar")
        (kept,) = (tmp_path / "cache" / "shards").glob("*.tar")
        (note,) = kept.parent.glob("*.json")
        kept.unlink()
        pack(path, labelled(0, labels))
        message = rf"^cannot read http.*; if it was changed there, remove {note} to have it read .*"
        with pytest.raises(IclmsrError, match=message):
            tree.read("0/000000/0000.png")
        note.unlink()
        assert opened(f"{server.url}/0.tar").read("0/000000/0000.png") in path.read_bytes()


def test_a_shard_that_is_replaced_while_it_is_first_read_is_read_again(tmp_path, monkeypatch):
    path = pack(tmp_path / "x-0.tar", labelled(0, "abab"))
    fresh = pack(tmp_path / "fresh.tar", labelled(0, "baba"))
    size = path.stat().st_size
    assert fresh.stat().st_size == size
    patience = Patience(chunk=size // 2, sleep=float)
    monkeypatch.setattr(remote.Remote.__init__, "__defaults__", (patience,))
    pieces = remote.Remote.pieces

    def replaced(self, *args):
        for piece in pieces(self, *args):
            yield piece
            if fresh.exists():
                fresh.rename(path)

    monkeypatch.setattr(remote.Remote, "pieces", replaced)
    pattern = f"{tmp_path}/x-{{0..0}}.tar"
    with pytest.warns(UserWarning, match=NOTICE):
        found = load(DataConfig("folder", f"file://{pattern}", SIZE), "pretrain")
    with pytest.warns(UserWarning, match=NOTICE):
        expected = load(DataConfig("folder", Path(pattern), SIZE), "pretrain")
    assert found.fingerprint() == expected.fingerprint()


def test_a_note_that_is_damaged_is_made_anew(tmp_path):
    root = pack(tmp_path / "0.tar", labelled(0, [0, 1]))
    expected = opened(f"file://{root}").files()
    (note,) = (tmp_path / "cache" / "shards").glob("*.json")
    written = note.read_text()
    older = written.replace('"version": 2', '"version": 1').replace(".png", ".jpg")
    for spoilt in ("", "[]", "{}", written[:-20], older):
        note.write_text(spoilt)
        assert opened(f"file://{root}").files() == expected


def test_a_shard_that_was_changed_is_read_again(tmp_path):
    pattern = tmp_path / "{0..0}.tar"
    path = pack(tmp_path / "0.tar", labelled(0, [0]))
    assert len(opened(pattern).files()) == 1
    pack(path, labelled(0, [0, 1]))
    assert len(opened(pattern).files()) == 2


@pytest.mark.parametrize(
    ("members", "kind", "why"),
    [
        (
            [("../../evil.png", b"x")],
            tarfile.REGTYPE,
            "'../../evil.png' leads out of the archive: do not use it, or pack it anew",
        ),
        (
            [("/etc/evil.png", b"x")],
            tarfile.REGTYPE,
            "'/etc/evil.png' leads out of the archive: do not use it, or pack it anew",
        ),
        ([("a.png", b"")], tarfile.SYMTYPE, "'a.png' is a link to '': pack files, not links"),
    ],
)
def test_members_that_lead_out_are_refused(tmp_path, members, kind, why):
    path = pack(tmp_path / "0.tar", members, kind)
    message = f"{path}: refusing this archive: its member {re.escape(why)}"
    fails(message, tmp_path / "{0..0}.tar")


def test_truncated_and_damaged_shards(tmp_path):
    path = pack(tmp_path / "0.tar", labelled(0, [0, 1]))
    content = path.read_bytes()
    end = len(content.rstrip(b"\0"))
    for length in [0, 1, 512, *range(700, end, 512)]:
        path.write_bytes(content[:length])
        fails(
            rf"{path}: truncated or corrupt shard \(.+\): found {length:,} bytes; make or download "
            "it again",
            tmp_path / "{0..0}.tar",
        )
    path.write_text("404")
    fails(rf"{path}: truncated or corrupt shard .*", tmp_path / "{0..0}.tar")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (gzip.compress(bytes(1024)), r"a \*\.tar\.gz archive by its content, no shard: pack .*"),
        (b"PK\3\4" + bytes(1024), r"a \*\.zip archive by its content, no shard: pack .*"),
        (b"\n<!DOCTYPE html>" + bytes(1024), "no tar archive but a web page, .* your rights"),
    ],
    ids=["gz", "zip", "page"],
)
def test_what_is_no_tar_is_fetched_once(tmp_path, content, why):
    (tmp_path / "0.tar").write_bytes(content)
    fails(f"{tmp_path}/0.tar: {why}", tmp_path / "{0..0}.tar")
    with serve(tmp_path) as server:
        fails(f"{server.url}/0.tar: {why}", f"{server.url}/0.tar")
        assert len(server.requests) == 1


def test_other_bad_shards(tmp_path):
    root = tmp_path / "{0..0}.tar"
    fails(rf"cannot read {tmp_path}/0\.tar: No such file or directory", root)
    pack(tmp_path / "0.tar", [("0.txt", b"x")])
    fails(rf"no images in {tmp_path}/0\.tar: looked for .*; make it anew, or leave it out", root)
    pack(tmp_path / "0.tar", [("0.png", b"x"), ("1.png", b"x"), ("1.cls", b"3")])
    fails(r"0 in 0\.tar has no label \(\.cls\), but 1 in 0\.tar has", root)
    pack(tmp_path / "0.tar", [("1.png", b"x"), ("1.cls", b" \n")])
    fails(r".* has an empty label", root)
    fails(r"http://x/0\.tar\.gz: shards that are compressed .*", "http://x/0.tar.gz")
    fails(r".*/\{0\.\.x\}\.tar: expected a range .*", tmp_path / "{0..x}.tar")


@pytest.mark.parametrize(
    ("names", "named"),
    [
        (["img.0.png", "img.0.cls", "img.1.png", "img.1.cls"], "img.0.png"),
        (["a/0.rgb.PNG", "a/0.cls"], "a/0.rgb.PNG"),
    ],
)
def test_images_with_several_dots_are_not_lost(tmp_path, names, named):
    pack(tmp_path / "0.tar", [(name, picture()) for name in [*names, "other.png"]])
    message = rf"{tmp_path}/0\.tar: '{re.escape(named)}' has several dots, .*: name images KEY.*"
    fails(message, tmp_path / "{0..0}.tar")


def test_a_key_that_comes_twice(tmp_path):
    pack(tmp_path / "0.tar", chain(labelled(0, [0, 1]), labelled(0, [0])))
    message = rf"{tmp_path}/0\.tar has an image '0000\.png' twice: give each a name of its own"
    fails(message, tmp_path / "{0..0}.tar")


@pytest.mark.parametrize("second", ["0.webp", "0.JPG"])
def test_a_key_with_two_images(tmp_path, second):
    """The first may be a mask."""
    pack(tmp_path / "0.tar", [("0.png", picture()), (second, picture()), ("0.cls", b"0")])
    message = (
        rf"{tmp_path}/0\.tar: key '0' has two images, 0\.png and {re.escape(second)}: keep one, "
        r"call a mask 0\.mask\.png, or give each a key of its own"
    )
    fails(message, tmp_path / "{0..0}.tar")
    fails(message, tmp_path / "0.tar")


@pytest.mark.parametrize("label", [[1, 2], {"a": 1}, 1.0, True, list(range(99))])
def test_labels_in_json_that_are_none(tmp_path, label):
    pack(tmp_path / "0.tar", labelled(0, [0, label], "json"))
    shown = re.escape(reprlib.repr(label))
    message = rf"{tmp_path}/0\.tar: '0001\.json' has the label {shown}, which is no class: write .*"
    fails(message, tmp_path / "{0..0}.tar")
    pack(tmp_path / "0.tar", [*labelled(0, [0, label], "json"), ("0001.cls", b"7")])
    assert opened(tmp_path / "{0..0}.tar").folders() == ["0", "7"]


@pytest.mark.parametrize("content", [b"no json", b"[1]", b"{}", b'{"label": null}'])
def test_json_without_a_label(tmp_path, content):
    pack(tmp_path / "0.tar", [("0.png", picture()), ("0.json", content)])
    assert opened(tmp_path / "{0..0}.tar").files() == ["000000-0.png"]


def test_labels_with_a_byte_order_mark(tmp_path):
    mark = b"\xef\xbb\xbf"
    members = [("0.cls", mark + b"1"), ("1.json", mark + b'{"label": 1}'), ("2.cls", b"\xef\xbb")]
    pack(tmp_path / "0.tar", [*members, *((f"{n}.png", picture()) for n in range(3))])
    assert opened(tmp_path / "{0..0}.tar").folders() == ["1", os.fsdecode(b"\xef\xbb")]


def test_names_that_are_not_utf_8(tmp_path):
    name = os.fsdecode(b"caf\xe9/\xff")
    pack(tmp_path / "0.tar", [(f"{name}.png", picture()), (f"{name}.cls", b"\xe9")])
    opened(tmp_path / "{0..0}.tar")
    tree = open_tree(tmp_path / "{0..0}.tar")  # from the note
    assert tree.files() == [os.fsdecode(b"\xe9/000000/caf\xe9/\xff.png")]
