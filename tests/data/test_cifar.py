# SPDX-License-Identifier: Apache-2.0
import dataclasses
import hashlib
import io
import os
import pickle
import re
import tarfile
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from iclmsr.data.cifar import CIFAR10, CIFAR100, Cifar, holds_cifar, read_cifar
from iclmsr.data.draw import Draw
from iclmsr.data.resize import resized
from iclmsr.errors import IclmsrError

PYTHON, BINARY = CIFAR10.layouts
PYTHON_100, BINARY_100 = CIFAR100.layouts
LAYOUTS = pytest.mark.parametrize(
    "layout", [PYTHON, BINARY, PYTHON_100, BINARY_100], ids=lambda layout: layout.folder
)
COUNT = 3
PIXELS = np.random.default_rng(0).integers(0, 256, (6, COUNT, 3, 32, 32), np.uint8)
LABELS = np.random.default_rng(1).integers(0, 10, (6, COUNT))


def cifar_of(layout):
    return CIFAR10 if layout.folder.startswith("cifar-10-") else CIFAR100


def is_binary(layout):
    return layout.parts["test"][0].endswith(".bin")


def names_of(layout):
    return [*layout.parts["train"], *layout.parts["test"]]


def encode(layout, pixels, labels, *, protocol=2, text=bytes):
    """One file in the bytes of its layout."""
    fine = cifar_of(layout) is CIFAR100
    if is_binary(layout):
        columns = [19 - labels[:, None]] * fine + [labels[:, None], pixels.reshape(-1, 3072)]
        return np.concatenate(columns, 1).astype("u1").tobytes()
    key = (lambda name: name.encode()) if text is bytes else str
    batch = {
        key("batch_label"): key("training batch 1 of 5"),
        key("fine_labels" if fine else "labels"): labels.tolist(),
        key("data"): pixels.reshape(-1, 3072),
        key("filenames"): [key(f"{number}.png") for number in range(len(labels))],
    }
    if fine:
        batch[key("coarse_labels")] = (19 - labels).tolist()
    return pickle.dumps(batch, protocol)


def encode_names(layout, names):
    if is_binary(layout):
        return "\n".join([*names, ""]).encode()
    key = b"fine_label_names" if cifar_of(layout) is CIFAR100 else b"label_names"
    return pickle.dumps({b"num_vis": 3072, key: [name.encode() for name in names]}, 2)


def all_files(layout, **options):
    files = {
        name: encode(layout, PIXELS[number], LABELS[number], **options)
        for number, name in enumerate(names_of(layout))
    }
    return {**files, layout.meta: encode_names(layout, cifar_of(layout).classes)}


def unpack(root, layout, files):
    folder = root / layout.folder
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def pack(root, layout, files):
    path = root / layout.archive
    with tarfile.open(path, "w:gz") as archive:
        for name, content in reversed(files.items()):  # the official order is mixed as well
            member = tarfile.TarInfo(f"{layout.folder}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def read(root, split="train", layout=PYTHON):
    """A set that is small, about which the reader warns exactly once."""
    with pytest.warns(UserWarning, match="is not of the official size: 3 images per") as record:
        images = read_cifar(cifar_of(layout), root, split)
    assert len(record) == 1
    assert Path(record[0].filename) == Path(__file__)
    return images


def check(images, split="train", layout=PYTHON):
    train = len(layout.parts["train"])
    index = slice(0, train) if split == "train" else slice(train, train + 1)
    pixels = torch.from_numpy(PIXELS[index].reshape(-1, 3, 32, 32))
    assert images.images.dtype == torch.uint8
    assert images.labels.dtype == torch.int64
    torch.testing.assert_close(images.images, pixels, rtol=0, atol=0)
    assert images.labels.tolist() == LABELS[index].ravel().tolist()
    assert images.classes == cifar_of(layout).classes


@LAYOUTS
@pytest.mark.parametrize("split", ["train", "test"])
def test_every_place_gives_the_written_bytes(tmp_path, layout, split):
    packed, unpacked = tmp_path / "packed", tmp_path / "unpacked"
    packed.mkdir()
    unpacked.mkdir()
    archive = pack(packed, layout, all_files(layout))
    folder = unpack(unpacked, layout, all_files(layout))
    renamed = folder.rename(unpacked / "renamed")
    renamed_archive = tmp_path / "mine.tgz"
    renamed_archive.write_bytes(archive.read_bytes())
    folder = unpack(unpacked, layout, all_files(layout))
    prints = set()
    for root in (packed, archive, renamed_archive, unpacked, folder, renamed):
        assert holds_cifar(cifar_of(layout), root)
        images = read(root, split, layout)
        check(images, split, layout)
        prints.add(images.fingerprint())
    assert len(prints) == 1
    assert sorted(path.name for path in packed.iterdir()) == [layout.archive]


@pytest.mark.parametrize(
    "first", ["._cifar-10-batches-py", "README", "./.DS_Store", "._cifar-10-batches-py/._meta"]
)
def test_an_archive_that_begins_with_something_else(tmp_path, first):
    path = tmp_path / "mine.tar"
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo(first))
        archive.add(unpack(tmp_path, PYTHON, all_files(PYTHON)), PYTHON.folder)
    check(read(path))


