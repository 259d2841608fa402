# SPDX-License-Identifier: Apache-2.0
import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from iclmsr.data import cache, sources
from iclmsr.data.cifar import CIFAR10
from iclmsr.data.images import ImageSet
from iclmsr.data.sources import SOURCES, DataConfig, load, prepare
from iclmsr.errors import IclmsrError


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The cache's folder, of this test alone; prepare makes it."""
    monkeypatch.setenv("ICLMSR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def draw_images(root, *paths, size=12, mode="RGB"):
    for number, path in enumerate(paths):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (size, size, 3), np.uint8)
        Image.fromarray(pixels).convert(mode).save(root / path)


@pytest.fixture
def data(tmp_path):
    """Three classes of two images in train and one in test."""
    root = tmp_path / "data"
    paths = [f"train/{name}/{number}.png" for name in ("ant", "bee", "cat") for number in (0, 1)]
    draw_images(root, *paths, *(f"test/{name}/9.png" for name in ("ant", "bee", "cat")))
    return DataConfig(source="folder", root=root, image_size=12)


@pytest.fixture
def readings(monkeypatch):
    """Counts the times that files are read."""
    real, calls = SOURCES["folder"], []

    def counted(config, split, draw):
        calls.append(split)
        return real(config, split, draw)

    monkeypatch.setitem(SOURCES, "folder", counted)
    return calls


def same(one, other):
    for field in fields(ImageSet):
        a, b = getattr(one, field.name), getattr(other, field.name)
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b, field.name
    assert one.fingerprint() == other.fingerprint()


def the_file(folder):
    (path,) = folder.iterdir()
    return path


def image_set():
    generator = torch.Generator().manual_seed(0)
    return ImageSet(
        torch.randint(0, 256, (5, 3, 7, 7), dtype=torch.uint8, generator=generator),
        torch.tensor([0, 1, -1, 1, 0]),
        ("a", "caf\udce9"),
        torch.rand(5, 7, 7, generator=generator) < 0.5,
        torch.arange(5),
        ("x\ny.png",),
    )


@pytest.mark.parametrize("without", [(), ("masks",), ("masks", "backgrounds")])
def test_what_is_read_is_what_was_written(tmp_path, without):
    images = replace(image_set(), **dict.fromkeys(without))
    cache.write(tmp_path / "it", "now", cache.Cached(images, ("remark",)))
    found = cache.read(tmp_path / "it", "now")
    same(found.images, images)
    assert found.remarks == ("remark",)
    assert [path.name for path in tmp_path.iterdir()] == ["it"]


def test_images_that_are_not_contiguous_are_written_as_they_look(tmp_path):
    images = replace(image_set(), images=image_set().images.transpose(2, 3))
    cache.write(tmp_path / "it", "now", cache.Cached(images, ()))
    same(cache.read(tmp_path / "it", "now").images, images)


def test_writing_to_mapped_images_leaves_the_file_alone(tmp_path):
    cache.write(tmp_path / "it", "now", cache.Cached(image_set(), ()))
    cache.read(tmp_path / "it", "now").images.images.zero_()
    same(cache.read(tmp_path / "it", None).images, image_set())


