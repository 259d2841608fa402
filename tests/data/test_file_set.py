# SPDX-License-Identifier: Apache-2.0
import re
import shutil
import tarfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from iclmsr.data import file_set
from iclmsr.data.backdrops import fingerprint
from iclmsr.data.decoded import Unreadable
from iclmsr.data.feed import feed_of
from iclmsr.data.file_set import FileSet, machine_memory, stays_on_disk
from iclmsr.data.shard_writer import shard
from iclmsr.data.sources import DataConfig, load, open_split
from iclmsr.data.trees import open_tree
from iclmsr.errors import IclmsrError

CPU = torch.device("cpu")


@pytest.fixture
def root(tmp_path):
    """12 images of several sizes and formats in two classes, for training and for tests."""
    numbers = np.random.default_rng(0)
    for split in ("train", "test"):
        for i in range(12):
            path = tmp_path / "set" / split / "ab"[i // 6] / f"{i:02}.{['png', 'jpg'][i % 2]}"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = numbers.integers(0, 256, (20 + i, 30 - i, 3), np.uint8)
            Image.fromarray(pixels).save(path)
    return tmp_path / "set"


def config(root, **values):
    return DataConfig(
        **{"source": "folder", "root": root, "image_size": 16, "resident": "disk"} | values
    )


def fetched(files, index=None):
    index = torch.arange(len(files)) if index is None else torch.tensor(index)
    return feed_of(files, CPU, 0).fetch(index)


@pytest.mark.parametrize("kind", ["folder", "tar"])
@pytest.mark.parametrize("limit", [None, 5])
def test_the_same_images_as_in_memory(root, kind, limit):
    if kind == "tar":
        with tarfile.open(root.with_suffix(".tar"), "w") as archive:
            archive.add(root, "set")
        root = root.with_suffix(".tar")
    files = open_split(config(root, limit=limit), "pretrain")
    held = load(config(root, limit=limit), "pretrain")
    assert isinstance(files, FileSet)
    assert torch.equal(fetched(files), held.images)
    assert torch.equal(fetched(files, [3, 1, 3]), held.images[[3, 1, 3]])
    assert torch.equal(files.labels, held.labels)
    assert (files.classes, len(files)) == (("a", "b"), len(held))


@pytest.mark.parametrize("view", [{"evaluate_resize": 14, "evaluate_crop": 9}, {}])
def test_evaluation_sees_the_same_as_in_memory(root, view):
    for split in ("train", "test"):
        files, held = (read(config(root, **view), split) for read in (open_split, load))
        assert torch.equal(fetched(files), held.images)
    assert len(held.images) == 12


def test_the_fingerprint_is_of_names_sizes_labels_and_size_of_image(root):
    def of(**values):
        return open_split(config(root, **values), "pretrain").fingerprint()

    first = of()
    assert first == of() == of(on_corrupt="skip", workers=3)
    assert first.startswith("files-")
    found = {first, of(image_size=17), of(limit=5), of(labels=False)}
    (root / "train" / "a" / "00.png").rename(root / "train" / "a" / "000.png")
    found.add(of())
    (root / "train" / "a" / "000.png").write_bytes(b"short")
    found.add(of())
    assert len(found) == 6


def test_a_corrupt_file_is_known_when_it_is_read(root):
    bad = root / "train" / "a" / "03.jpg"
    bad.write_text("no image")
    files = open_split(config(root), "pretrain")
    assert len(fetched(files, [0, 1, 2])) == 3
    message = f"{bad} does not decode (no image of a known format): mend it, or pass --data"
    with pytest.raises(Unreadable, match=re.escape(message)):
        fetched(files)


@pytest.mark.filterwarnings("ignore")
def test_the_next_image_takes_the_place_of_one_that_does_not_decode(root):
    for name in ("a/03.jpg", "a/04.png", "b/11.jpg"):
        (root / "train" / name).write_text("no image")
    expected = load(config(root, on_corrupt="skip"), "pretrain").images
    files = open_split(config(root, on_corrupt="skip"), "pretrain")
    places = [0, 1, 2, 3, 3, 3, 4, 5, 6, 7, 8, 0]  # in the set without the three
    assert torch.equal(fetched(files), expected[places])
    assert files.instead == {3: 5, 4: 5, 11: 0}
    assert [name[-8:] for name in files.skipped] == ["a/03.jpg", "a/04.png", "b/11.jpg"]
    again = open_split(config(root, on_corrupt="skip"), "pretrain")
    assert torch.equal(fetched(again, [11, 4, 3]), expected[[0, 3, 3]])
    assert torch.equal(fetched(again, [3]), expected[[3]])


def test_a_replacement_is_said_once(root):
    (root / "train" / "a" / "03.jpg").write_text("no image")
    files = open_split(config(root, on_corrupt="skip"), "pretrain")
    with pytest.warns(UserWarning, match=r"03.jpg does not decode .*: .*a/04.png takes its place"):
        fetched(files)
    fetched(files)  # a second warning would be an error


def test_not_one_image_decodes(root):
    for path in (root / "train").glob("*/*"):
        path.write_text("no image")
    files = open_split(config(root, on_corrupt="skip"), "pretrain")
    with pytest.raises(Unreadable, match=f"not one image in {root} decodes: .*00.png does not"):
        fetched(files, [0])


def test_what_cannot_stay_on_disk(root, tmp_path):
    with tarfile.open(tmp_path / "set.tar.gz", "w:gz") as archive:
        archive.add(root, "set")
    with pytest.raises(IclmsrError, match=r"cannot read .*set\.tar\.gz.* pack it as \.tar"):
        open_split(config(tmp_path / "set.tar.gz"), "pretrain")
    options = {"masks": tmp_path / "set.tar.gz", "labels": False}
    with pytest.raises(IclmsrError, match=r"cannot read .*set\.tar\.gz.* pack it as \.tar"):
        open_split(config(root, **options), "pretrain")
    with pytest.raises(IclmsrError, match="data.resident disk is for images in files"):
        open_split(DataConfig(source="synthetic", resident="disk"), "pretrain")
    with pytest.raises(IclmsrError, match=r"data\.workers must be >= 0, got -1"):
        config(root, workers=-1)


def test_auto_leaves_large_sets_on_disk(root, monkeypatch):
    size = 12 * 3 * 16 * 16
    auto = config(root, resident="auto")
    for memory, kind in ((4 * size, "ImageSet"), (4 * size - 1, "FileSet")):
        monkeypatch.setattr(file_set, "machine_memory", lambda memory=memory: memory)
        assert type(open_split(auto, "pretrain")).__name__ == kind
    assert type(open_split(replace(auto, limit=11), "pretrain")).__name__ == "ImageSet"
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert stays_on_disk("auto", 11 * 3 * 16 * 16)
    assert not stays_on_disk("memory", 10**18)
    assert len(load(auto, "pretrain").images) == 12


def test_memory_is_the_machines_or_the_containers(tmp_path, monkeypatch):
    monkeypatch.setattr(file_set, "LIMITS", ())
    whole = machine_memory()
    assert 2**28 < whole < 2**50
    limits = [tmp_path / "max", tmp_path / "none"]
    monkeypatch.setattr(file_set, "LIMITS", limits)
    for text, expected in (("max\n", whole), ("1000\n", 1000), (str(2**62), whole)):
        limits[0].write_text(text)
        assert machine_memory() == expected


def test_what_is_prepared_is_mapped_from_there(root, tmp_path, monkeypatch):
    from iclmsr.data.sources import prepare

    monkeypatch.setenv("ICLMSR_CACHE", str(tmp_path / "cache"))
    assert torch.equal(prepare(config(root), "train").images, load(config(root), "train").images)
    assert type(open_split(config(root), "pretrain")).__name__ == "ImageSet"
    assert type(open_split(config(root, cache=False), "pretrain")).__name__ == "FileSet"


@pytest.fixture
def masks(root):
    """A mask for every image: a box of its own."""
    for number, path in enumerate(sorted(root.glob("train/*/*"))):
        mask = root / "masks" / path.relative_to(root).with_suffix(".png")
        mask.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            pixels = np.zeros(image.size[::-1], np.uint8)
        pixels[number : number + 9, 7 : 12 + number] = 255
        Image.fromarray(pixels).save(mask)
    return root / "masks"


@pytest.mark.parametrize("kind", ["folder", "tar", "zip", "shards"])
def test_the_same_masks_as_in_memory(root, masks, kind, tmp_path):
    held = load(config(root, masks=root), "pretrain")
    if kind in ("tar", "zip"):
        shutil.make_archive(str(root), kind, root.parent, "set")
        root = root.with_suffix(f".{kind}")
    if kind == "shards":
        shard(open_tree(root), tmp_path / "shards", masks=open_tree(masks))
        root = tmp_path / "shards"
    files = open_split(config(root, masks=root), "pretrain")
    index = torch.tensor([3, *range(12), 3])
    with feed_of(files, CPU, 0) as on_disk, feed_of(held, CPU) as in_memory:
        found, expected = (feed.fetch_masked(index) for feed in (on_disk, in_memory))
        assert torch.equal(on_disk.fetch(index), expected.images)
    assert all(map(torch.equal, found, expected))
    assert torch.equal(found.masks, held.masks[index])
    assert found.masks.flatten(1).any(1).all()


def test_masks_are_cropped_as_the_decoder_crops_images(root, masks):
    for path in (*root.glob("train/*/*"), *masks.glob("train/*/*")):
        with Image.open(path) as image:
            narrow = image.crop((1, 0, *image.size))
        narrow.save(path)
    pillow = load(config(root, masks=root), "pretrain")
    held = load(config(root, masks=root, decoder="torchvision"), "pretrain")
    files = open_split(config(root, masks=root, decoder="torchvision"), "pretrain")
    with feed_of(files, CPU, 0) as feed:
        found = feed.fetch_masked(torch.arange(12))
    assert torch.equal(found.images, held.images)
    assert torch.equal(found.masks, held.masks)
    assert not torch.equal(held.masks, pillow.masks)  # at halves of pixels, too


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["folder", "tar"])
def test_an_image_without_its_mask_is_one_that_does_not_decode(root, masks, kind):
    (masks / "train" / "a" / "03.png").unlink()
    Image.new("L", (5, 5)).save(masks / "train" / "b" / "07.png")
    expected = load(config(root, masks=root, on_corrupt="skip"), "pretrain")
    if kind == "tar":
        shutil.make_archive(str(root), kind, root.parent, "set")
        root = root.with_suffix(".tar")
    files = open_split(config(root, masks=root), "pretrain")
    for place, why in ((3, "has no mask .*a/03.png"), (7, "is 23 x 27 pixels, but its mask")):
        with pytest.raises(Unreadable, match=f"{why}.*: mend it, or pass --data.on-corrupt skip"):
            fetched(files, [place])
    skipping = open_split(config(root, masks=root, on_corrupt="skip"), "pretrain")
    with feed_of(skipping, CPU, 0) as feed:
        found = feed.fetch_masked(torch.arange(12))
    assert skipping.instead == {3: 4, 7: 8}
    places = [0, 1, 2, 3, 3, 4, 5, 6, 6, 7, 8, 9]  # in the set without the two
    assert torch.equal(found.images, expected.images[places])
    assert torch.equal(found.masks, expected.masks[places])


def test_masks_are_part_of_what_a_set_is_known_by_only_where_they_are_used(root, masks):
    def of(**options):
        files = open_split(config(root, masks=root), "pretrain")
        return fingerprint(files, **options)

    bare, used = of(masks=False), of(masks=True)
    assert used.startswith(bare + ", masks ")
    (masks / "train" / "a" / "00.png").write_bytes(b"other")
    assert of(masks=False) == bare
    assert of(masks=True) != used
    (masks / "train" / "a" / "00.png").unlink()
    assert of(masks=True) != used