@LAYOUTS
@pytest.mark.parametrize("size", [16, 32, 48])
def test_another_size_and_some_of_the_images(tmp_path, monkeypatch, layout, size):
    unpack(tmp_path, layout, all_files(layout))
    whole = read(tmp_path, layout=layout)
    monkeypatch.setattr("iclmsr.data.cifar.CHUNK", 2)
    for draw in (Draw(), Draw(3, seed=1)):
        with pytest.warns(UserWarning, match="official size"):
            found = read_cifar(cifar_of(layout), tmp_path, "train", image_size=size, draw=draw)
        expected = draw.of(whole)
        assert torch.equal(found.images, resized(expected.images, size))
        assert torch.equal(found.labels, expected.labels)


def test_first_pixels_of_a_binary_record(tmp_path):
    record = bytes([7]) + b"r" * 1024 + b"g" * 1024 + b"b" * 1022 + b"XY"
    files = dict.fromkeys(names_of(BINARY), record * 3)
    images = read(unpack(tmp_path, BINARY, files), "test")
    assert images.images[0, :, 0, 0].tolist() == list(b"rgb")
    assert images.images[0, 2, 31, 30:].tolist() == list(b"XY")
    assert images.labels.tolist() == [7, 7, 7]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("text", [bytes, str])
def test_python_batches_of_any_protocol_and_kind_of_key(tmp_path, protocol, text):
    files = all_files(PYTHON, protocol=protocol, text=text)
    check(read(unpack(tmp_path, PYTHON, files)))


def test_python_batch_in_fortran_order_with_array_of_labels(tmp_path):
    for number, name in enumerate(names_of(PYTHON)):
        data = np.asfortranarray(PIXELS[number].reshape(-1, 3072))
        batch = {"data": data, "labels": LABELS[number]}
        (tmp_path / name).write_bytes(pickle.dumps(batch))
    check(read(tmp_path))


@LAYOUTS
def test_class_names_come_from_the_file_when_there(tmp_path, layout):
    classes = cifar_of(layout).classes
    others = [f"class{number}" for number in range(len(classes))]
    files = all_files(layout) | {layout.meta: encode_names(layout, others)}
    folder = unpack(tmp_path, layout, files)
    assert read(folder, layout=layout).classes == tuple(others)
    (folder / layout.meta).unlink()
    assert read(folder, layout=layout).classes == classes
    (folder / layout.meta).write_bytes(encode_names(layout, others[1:]))
    count = len(others)
    message = rf"^\S+{re.escape(layout.meta)}: expected {count} class names, found {count - 1}$"
    with pytest.raises(IclmsrError, match=message):
        read_cifar(cifar_of(layout), folder, "train")


def test_fine_labels_count(tmp_path):
    record = bytes([3, 77]) + bytes(3072)
    folder = unpack(tmp_path, BINARY_100, {"train.bin": record * 2, "test.bin": record})
    with pytest.warns(UserWarning, match="2 images per batch .official 50,000."):
        assert read_cifar(CIFAR100, folder, "train").labels.tolist() == [77, 77]
    with pytest.warns(UserWarning, match="1 images per batch .official 10,000."):
        assert read_cifar(CIFAR100, folder, "test").labels.tolist() == [77]