def test_every_changed_cut_or_added_byte_is_noticed(tmp_path):
    path = tmp_path / "it"
    cache.write(path, "now", cache.Cached(image_set(), ()))
    whole = path.read_bytes()
    for place in [*range(0, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(cache.Unfit, match="is damaged"):
            cache.read(path, "now")
        path.write_bytes(whole[:place])
        with pytest.raises(cache.Unfit, match="is damaged"):
            cache.read(path, "now")
    path.write_bytes(whole + b"\0")
    with pytest.raises(cache.Unfit, match="is damaged: 1,.* bytes of images, expected"):
        cache.read(path, "now")
    path.write_bytes(whole)
    with pytest.raises(cache.Unfit, match="was made from files that have changed since"):
        cache.read(path, "later")
    with pytest.raises(cache.Unfit, match="cannot be read: No such file or directory"):
        cache.read(tmp_path / "other", "now")


def test_prepared_images_are_those_of_the_files_and_no_file_is_read(data, readings, folder):
    expected = {split: load(data, split) for split in ("pretrain", "train", "test")}
    assert not folder.exists()
    for split in ("train", "test"):
        same(prepare(data, split), expected[split])
    readings.clear()
    for split, images in expected.items():
        same(load(data, split), images)
    prepare(data, "pretrain")
    assert not readings
    assert sorted(path.suffix for path in folder.iterdir()) == [".images", ".images"]


def test_the_cache_may_be_left_out(data, readings):
    prepare(data, "train")
    load(replace(data, cache=False), "train")
    assert len(readings) == 2


def test_limits_draw_the_same_images_from_the_cache(data, readings):
    limited = replace(data, limit=4, seed=3)
    expected = load(limited, "train")
    same(prepare(limited, "train"), load(replace(data, cache=False), "train"))
    readings.clear()
    same(load(limited, "train"), expected)
    with pytest.raises(IclmsrError, match=r"data.limit must be in \[1, 6\]"):
        load(replace(data, limit=7), "train")
    assert not readings


def test_a_limit_reads_the_files_where_some_were_left_out(data, readings):
    (data.root / "train" / "ant" / "1.png").write_text("no image")
    whole, limited = replace(data, on_corrupt="skip"), replace(data, on_corrupt="skip", limit=5)
    expected = load(limited, "train")
    assert len(prepare(whole, "train").skipped) == 1
    readings.clear()
    same(load(limited, "train"), expected)
    assert len(load(whole, "train").skipped) == 1
    assert len(readings) == 1


def test_a_set_read_without_its_folder_of_masks_is_not_one_read_with_it(tmp_path):
    root = tmp_path / "set"
    names = [f"{name}/{number}.png" for name in ("ant", "bee") for number in (0, 1)]
    draw_images(root, *names)
    draw_images(root / "outlines", *names, mode="L")
    shutil.copytree(root / "outlines", tmp_path / "outlines")
    inside = DataConfig(source="folder", root=root, image_size=12, masks=root / "outlines")
    outside = replace(inside, masks=tmp_path / "outlines")
    assert prepare(inside, "train").classes == ("ant", "bee")
    with pytest.raises(IclmsrError, match="outlines/ant/0.png has no mask"):  # it is a class now
        prepare(outside, "train")


def test_how_masks_in_usual_places_are_read_makes_no_difference(data, tmp_path):
    places = [data.root, data.root / "masks", tmp_path / "masks", data.root / "outlines"]
    paths = [sources.cache_path(replace(data, masks=place), "train") for place in places]
    usual = {path.name.rpartition("-")[0] for path in paths[:3]}
    assert len(set(paths)) == 4
    assert len(usual) == 1
    assert paths[3].name.rpartition("-")[0] not in usual


def test_masks_and_class_lists_are_prepared_too(data, tmp_path, readings):
    names = [f"train/{name}/{number}.png" for name in ("ant", "bee", "cat") for number in (0, 1)]
    draw_images(tmp_path / "masks", *names, mode="L")
    (tmp_path / "classes.txt").write_text("ant\ncat\n")
    config = replace(data, masks=tmp_path / "masks", class_list=tmp_path / "classes.txt")
    expected = load(config, "train")
    assert expected.masks is not None
    prepare(config, "train")
    readings.clear()
    same(load(config, "train"), expected)
    assert not readings
    draw_images(tmp_path / "masks", "train/ant/1.png", mode="L")
    with pytest.warns(UserWarning, match="have changed since"):
        assert not torch.equal(load(config, "train").masks, expected.masks)
    prepare(config, "train")
    (tmp_path / "classes.txt").write_text("ant\nbee\n")
    with pytest.warns(UserWarning, match="have changed since"):
        assert load(config, "train").classes == ("ant", "bee")


@pytest.mark.parametrize(
    "other",
    [{"image_size": 8}, {"labels": False}, {"on_corrupt": "skip"}, {"source": "tiny-imagenet"}],
)
def test_other_settings_are_other_files(data, other, folder):
    prepare(data, "train")
    config = replace(data, **other)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("iclmsr.data.imagenet.warn_unless_official", lambda *_: None)
        expected = load(config, "train")
        same(prepare(config, "train"), expected)
    assert len(list(folder.iterdir())) == 2


def test_settings_that_change_no_pixel_share_a_file(data, folder):
    prepare(data, "train")
    prepare(replace(data, mean=(0.0, 0.0, 0.0), seed=1, evaluate_crop=4), "train")
    assert len(list(folder.iterdir())) == 1
    assert load(replace(data, evaluate_crop=4), "train").images.shape == (6, 3, 4, 4)


def rewritten(path):
    """Other content of the same size, and the old time of change."""
    before, content = path.stat(), bytearray(path.read_bytes())
    content[-1] ^= 1  # behind the image's end
    time.sleep(0.02)
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(
    "change",
    [
        rewritten,
        lambda path: path.unlink(),
        lambda path: path.with_name("new.png").write_bytes(path.read_bytes()),
        lambda path: path.rename(path.with_name("new.png")),
    ],
    ids=["rewritten", "removed", "added", "renamed"],
)
def test_a_changed_file_is_noticed_and_prepare_mends_it(data, change, readings, folder):
    prepare(data, "train")
    change(data.root / "train" / "ant" / "1.png")
    with pytest.warns(UserWarning, match=f"{folder}/folder-train-.* have changed since: reading"):
        found = load(data, "train")
    assert readings == ["train", "train"]
    same(prepare(data, "train"), found)
    same(load(data, "train"), found)
    assert len(readings) == 3
    the_file(folder)


def test_files_that_were_only_touched_are_hashed_once_and_not_read(data, readings, folder):
    expected = prepare(data, "train")
    readings.clear()
    hashed, real = [], sources.content
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "content", lambda places: hashed.append(1) or real(places))
        for _ in range(2):
            os.utime(data.root / "train" / "ant" / "1.png")
            for _ in range(2):
                same(load(data, "train"), expected)
            prepare(data, "train")
    assert (len(hashed), readings) == (2, [])
    rewritten(data.root / "train" / "ant" / "1.png")
    with pytest.warns(UserWarning, match="have changed since"):
        load(data, "train")
    prepare(data, "train")
    the_file(folder)


def test_a_copy_of_the_folder_has_the_same_prepared_images(data, tmp_path, readings, folder):
    expected = prepare(data, "train")
    shutil.copytree(data.root, tmp_path / "copy")
    copied = replace(data, root=tmp_path / "copy")
    readings.clear()
    for _ in range(2):
        same(prepare(copied, "train"), expected)
        same(load(copied, "train"), expected)
    assert not readings
    one, other = folder.glob("*.images")
    assert one.samefile(other)
    rewritten(tmp_path / "copy" / "train" / "ant" / "1.png")
    prepare(copied, "train")
    prepare(replace(copied, on_corrupt="skip"), "train")
    assert len(readings) == 2
    same(load(data, "train"), expected)
    assert len(readings) == 2


def test_a_copy_of_a_folder_with_damage_is_read_anew(data, tmp_path, readings):
    (data.root / "train" / "ant" / "1.png").write_text("no image")
    prepare(replace(data, on_corrupt="skip"), "train")
    shutil.copytree(data.root, tmp_path / "copy")
    found = prepare(replace(data, root=tmp_path / "copy", on_corrupt="skip"), "train")
    assert found.skipped == (str(tmp_path / "copy" / "train" / "ant" / "1.png"),)


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-100], lambda data: b"", lambda data: data[:-1] + b"\7"]
)
def test_a_partial_or_changed_cache_is_noticed_and_prepare_mends_it(data, damage, folder):
    expected = prepare(data, "train")
    expected = expected.take(torch.arange(len(expected)))  # out of the file
    path = the_file(folder)
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    with pytest.warns(UserWarning, match=r"is damaged.*iclmsr data prepare"):
        same(load(data, "train"), expected)
    same(prepare(data, "train"), expected)
    assert path.read_bytes() == whole


