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

from iclmsr.data import cifar
from iclmsr.data.cifar import BINARY, CLASSES, PYTHON, holds_cifar10, read_cifar10
from iclmsr.errors import IclmsrError

LAYOUTS = pytest.mark.parametrize("layout", [PYTHON, BINARY], ids=["python", "binary"])
NAMES = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
COUNT = 3
PIXELS = np.random.default_rng(0).integers(0, 256, (6, COUNT, 3, 32, 32), np.uint8)
LABELS = np.random.default_rng(1).integers(0, 10, (6, COUNT))
OTHER_CLASSES = [f"class{number}" for number in range(10)]


def encode(layout, pixels, labels, *, protocol=2, text=bytes):
    """One batch in the bytes of its layout."""
    if layout is BINARY:
        return np.concatenate([labels[:, None], pixels.reshape(-1, 3072)], 1).astype("u1").tobytes()
    key = (lambda name: name.encode()) if text is bytes else str
    batch = {
        key("batch_label"): key("training batch 1 of 5"),
        key("labels"): labels.tolist(),
        key("data"): pixels.reshape(-1, 3072),
        key("filenames"): [key(f"{number}.png") for number in range(len(labels))],
    }
    return pickle.dumps(batch, protocol)


def encode_names(layout, names):
    if layout is BINARY:
        return "\n".join([*names, ""]).encode()
    return pickle.dumps({b"num_vis": 3072, b"label_names": [name.encode() for name in names]}, 2)


def all_files(layout, **options):
    files = {
        name + layout.suffix: encode(layout, PIXELS[number], LABELS[number], **options)
        for number, name in enumerate(NAMES)
    }
    return {**files, layout.meta: encode_names(layout, CLASSES)}


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


def read(root, split="train"):
    """A set that is small, about which the reader warns exactly once."""
    with pytest.warns(UserWarning, match="is not of the official size: 3 images per") as record:
        images = read_cifar10(root, split)
    assert len(record) == 1
    assert Path(record[0].filename) == Path(__file__)
    return images


def check(images, split="train"):
    index = slice(0, 5) if split == "train" else slice(5, 6)
    pixels = torch.from_numpy(PIXELS[index].reshape(-1, 3, 32, 32))
    assert images.images.dtype == torch.uint8
    assert images.labels.dtype == torch.int64
    torch.testing.assert_close(images.images, pixels, rtol=0, atol=0)
    assert images.labels.tolist() == LABELS[index].ravel().tolist()
    assert images.classes == CLASSES


@LAYOUTS
@pytest.mark.parametrize("split", ["train", "test"])
def test_every_place_gives_the_written_bytes(tmp_path, layout, split):
    packed, unpacked = tmp_path / "packed", tmp_path / "unpacked"
    packed.mkdir()
    unpacked.mkdir()
    archive = pack(packed, layout, all_files(layout))
    folder = unpack(unpacked, layout, all_files(layout))
    renamed = folder.rename(unpacked / "renamed")
    renamed_archive = tmp_path / f"my-{'binary' if layout is BINARY else 'python'}.tgz"
    renamed_archive.write_bytes(archive.read_bytes())
    folder = unpack(unpacked, layout, all_files(layout))
    prints = set()
    for root in (packed, archive, renamed_archive, unpacked, folder, renamed):
        assert holds_cifar10(root)
        images = read(root, split)
        check(images, split)
        prints.add(images.fingerprint())
    assert len(prints) == 1
    assert sorted(path.name for path in packed.iterdir()) == [layout.archive]


def test_first_pixels_of_a_binary_record(tmp_path):
    record = bytes([7]) + b"r" * 1024 + b"g" * 1024 + b"b" * 1022 + b"XY"
    files = {f"{name}.bin": record * 3 for name in NAMES}
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
    for number, name in enumerate(NAMES):
        data = np.asfortranarray(PIXELS[number].reshape(-1, 3072))
        batch = {"data": data, "labels": LABELS[number]}
        (tmp_path / name).write_bytes(pickle.dumps(batch))
    check(read(tmp_path))