def as_official(layout, path, **changes):
    """A CIFAR whose only layout has the size of the archive at ``path``."""
    changes = {"size": path.stat().st_size} | changes
    cifar = cifar_of(layout)
    return Cifar(cifar.name, cifar.classes, (dataclasses.replace(layout, **changes),))


def test_official_size_does_not_warn(tmp_path):
    path = pack(tmp_path, BINARY, all_files(BINARY))
    counts = {"train": COUNT, "test": COUNT}
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    with pytest.warns(UserWarning, match=r"[\d,]+ bytes packed \(official 170,052,171\)$"):
        read_cifar(as_official(BINARY, path, counts=counts, size=BINARY.size), path, "train")
    official = as_official(BINARY, path, counts=counts, md5=md5)
    check(read_cifar(official, path, "train"))
    check(read_cifar(official, unpack(tmp_path, BINARY, all_files(BINARY)), "train"))


@LAYOUTS
def test_official_size_with_another_checksum_is_an_error(tmp_path, layout):
    path = pack(tmp_path, layout, all_files(layout))
    found = hashlib.md5(path.read_bytes()).hexdigest()
    message = f"^{path}: corrupt archive: the official md5 is {layout.md5}, found {found}; "
    with pytest.raises(IclmsrError, match=message):
        read_cifar(as_official(layout, path), path, "train")


def test_official_numbers():
    assert (PYTHON.size, PYTHON.md5) == (170_498_071, "c58f30108f718f92721af3b95e74349a")
    assert (BINARY.size, BINARY.md5) == (170_052_171, "c32a1d4ab5d03f1284b67883e8d87530")
    assert (PYTHON_100.size, PYTHON_100.md5) == (169_001_437, "eb9058c3a382ffc7106e4002c42a8d85")
    assert (BINARY_100.size, BINARY_100.md5) == (168_513_733, "03b5dce01913d631647c71ecec9e9cb8")
    assert len(CIFAR100.classes) == 100
    assert list(CIFAR100.classes) == sorted(set(CIFAR100.classes))


@LAYOUTS
@pytest.mark.parametrize("pack_it", [False, True])
def test_missing_batch_is_named(tmp_path, layout, pack_it):
    files = all_files(layout)
    gone = layout.parts["train"][-1]
    del files[gone]
    place = (pack if pack_it else unpack)(tmp_path, layout, files)
    folder = f", folder {layout.folder}" if pack_it else ""
    message = re.escape(f"{gone} is missing: looked in {place}{folder}")
    with pytest.raises(IclmsrError, match=f"^{message}$"):
        read_cifar(cifar_of(layout), tmp_path, "train")
    check(read(tmp_path, "test", layout), "test", layout)


def test_nothing_there(tmp_path):
    assert not holds_cifar(CIFAR10, tmp_path)
    assert not holds_cifar(CIFAR10, tmp_path / "absent")
    (tmp_path / "notes.txt").touch()
    assert not holds_cifar(CIFAR10, tmp_path / "notes.txt")
    pack(tmp_path, PYTHON_100, all_files(PYTHON_100))
    assert not holds_cifar(CIFAR10, tmp_path)
    assert not holds_cifar(CIFAR10, tmp_path / PYTHON_100.archive)
    message = f"^no CIFAR-10 in {tmp_path}: looked for cifar-10-batches-py, cifar-10-batches-bin, "
    with pytest.raises(IclmsrError, match=message + r"cifar-10-python\.tar\.gz, cifar-10-b"):
        read_cifar(CIFAR10, tmp_path, "train")


def test_empty_folder_of_the_right_name(tmp_path):
    (tmp_path / PYTHON.folder).mkdir()
    assert holds_cifar(CIFAR10, tmp_path)
    with pytest.raises(IclmsrError, match=r"^test_batch is missing: looked in "):
        read_cifar(CIFAR10, tmp_path, "test")


