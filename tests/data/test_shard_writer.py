# SPDX-License-Identifier: Apache-2.0
import errno
import hashlib
import io
import json
import os
import resource
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from iclmsr.data.shard_index import Sample, decode_index
from iclmsr.data.shard_writer import shard
from iclmsr.data.sources import DataConfig, load
from iclmsr.data.trees import open_tree
from iclmsr.errors import IclmsrError

GENERATOR = np.random.default_rng(0)
SIZE = 8
SHARD_SIZE = 16 << 10


def picture(kind="png"):
    buffer = io.BytesIO()
    Image.fromarray(GENERATOR.integers(0, 256, (SIZE, SIZE, 3), np.uint8)).save(buffer, kind)
    return buffer.getvalue()


FILES = {
    f"{split}/{name}/sub.folder/{number}.x.{kind}": picture({"png": "png", "JPG": "jpeg"}[kind])
    for split, count in (("train", 12), ("test", 3))
    for name in ("ant", "bee.1")
    for number in range(count)
    for kind in (("png", "JPG")[number % 2],)
}


def unpack(root, files):
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


@pytest.fixture
def source(tmp_path):
    return unpack(tmp_path / "images", FILES)


def write(source, out, **options):
    return shard(open_tree(source), out, **{"shard_size": SHARD_SIZE} | options)


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in files(folder)}


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def fails(message, *arguments, **options):
    with pytest.raises(IclmsrError, match=f"^{message}$"):
        write(*arguments, **options)


def test_every_file_is_in_one_shard_untouched(tmp_path, source):
    out = tmp_path / "out"
    index = write(source, out)
    assert decode_index((out / "index.json").read_bytes(), "") == index
    assert index.classes == {"train": ("ant", "bee.1"), "test": ("ant", "bee.1")}
    assert sorted(path.name for path in out.iterdir()) == ["index.json", "test", "train"]
    names = [one.name for one in index.shards]
    assert names[:3] == ["train/000000.tar", "train/000001.tar", "train/000002.tar"]
    assert sorted(contents(out)) == sorted([*names, "index.json"])
    found, keys = {}, []
    for one in index.shards:
        content = (out / one.name).read_bytes()
        assert len(content) == one.bytes <= SHARD_SIZE
        assert hashlib.sha256(content).hexdigest() == one.sha256
        with tarfile.open(out / one.name) as archive:
            members = {member.name: archive.extractfile(member).read() for member in archive}
        for sample in one.samples:
            assert sample.path.split("/")[0] == one.name.split("/")[0]
            found[sample.path] = content[sample.offset : sample.offset + sample.size]
            suffix = Path(sample.path).suffix.lower()
            assert members.pop(sample.key + suffix) == FILES[sample.path]
            assert members.pop(f"{sample.key}.cls") == str(sample.label).encode()
            assert sample.label == ("bee.1" in sample.path)
            keys.append(sample.key)
        assert members == {}
    assert found == FILES
    assert keys == [f"{number:08d}" for number in range(len(FILES))]


def test_a_shard_is_a_fair_sample(tmp_path, source):
    """Sorted by class, the first shards would have one class only."""
    index = write(source, tmp_path / "out")
    for one in index.shards[:2]:
        assert {sample.label for sample in one.samples} == {0, 1}