@LAYOUTS
def test_class_names_come_from_the_file_when_there(tmp_path, layout):
    files = all_files(layout) | {layout.meta: encode_names(layout, OTHER_CLASSES)}
    folder = unpack(tmp_path, layout, files)
    assert read(folder).classes == tuple(OTHER_CLASSES)
    (folder / layout.meta).unlink()
    assert read(folder).classes == CLASSES
    (folder / layout.meta).write_bytes(encode_names(layout, OTHER_CLASSES[:9]))
    message = rf"^\S+{re.escape(layout.meta)}: expected 10 class names, found 9$"
    with pytest.raises(IclmsrError, match=message):
        read_cifar10(folder, "train")


def test_official_size_does_not_warn(tmp_path, monkeypatch):
    monkeypatch.setattr(cifar, "BATCH", COUNT)
    path = pack(tmp_path, BINARY, all_files(BINARY))
    official = dataclasses.replace(
        BINARY, size=path.stat().st_size, md5=hashlib.md5(path.read_bytes()).hexdigest()
    )
    with pytest.warns(UserWarning, match=r"[\d,]+ bytes packed \(official 170,052,171\)$"):
        read_cifar10(path, "train")
    monkeypatch.setattr(cifar, "BINARY", official)
    check(read_cifar10(path, "train"))
    check(read_cifar10(unpack(tmp_path, BINARY, all_files(BINARY)), "train"))


@LAYOUTS
def test_official_size_with_another_checksum_is_an_error(tmp_path, monkeypatch, layout):
    path = pack(tmp_path, layout, all_files(layout))
    name = "BINARY" if layout is BINARY else "PYTHON"
    monkeypatch.setattr(cifar, name, dataclasses.replace(layout, size=path.stat().st_size))
    found = hashlib.md5(path.read_bytes()).hexdigest()
    message = f"^{path}: corrupt archive: the official md5 is {layout.md5}, found {found}; "
    with pytest.raises(IclmsrError, match=message):
        read_cifar10(path, "train")


def test_official_numbers():
    assert (PYTHON.size, PYTHON.md5) == (170_498_071, "c58f30108f718f92721af3b95e74349a")
    assert (BINARY.size, BINARY.md5) == (170_052_171, "c32a1d4ab5d03f1284b67883e8d87530")


@LAYOUTS
@pytest.mark.parametrize("pack_it", [False, True])
def test_missing_batch_is_named(tmp_path, layout, pack_it):
    files = all_files(layout)
    del files["data_batch_4" + layout.suffix]
    place = (pack if pack_it else unpack)(tmp_path, layout, files)
    folder = f", folder {layout.folder}" if pack_it else ""
    message = re.escape(f"data_batch_4{layout.suffix} is missing: looked in {place}{folder}")
    with pytest.raises(IclmsrError, match=f"^{message}$"):
        read_cifar10(tmp_path, "train")
    check(read(tmp_path, "test"), "test")


def test_nothing_there(tmp_path):
    assert not holds_cifar10(tmp_path)
    assert not holds_cifar10(tmp_path / "absent")
    message = f"^no CIFAR-10 in {tmp_path}: looked for cifar-10-batches-py, cifar-10-batches-bin, "
    with pytest.raises(IclmsrError, match=message + r"cifar-10-python\.tar\.gz, cifar-10-b"):
        read_cifar10(tmp_path, "train")


def test_empty_folder_of_the_right_name(tmp_path):
    (tmp_path / PYTHON.folder).mkdir()
    assert holds_cifar10(tmp_path)
    with pytest.raises(IclmsrError, match=r"^test_batch is missing: looked in "):
        read_cifar10(tmp_path, "test")


@pytest.mark.parametrize("change", [-1, 1, -3 * 3073])
def test_binary_batch_of_a_wrong_size(tmp_path, change):
    files = all_files(BINARY)
    content = files["data_batch_2.bin"]
    files["data_batch_2.bin"] = content[:change] if change < 0 else content + b"x"
    folder = unpack(tmp_path, BINARY, files)
    message = (
        rf"^{folder}/data_batch_2\.bin: expected a multiple of 3,073 bytes "
        rf"\(official 30,730,000\), found {3 * 3073 + change:,}$"
    )
    with pytest.raises(IclmsrError, match=message):
        read_cifar10(folder, "train")