@pytest.mark.parametrize("change", [-1, 1, -3 * 3073])
def test_binary_batch_of_a_wrong_size(tmp_path, change):
    files = all_files(BINARY)
    content = files["data_batch_2.bin"]
    files["data_batch_2.bin"] = content[:change] if change < 0 else content + b"x"
    folder = unpack(tmp_path, BINARY, files)
    message = (
        rf"^{folder}/data_batch_2\.bin: expected a multiple of 3,073 bytes, "
        rf"found {3 * 3073 + change:,}$"
    )
    with pytest.raises(IclmsrError, match=message):
        read_cifar(CIFAR10, folder, "train")


@pytest.mark.parametrize("layout", [PYTHON, BINARY], ids=["python", "binary"])
def test_batches_that_differ_in_size(tmp_path, layout):
    name = layout.parts["train"][2]
    files = all_files(layout) | {name: encode(layout, PIXELS[2][:2], LABELS[2][:2])}
    folder = unpack(tmp_path, layout, files)
    message = (
        rf"^{folder}/{name}: 2 images, but data_batch_1\S* has 3; an official batch has 10,000$"
    )
    with pytest.raises(IclmsrError, match=message):
        read_cifar(CIFAR10, folder, "train")


def test_repeated_member_of_another_size_is_an_error(tmp_path):
    path = pack(tmp_path, BINARY, all_files(BINARY))
    with tarfile.open(path, "w:gz") as archive:
        for content in (encode(BINARY, PIXELS[0], LABELS[0]), bytes(3073)):
            member = tarfile.TarInfo("cifar-10-batches-bin/data_batch_1.bin")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    with pytest.raises(IclmsrError, match=r"data_batch_1\.bin: 1 images, but data_batch_1\.bin"):
        read_cifar(CIFAR10, path, "train")


@LAYOUTS
@pytest.mark.parametrize("excess", [0, 100])
def test_label_outside_the_classes(tmp_path, layout, excess):
    count = len(cifar_of(layout).classes)
    labels = LABELS[5].copy()
    labels[1] = count + excess
    name = layout.parts["test"][0]
    files = all_files(layout) | {name: encode(layout, PIXELS[5], labels)}
    folder = unpack(tmp_path, layout, files)
    message = rf"labels must be in 0\.\.{count - 1}, found {count + excess}"
    with pytest.raises(IclmsrError, match=rf"^{folder}/{re.escape(name)}: {message}$"):
        read_cifar(cifar_of(layout), folder, "test")


GOOD = {"data": PIXELS[5].reshape(-1, 3072), "labels": LABELS[5].tolist()}


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (GOOD | {"labels": [1, -1, 3]}, r"labels must be in 0\.\.9, found -1"),
        (GOOD | {"labels": [1, 2.5, 3]}, "labels must be a list of 3 integers"),
        (GOOD | {"labels": None}, "labels must be a list of 3 integers"),
        ({"data": GOOD["data"], "fine_labels": [1, 2, 3]}, "labels must be a list of 3 integers"),
        (GOOD | {"labels": [1, 2]}, "expected 3 labels, found 2"),
        (GOOD | {"labels": LABELS}, "labels must be a list of 3 integers"),
        (GOOD | {"data": GOOD["data"][:, 1:]}, r"data must be uint8 .* found uint8 \(3, 3071\)"),
        (GOOD | {"data": GOOD["data"].astype(np.float32)}, r"found float32 \(3, 3072\)"),
        (GOOD | {"data": GOOD["data"].ravel()}, r"found uint8 \(9216,\)"),
        (GOOD | {"data": np.uint8(3)}, "found int"),
        (GOOD | {"data": np.array(3, np.uint8)}, r"found uint8 \(\)"),
        (GOOD | {"data": GOOD["data"][:0]}, r"found uint8 \(0, 3072\)"),
        ({"labels": [1, 2, 3]}, "data must be uint8 .* found NoneType"),
        ([1, 2], "expected a pickled dict, found list"),
        (GOOD | {"data": GOOD["data"].astype(object)}, "refusing values of type 'O8'"),
    ],
)
def test_python_batch_of_wrong_content(tmp_path, batch, message):
    folder = unpack(tmp_path, PYTHON, {"test_batch": pickle.dumps(batch)})
    with pytest.raises(IclmsrError, match=f"^{folder}/test_batch: .*{message}[^\n]*$"):
        read_cifar(CIFAR10, folder, "test")