def write_cifar(folder):
    """Official files of two images each."""
    folder.mkdir(parents=True)
    for number, name in enumerate([*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]):
        records = np.full((2, 3073), number, np.uint8)
        (folder / f"{name}.bin").write_bytes(records.tobytes())


def test_official_files_are_prepared_and_remarks_are_made_again(tmp_path, folder):
    write_cifar(tmp_path / "cifar-10-batches-bin")
    config = DataConfig(root=tmp_path, image_size=16)
    with pytest.warns(UserWarning, match="official size"):
        expected = load(config, "train")
    with pytest.warns(UserWarning, match="official size"):
        same(prepare(config, "train"), expected)
    (tmp_path / "elsewhere.txt").write_text("no part of it")
    with pytest.warns(UserWarning, match="official size") as caught:
        same(load(config, "train"), expected)
    assert len(caught) == 1


def test_synthetic_images_need_no_cache(folder):
    with pytest.raises(IclmsrError, match="'synthetic' has no files that could be prepared"):
        prepare(DataConfig(source="synthetic"), "train")
    with pytest.raises(IclmsrError, match="unknown data.source 'foldr'"):
        prepare(DataConfig(source="foldr"), "train")


def test_what_cannot_be_read_leaves_nothing(data, folder):
    (data.root / "train" / "ant" / "1.png").write_text("no image")
    with pytest.raises(IclmsrError, match="does not decode"):
        prepare(data, "train")
    assert not list(folder.iterdir())