@LAYOUTS
def test_batches_that_differ_in_size(tmp_path, layout):
    name = "data_batch_3" + layout.suffix
    files = all_files(layout) | {name: encode(layout, PIXELS[2][:2], LABELS[2][:2])}
    folder = unpack(tmp_path, layout, files)
    message = (
        rf"^{folder}/{name}: 2 images, but data_batch_1\S* has 3; an official batch has "
        "10,000 images, in the binary version 30,730,000 bytes$"
    )
    with pytest.raises(IclmsrError, match=message):
        read_cifar10(folder, "train")


def test_repeated_member_of_another_size_is_an_error(tmp_path):
    path = pack(tmp_path, BINARY, all_files(BINARY))
    with tarfile.open(path, "w:gz") as archive:
        for content in (encode(BINARY, PIXELS[0], LABELS[0]), bytes(3073)):
            member = tarfile.TarInfo("cifar-10-batches-bin/data_batch_1.bin")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    with pytest.raises(IclmsrError, match=r"data_batch_1\.bin: 1 images, but data_batch_1\.bin"):
        read_cifar10(path, "train")


@LAYOUTS
@pytest.mark.parametrize("label", [10, 255])
def test_label_outside_the_classes(tmp_path, layout, label):
    labels = LABELS[5].copy()
    labels[1] = label
    name = "test_batch" + layout.suffix
    files = all_files(layout) | {name: encode(layout, PIXELS[5], labels)}
    folder = unpack(tmp_path, layout, files)
    message = rf"^{folder}/{re.escape(name)}: labels must be in 0\.\.9, found {label}$"
    with pytest.raises(IclmsrError, match=message):
        read_cifar10(folder, "test")


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
        read_cifar10(folder, "test")


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
        read_cifar10(tmp_path, "train")
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
            read_cifar10(path, "train")


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
            read_cifar10(path, "test")
    other = path.rename(tmp_path / "other.tar.gz")
    with pytest.raises(IclmsrError, match=r"found 220 bytes; download it again$"):
        read_cifar10(other, "test")


def test_archive_members_elsewhere_or_irregular_are_not_read(tmp_path):
    secret = tmp_path / "secret.bin"
    secret.write_bytes(encode(BINARY, PIXELS[0], LABELS[0]))
    files = all_files(BINARY)
    good = files.pop("test_batch.bin")
    path = tmp_path / BINARY.archive
    name = "cifar-10-batches-bin/test_batch.bin"

    def write(*members):
        with tarfile.open(path, "w:gz") as archive:
            for member, content in members:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))

    def make(name, kind=tarfile.REGTYPE, target=""):
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, target
        return member

    decoys = [
        (make(f"../{name}"), bytes(3 * 3073)),
        (make(f"/{name}"), bytes(3 * 3073)),
        (make("cifar-10-batches-bin/../test_batch.bin"), bytes(3 * 3073)),
        (make("cifar-10-batches-bin/sub/test_batch.bin"), bytes(3 * 3073)),
        (make("test_batch.bin"), bytes(3 * 3073)),
        (make(name, tarfile.SYMTYPE, str(secret)), b""),
        (make(name, tarfile.LNKTYPE, str(secret)), b""),
        (make(name, tarfile.DIRTYPE), b""),
        (make(name, tarfile.FIFOTYPE), b""),
    ]
    write(*decoys)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(IclmsrError, match=r"^test_batch\.bin is missing"):
        read_cifar10(path, "test")
    write(*decoys[:5], (make(name), good), *decoys[5:])
    check(read(path, "test"), "test")
    write((make(f"./{name}"), good))
    check(read(path, "test"), "test")
    assert sorted(tmp_path.rglob("*")) == before


def test_only_the_needed_split_is_read(tmp_path):
    files = all_files(BINARY) | {"data_batch_1.bin": b"broken"}
    check(read(pack(tmp_path, BINARY, files), "test"), "test")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(IclmsrError, match=r"found 6$"):
            read_cifar10(tmp_path, "train")


def test_unpacked_goes_before_packed(tmp_path):
    pack(tmp_path, PYTHON, {})
    unpack(tmp_path, BINARY, all_files(BINARY))
    check(read(tmp_path))