class Malicious:
    def __init__(self, victim):
        self.victim = victim

    def __reduce__(self):
        return os.system, (f"touch {self.victim}",)


@pytest.mark.parametrize("name", ["data_batch_1", "batches.meta"])
@pytest.mark.parametrize("pack_it", [False, True])
def test_malicious_batch_is_refused_and_not_executed(tmp_path, name, pack_it):
    victim = tmp_path / "victim"
    files = all_files(PYTHON) | {name: pickle.dumps({b"data": Malicious(victim)})}
    place = (pack if pack_it else unpack)(tmp_path, PYTHON, files)
    with pytest.raises(IclmsrError, match=rf"^{place}/{name}: refusing '\w+\.system': a data file"):
        read_cifar(CIFAR10, tmp_path, "train")
    assert not victim.exists()


@LAYOUTS
def test_every_truncated_archive_is_an_error(tmp_path, layout):
    path = pack(tmp_path, layout, all_files(layout))
    content = path.read_bytes()
    for length in [0, 1, 9, 10, 11, *range(100, len(content), 4999), len(content) - 9]:
        path.write_bytes(content[:length])
        message = (
            rf"^{path}: truncated or corrupt archive \([^\n]+\): found {length:,} bytes, the "
            rf"official one has {layout.size:,} bytes and md5 {layout.md5}; download it again$"
        )
        with pytest.raises(IclmsrError, match=message):
            read_cifar(cifar_of(layout), path, "train")


def test_archives_that_are_not(tmp_path):
    path = pack(tmp_path, BINARY, all_files(BINARY))
    content = bytearray(path.read_bytes())
    content[-6] ^= 1  # in gzip's checksum
    for broken, reason in [
        (bytes(content), "BadGzipFile: CRC check failed"),
        (b"<html>404</html>", "BadGzipFile: Not a gzipped file"),
        (path.read_bytes()[:20] + bytes(200), "error: Error -3"),
    ]:
        path.write_bytes(broken)
        with pytest.raises(IclmsrError, match=rf"^{path}: truncated or corrupt.*{reason}.*again$"):
            read_cifar(CIFAR10, path, "test")
    other = path.rename(tmp_path / "other.tar.gz")
    with pytest.raises(IclmsrError, match=r"found 220 bytes; download it again$"):
        read_cifar(CIFAR10, other, "test")


def test_other_members_of_an_archive_are_not_read(tmp_path):
    files = all_files(BINARY)
    good = files.pop("test_batch.bin")
    files = {"sub/test_batch.bin": bytes(3 * 3073), "readme.html": b"hello", **files}
    path = pack(tmp_path, BINARY, files)
    with pytest.raises(IclmsrError, match=r"^test_batch\.bin is missing"):
        read_cifar(CIFAR10, path, "test")
    check(read(pack(tmp_path, BINARY, files | {"test_batch.bin": good}), "test"), "test")


@pytest.mark.parametrize("name", ["../test_batch.bin", "../../evil"])
def test_archive_with_a_path_that_leads_out_is_refused(tmp_path, name):
    path = pack(tmp_path, BINARY, all_files(BINARY) | {name: b""})
    before = sorted(tmp_path.parent.rglob("*"))
    with pytest.raises(IclmsrError, match=rf"refusing .* '{BINARY.folder}/{name}' leads out of"):
        read_cifar(CIFAR10, path, "test")
    assert sorted(tmp_path.parent.rglob("*")) == before


def test_only_the_needed_split_is_read(tmp_path):
    files = all_files(BINARY) | {"data_batch_1.bin": b"broken"}
    check(read(pack(tmp_path, BINARY, files), "test"), "test")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(IclmsrError, match=r"found 6$"):
            read_cifar(CIFAR10, tmp_path, "train")


def test_unpacked_goes_before_packed(tmp_path):
    pack(tmp_path, PYTHON, {})
    unpack(tmp_path, BINARY, all_files(BINARY))
    check(read(tmp_path))
