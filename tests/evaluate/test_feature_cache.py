# SPDX-License-Identifier: Apache-2.0
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from iclmsr.data.images import ImageSet
from iclmsr.data.sources import DataConfig, open_split
from iclmsr.evaluate.feature_cache import GIB, cached, folder, key_of
from iclmsr.evaluate.features import Features
from iclmsr.seeds import generator


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ICLMSR_CACHE", str(tmp_path / "cache"))


def some(rows: int = 10, seed: int = 0) -> Features:
    source = generator(seed, "features")
    return Features(torch.randn(rows, 4, generator=source), torch.arange(rows))


class Counting:
    """Makes features and counts how often it was asked."""

    def __init__(self, features: Features) -> None:
        self.features, self.times = features, 0

    def __call__(self) -> Features:
        self.times += 1
        return self.features


def test_made_once_and_the_same_bits():
    make = Counting(some())
    for _ in range(3):
        found = cached("a" * 64, make, limit=1.0)
        assert torch.equal(found.features, make.features.features)
        assert torch.equal(found.labels, make.features.labels)
    assert make.times == 1
    cached("b" * 64, make, limit=1.0)
    assert make.times == 2


@pytest.mark.parametrize(("key", "limit"), [(None, 1.0), ("a" * 64, 0)])
def test_nothing_is_kept_where_none_is_asked_for(key, limit):
    make = Counting(some())
    for _ in range(2):
        cached(key, make, limit=limit)
    assert make.times == 2
    assert not folder().exists()


@pytest.mark.parametrize("harm", ["cut", "byte", "header", "empty", "other"])
def test_a_damaged_file_is_made_anew(harm):
    make = Counting(some())
    cached("a" * 64, make, limit=1.0)
    (path,) = folder().iterdir()
    whole = path.read_bytes()
    harmed = {
        "cut": whole[:-8],
        "byte": whole[:-50] + bytes([whole[-50] ^ 1]) + whole[-49:],
        "header": b"\xff" * 8 + whole[8:],
        "empty": b"",
        "other": b"not features at all",
    }
    path.write_bytes(harmed[harm])
    with pytest.warns(UserWarning, match="is damaged .* extracted anew"):
        found = cached("a" * 64, make, limit=1.0)
    assert torch.equal(found.features, make.features.features)
    assert make.times == 2
    assert path.read_bytes() == whole
    assert [each.name for each in folder().iterdir()] == [path.name]


def test_the_least_recently_used_go():
    limit = 2.5 * sum(each.nbytes for each in some(500)) / GIB
    makes = {name: Counting(some(500, seed=number)) for number, name in enumerate("abc")}

    def use(name):
        """Then makes all files long unused, in the order of their use."""
        cached(name * 64, makes[name], limit=limit)
        files = sorted(folder().iterdir(), key=lambda path: path.stat().st_mtime_ns)
        for place, path in enumerate(files):
            os.utime(path, (1e9 + place, 1e9 + place))

    for name in "abacba":  # a, b; a again; c drives b out; b drives a out
        use(name)
    assert [makes[name].times for name in "abc"] == [2, 2, 1]
    assert len(list(folder().iterdir())) == 2


def test_what_is_larger_than_the_limit_is_not_kept():
    cached("a" * 64, Counting(some(1000)), limit=1e-7)
    assert not folder().exists()


def test_a_cache_that_cannot_be_written_to_is_no_error(tmp_path):
    (tmp_path / "cache").write_text("a file in the way")
    with pytest.warns(UserWarning, match="not kept for the next time"):
        found = cached("a" * 64, Counting(some()), limit=1.0)
    assert torch.equal(found.features, some().features)


def test_the_key_is_of_encoder_pixels_labels_and_normalization():
    images = ImageSet(torch.zeros(4, 3, 2, 2, dtype=torch.uint8), torch.arange(4), tuple("abcd"))
    data = DataConfig()
    keys = {
        key_of("one", images, data, "cpu", 512),
        key_of("two", images, data, "cpu", 512),
        key_of("one", images, data, "cuda", 512),
        key_of("one", images, data, "cpu", 511),
        key_of("one", images, replace(data, mean=(0.5, 0.5, 0.5)), "cpu", 512),
        key_of("one", replace(images, labels=images.labels.flip(0)), data, "cpu", 512),
        key_of("one", replace(images, images=images.images + 1), data, "cpu", 512),
    }
    assert len(keys) == 7
    assert key_of("one", images, data, "cpu", 512) in keys


def test_images_left_in_their_files_are_known_by_their_times(tmp_path):
    for number in range(4):
        place = tmp_path / "set" / "train" / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(place / f"{number}.bmp")
    data = DataConfig("folder", tmp_path / "set", 8, resident="disk")

    def key(config: DataConfig) -> str | None:
        return key_of("one", open_split(config, "train"), config)

    first = key(data)
    assert first == key(data)
    changed = tmp_path / "set" / "train" / "a" / "0.bmp"
    size = changed.stat().st_size
    Image.new("RGB", (8, 8), (99, 0, 0)).save(changed)
    assert changed.stat().st_size == size
    assert key(data) != first
    assert key(replace(data, evaluate_crop=4)) != key(data)
    elsewhere = replace(data)
    object.__setattr__(elsewhere, "root", "http://127.0.0.1/set")
    assert key_of("one", open_split(data, "train"), elsewhere) is None
    assert isinstance(data.root, Path)


def test_a_cache_in_no_home_folder_is_no_error(monkeypatch):
    monkeypatch.setenv("ICLMSR_CACHE", "~nobody-of-this-name/x")
    with pytest.warns(UserWarning, match="not kept for the next time: .*: set ICLMSR_CACHE"):
        found = cached("a" * 64, Counting(some()), limit=1.0)
    assert torch.equal(found.features, some().features)