def test_a_disk_that_fills_up_leaves_nothing(data, folder):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, hard))  # bytes of a file
    try:
        with pytest.raises(IclmsrError, match=r"cannot write .*folder-train-.*: File too large"):
            prepare(data, "train")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(folder.iterdir())
    same(prepare(data, "train"), load(replace(data, cache=False), "train"))


def test_a_full_disk_is_named(data, folder, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(IclmsrError, match="cannot write .*: No space left on device: free .*"):
        prepare(data, "train")
    assert not list(folder.iterdir())


def test_a_cache_that_cannot_be_made_says_where_else_it_may_be(data, folder):
    folder.write_text("a file")
    with pytest.raises(IclmsrError, match=f"cannot write to the cache {folder}: .*ICLMSR_CACHE"):
        prepare(data, "train")


def test_a_cache_that_may_not_be_searched_stops_only_who_needs_it(data, folder, monkeypatch):
    expected, stat, access = load(data, "train"), Path.stat, os.access

    def refused(self, **options):
        if folder in self.parents:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        return stat(self, **options)

    def mkdir(self, *_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    monkeypatch.setattr("pathlib.Path.stat", refused)  # root may search everything
    monkeypatch.setattr("pathlib.Path.mkdir", mkdir)
    monkeypatch.setattr(
        "os.access", lambda path, mode: folder not in Path(path).parents and access(path, mode)
    )
    same(load(data, "train"), expected)
    message = f"cannot write to the cache {folder}: Permission denied; set ICLMSR_CACHE to another"
    with pytest.raises(IclmsrError, match=f"^{message} folder$"):
        prepare(data, "train")


@pytest.mark.parametrize("touched", [False, True])
def test_a_cache_that_is_only_read_is_enough_where_all_is_prepared(
    data, readings, monkeypatch, touched
):
    expected = prepare(data, "train")
    readings.clear()

    def read_only(path, mode="r", *rest, **options):
        if not mode.startswith("r"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return open(path, mode, *rest, **options)  # noqa: PTH123

    if touched:
        os.utime(data.root / "train" / "ant" / "1.png")
    monkeypatch.setattr("pathlib.Path.open", read_only)  # root may write everything
    same(prepare(data, "train"), expected)
    assert not readings
    with pytest.raises(IclmsrError, match="cannot write to the cache .*: Permission denied"):
        prepare(data, "test")


SLOW = """
import os, sys, time
from pathlib import Path
from iclmsr.data.sources import SOURCES, DataConfig, prepare
real = SOURCES["folder"]
log, count = Path(sys.argv[2]), int(sys.argv[3])
def slow(config, split, draw):
    with log.open("a") as file:
        print(os.getpid(), file=file, flush=True)
    time.sleep(1)
    return real(config, split, draw)
SOURCES["folder"] = slow
log.with_name(f"ready-{os.getpid()}").touch()
while len(list(log.parent.glob("ready-*"))) < count:
    time.sleep(0.01)
if count == 1:
    def stall(file):
        print("half-written", flush=True)
        time.sleep(60)
    os.fsync = stall
config = DataConfig(source="folder", root=Path(sys.argv[1]), image_size=12)
print(prepare(config, "train").fingerprint())
"""


def start(data, log, count):
    """One of ``count`` processes that prepare at once; one alone stalls before it is done."""
    command = [sys.executable, "-c", SLOW, str(data.root), str(log), str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_of_two_processes_one_decodes_and_the_other_maps(data, tmp_path, folder):
    jobs = [start(data, tmp_path / "log", 2) for _ in range(2)]
    outputs = [job.communicate(timeout=60) for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0], outputs
    expected = load(replace(data, cache=False), "train").fingerprint()
    assert [printed.strip() for printed, _ in outputs] == [expected] * 2
    assert len((tmp_path / "log").read_text().split()) == 1
    assert any("waiting for it" in said for _, said in outputs)
    the_file(folder)


def test_a_killed_process_leaves_no_cache_and_no_lock(data, tmp_path, folder):
    job = start(data, tmp_path / "log", 1)
    assert job.stdout.readline() == "half-written\n"
    job.send_signal(signal.SIGKILL)
    job.communicate()
    assert not list(folder.glob("*.images"))
    assert list(folder.glob(".*.tmp"))
    expected = load(data, "train")
    same(prepare(data, "train"), expected)
    the_file(folder)


MEMORY = """
import sys
from pathlib import Path
from iclmsr.data.sources import DataConfig, prepare
def peak():  # not ru_maxrss, which begins with the peak of the process that started this one
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024
root = Path(sys.argv[1])
source, first, size = sys.argv[2], *map(int, sys.argv[3:])
prepare(DataConfig(source=source, root=root, image_size=first), "test")
before = peak()
images = prepare(DataConfig(source=source, root=root, image_size=size), "train")
print((peak() - before) / images.images.numel())
"""


def memory(*words):
    """The peak over the size of the array, as a process of its own sees it."""
    command = [sys.executable, "-W", "ignore", "-c", MEMORY, *map(str, words)]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def test_memory_stays_below_twice_the_images(data):
    assert 0.5 < memory(data.root, "folder", 12, 1500) < 2


def test_memory_stays_below_twice_the_images_of_another_size_than_their_files(tmp_path):
    layout = CIFAR10.layouts[1]
    (tmp_path / layout.folder).mkdir()
    for name in [*layout.parts["train"], *layout.parts["test"]]:
        records = np.random.default_rng(0).integers(0, 10, (4000, 3073), np.uint8)
        (tmp_path / layout.folder / name).write_bytes(records.tobytes())
    for size in (24, 48):
        assert 0.5 < memory(tmp_path, "cifar10", size, size) < 2


@pytest.fixture(params=[None, "~nobody-of-this-name/x"])
def homeless(request, monkeypatch):
    """A user without a home folder, as in a container, or a cache in the home of nobody."""

    def nobody(uid):
        raise KeyError(uid)

    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", nobody)
    monkeypatch.delenv("ICLMSR_CACHE")
    if request.param:
        monkeypatch.setenv("ICLMSR_CACHE", request.param)
    return request.param or "~/.cache/iclmsr"


def test_without_a_home_folder_files_are_read_where_they_are(data, homeless):
    assert len(load(data, "train")) == 6


def test_without_a_home_folder_prepare_says_what_to_set(data, homeless):
    message = (
        f"^the cache {homeless} is in a home folder that is not known: set ICLMSR_CACHE to a folder"
    )
    with pytest.raises(IclmsrError, match=message):
        prepare(data, "train")