def test_a_split_folder_in_upper_case_is_not_left_out(tmp_path):
    root = unpack(tmp_path / "set", {"train/a/0.png": picture(), "Val/a/0.png": picture()})
    fails(rf"{root}/Val is no split, .*: call it val, or .*", root, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_same_data_and_settings_give_the_same_bytes(tmp_path, source):
    write(source, tmp_path / "one")
    write(source, tmp_path / "two")
    write(source, tmp_path / "other", seed=1)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert contents(tmp_path / "one") != contents(tmp_path / "other")


def test_an_archive_makes_the_same_shards_as_the_folder(tmp_path, source):
    with tarfile.open(tmp_path / "set.tar.gz", "w:gz") as archive:
        archive.add(source / "train", "train")
        archive.add(source / "test", "test")
    write(source, tmp_path / "one")
    write(tmp_path / "set.tar.gz", tmp_path / "two")
    one, two = contents(tmp_path / "one"), contents(tmp_path / "two")
    assert one.pop("index.json") != two.pop("index.json")  # it names what it was made from
    assert one == two


def test_shards_can_be_cut_anew(tmp_path, source):
    write(source, tmp_path / "one", shard_size=1 << 20)
    index = write(tmp_path / "one", tmp_path / "two")
    assert {sample.path for one in index.shards for sample in one.samples} == set(FILES)


def test_without_splits_or_classes(tmp_path):
    flat = unpack(tmp_path / "flat", {f"{number}.png": picture() for number in range(3)})
    index = write(flat, tmp_path / "one")
    assert [one.name for one in index.shards] == ["000000.tar"]
    assert {sample.label for sample in index.shards[0].samples} == {-1}
    with tarfile.open(tmp_path / "one" / "000000.tar") as archive:
        assert all(name.endswith(".png") for name in archive.getnames())
    classes = unpack(tmp_path / "classes", {"a/0.png": picture(), "b/0.png": picture()})
    assert write(classes, tmp_path / "two").classes == {"": ("a", "b")}


def test_masks_go_with_their_images(tmp_path, source):
    drawn = {name.rpartition(".")[0] + ".png": picture() for name in FILES}
    missing = min(drawn)
    masks = unpack(tmp_path / "masks", {k: v for k, v in drawn.items() if k != missing})
    index = write(source, tmp_path / "out", masks=open_tree(masks))
    for one in index.shards:
        content = (tmp_path / "out" / one.name).read_bytes()
        with tarfile.open(tmp_path / "out" / one.name) as archive:
            for sample in one.samples:
                name = sample.path.rpartition(".")[0] + ".png"
                if name == missing:
                    assert sample.mask_offset == -1
                    continue
                at = sample.mask_offset
                assert content[at : at + sample.mask_size] == drawn[name]
                assert archive.extractfile(f"{sample.key}.mask.png").read() == drawn[name]


def test_a_large_image_has_a_shard_of_its_own(tmp_path, source):
    index = write(source, tmp_path / "out", shard_size=1)
    assert [len(one.samples) for one in index.shards] == [1] * len(FILES)
    fails("--shard-size must be >= 1 byte, got 0", source, tmp_path / "out", shard_size=0)


def stop_after(monkeypatch, count):
    """Whoever writes so many shards is interrupted."""
    from iclmsr.data import shard_writer

    real, written = shard_writer.write_atomic, []

    def write_atomic(path, *parts):
        if len(written) == count:
            raise KeyboardInterrupt
        written.append(path.name)
        real(path, *parts)

    monkeypatch.setattr(shard_writer, "write_atomic", write_atomic)
    return written


def test_a_run_that_was_stopped_goes_on(tmp_path, source, monkeypatch):
    write(source, tmp_path / "whole")
    out, said = tmp_path / "out", []
    stop_after(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        write(source, out)
    assert sorted(contents(out)) == [".shards.jsonl", "train/000000.tar", "train/000001.tar"]
    (out / ".shards.jsonl").write_bytes((out / ".shards.jsonl").read_bytes()[:-9])  # cut off
    (out / "train" / ".000007.tar.123.tmp").write_bytes(b"half")
    monkeypatch.undo()
    write(source, out, say=said.append)
    assert said[0].startswith("wrote train/000001.tar, 2 of ")
    assert contents(out) == contents(tmp_path / "whole")


def test_a_finished_run_is_checked_and_mended(tmp_path, source):
    out, said = tmp_path / "out", []
    write(source, out)
    whole = contents(out)
    write(source, out, say=said.append)
    assert said == []
    content = whole["train/000001.tar"]
    (out / "train" / "000001.tar").write_bytes(content[:600] + b"x" + content[601:])
    (out / "train" / "000002.tar").unlink()
    write(source, out, say=said.append)
    assert [line.split(",")[0] for line in said] == [
        "wrote train/000001.tar",
        "wrote train/000002.tar",
    ]
    assert contents(out) == whole


SLOW = """
import sys, time
from pathlib import Path
from iclmsr.data import shard_writer
from iclmsr.data.trees import open_tree
real = shard_writer._write
def write(*words):
    time.sleep(0.2)
    return real(*words)
shard_writer._write = write
shard_writer.shard(open_tree(Path(sys.argv[1])), Path(sys.argv[2]), shard_size=16 << 10)
"""


def test_a_killed_writer_leaves_nothing_half_written(tmp_path, source):
    out = tmp_path / "out"
    with subprocess.Popen([sys.executable, "-c", SLOW, str(source), str(out)]) as process:
        until = time.monotonic() + 60
        while not (out / "train" / "000000.tar").exists() and time.monotonic() < until:
            time.sleep(0.01)
        fails(f"another process writes shards to {out}", source, out)
        process.kill()
    assert not (out / "index.json").exists()
    write(source, out)
    write(source, tmp_path / "whole")
    assert contents(out) == contents(tmp_path / "whole")


def test_other_folders_are_left_alone(tmp_path, source):
    out = unpack(tmp_path / "out", {"thesis.tex": b"precious"})
    fails(f"{out} is not empty: choose another folder, or remove this one", source, out)
    assert sorted(contents(out)) == ["thesis.tex"]
    made = tmp_path / "made"
    write(source, made)
    whole = contents(made)
    message = f"{made} has shards of other images or settings: choose another folder, or .*"
    fails(message, source, made, seed=1)
    (source / "train" / "ant" / "new.png").write_bytes(picture())
    fails(message, source, made)
    assert contents(made) == whole
    message = f"what is written to {source}/out would lie between the images of {source}: name a .*"
    fails(message, source, source / "out")


def test_a_stopped_run_of_other_settings(tmp_path, source, monkeypatch):
    stop_after(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        write(source, tmp_path / "out")
    monkeypatch.undo()
    fails(".* has shards of other images or settings: .*", source, tmp_path / "out", seed=1)


def test_full_disk(tmp_path, source, monkeypatch):
    out, real = tmp_path / "out", os.fsync

    def refuse(file):
        if os.fstat(file).st_size > 8000:  # a shard
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(file)

    monkeypatch.setattr("os.fsync", refuse)
    fails(
        f"cannot write {out}/train/000000.tar: No space left on device: free some room, .*",
        source,
        out,
    )
    assert sorted(contents(out)) == [".shards.jsonl"]
    monkeypatch.undo()
    write(source, out)


def test_full_disk_at_the_journal(tmp_path, source):
    out, limits = tmp_path / "out", resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50, limits[1]))
    try:
        fails(
            f"cannot write {out}/.shards.jsonl: File too large: free some room, .*",
            source,
            out,
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    write(source, out)


def test_an_image_that_cannot_be_read(tmp_path, source):
    (source / "train" / "ant" / "0.png").symlink_to("nowhere")
    fails(f"cannot read {source}/train/ant/0.png: No such file.*", source, tmp_path / "out")
    (source / "train" / "ant" / "0.png").unlink()
    write(source, tmp_path / "other")


def test_names_that_are_not_utf_8(tmp_path):
    name = os.fsdecode(b"caf\xe9/\xff.png")
    source = unpack(tmp_path / "images", {name: picture()})
    index = write(source, tmp_path / "out")
    assert index.shards[0].samples[0].path == name
    assert open_tree(tmp_path / "out").read(name) == (source / name).read_bytes()


def test_the_journal_has_the_index_s_own_rows(tmp_path, source, monkeypatch):
    stop_after(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        write(source, tmp_path / "out")
    _, line = (tmp_path / "out" / ".shards.jsonl").read_text().splitlines()
    row = json.loads(line)["samples"][0]
    assert Sample(*row).path in FILES
    assert Path(json.loads(line)["name"]) == Path("train/000000.tar")


def test_all_empty_classes_of_a_split_are_named_together(tmp_path, source):
    for name in ("wasp", "moth"):
        (source / "train" / name).mkdir()
    message = rf"no images in 2 classes of {source}/train: moth, wasp: looked for files named .*"
    fails(message, source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["test", "val", "valid"])
def test_a_class_that_is_called_like_a_split_to_test_on(tmp_path, name):
    for kind in ("car", "plane", name):
        (tmp_path / "set" / kind).mkdir(parents=True)
        (tmp_path / "set" / kind / "0.png").write_bytes(picture())
    fails(
        f"no train images in {tmp_path}/set: looked for a folder train; .*",
        tmp_path / "set",
        tmp_path / "out",
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("sorted_", ["train", "test"])
def test_classes_in_one_split_only(tmp_path, sorted_):
    for split in ("train", "test"):
        place = tmp_path / "set" / split / ("a" if split == sorted_ else "")
        place.mkdir(parents=True)
        (place / "0.png").write_bytes(picture())
    other = "test" if sorted_ == "train" else "train"
    fails(
        f"{tmp_path}/set/{sorted_} has classes, and {tmp_path}/set/{other} has images without: "
        "sort those into folders by class, or move one elsewhere",
        tmp_path / "set",
        tmp_path / "out",
    )


def test_unsorted_images_are_no_class(tmp_path, source):
    unpack(source, {"val/images/0.png": picture()})
    for place in (source, source / "val"):
        fails(
            rf"{source}/val/images is no class but a folder of unsorted .*", place, tmp_path / "out"
        )


def test_every_split_is_packed(tmp_path, source):
    extra = {f"{split}/{name}/0.png": picture() for split in ("val", "test-swapped", "notes")
             for name in ("ant", "bee.1")}  # fmt: skip
    unpack(source, extra)
    (source / "notes" / "bee.1" / "0.png").rename(source / "notes" / "0.png")
    (source / "notes" / "bee.1").rmdir()
    index = write(source, tmp_path / "out")
    assert sorted(index.classes) == ["test", "test-swapped", "train", "val"]
    for split in ("val", "test-swapped"):
        found, expected = (
            load(DataConfig("folder", place, image_size=SIZE), split)
            for place in (tmp_path / "out", source)
        )
        assert found.fingerprint() == expected.fingerprint()


def write_backgrounds(source, names):
    rows = [f"{path},{names[number % len(names)]}" for number, path in enumerate(sorted(FILES))]
    (source / "backgrounds.csv").write_text("\n".join(["path,background", *rows, ""]), "utf-8")


def test_backgrounds_go_with_the_images(tmp_path, source):
    plain = write(source, tmp_path / "plain")
    assert (
        "backgrounds" not in json.loads((tmp_path / "plain" / "index.json").read_text())["content"]
    )
    write_backgrounds(source, ["sea", "alp", "møre"])
    index = write(source, tmp_path / "out")
    assert index.shards == plain.shards
    assert index.stamp != plain.stamp
    write(tmp_path / "out", tmp_path / "anew")
    expected = {split: load(DataConfig("folder", source, image_size=SIZE), split)
                for split in ("train", "test")}  # fmt: skip
    for place in (tmp_path / "out", tmp_path / "anew"):
        for split, images in expected.items():
            found = load(DataConfig("folder", place, image_size=SIZE), split)
            assert found.fingerprint() == images.fingerprint()
            assert found.backgrounds.equal(images.backgrounds)
            assert found.background_names == images.background_names == ("alp", "møre", "sea")
    write_backgrounds(source, ["sea"])
    fails(f"{tmp_path}/out has shards of other images or settings: .*", source, tmp_path / "out")


def test_backgrounds_that_lack_an_image_are_refused(tmp_path, source):
    (source / "backgrounds.csv").write_text("path,background\n")
    message = (
        rf"{source}/backgrounds.csv has no line for .* and {len(FILES) - 5} more: write one .*"
    )
    fails(message, source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
