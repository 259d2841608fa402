# SPDX-License-Identifier: Apache-2.0
import io
import pickle
import tarfile
import tracemalloc
import zipfile

import pytest

from iclmsr.data.trees import open_tree
from iclmsr.errors import IclmsrError

FILES = {f"set/train/c{i % 2}/{i}.bin": bytes([i]) * (100 * i + 1) for i in range(6)}


def pack(path, method=zipfile.ZIP_DEFLATED):
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", method) as archive:
            for name, content in FILES.items():
                archive.writestr(name, content)
    else:
        with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
            for name, content in FILES.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path


def made(folder, kind):
    if kind == "folder":
        for name, content in FILES.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return folder
    method = zipfile.ZIP_STORED if kind == "stored.zip" else zipfile.ZIP_DEFLATED
    return pack(folder / kind, method)


@pytest.mark.parametrize("kind", ["folder", "a.tar", "a.zip", "stored.zip"])
@pytest.mark.parametrize("below", ["", "set/train"])
def test_single_files_in_any_order(tmp_path, kind, below):
    tree = open_tree(made(tmp_path, kind))
    tree = tree.below(below) if below else tree
    expected = {name.removeprefix(f"{below}/"): content for name, content in FILES.items()}
    readers = {name: tree.reader(name) for name in sorted(tree.files(), reverse=True)}
    assert {name: reader() for name, reader in readers.items()} == expected
    assert {name: reader.size for name, reader in readers.items()} == {
        name: len(content) for name, content in expected.items()
    }
    sent = pickle.dumps(readers[min(readers)])
    assert pickle.loads(sent)() == expected[min(readers)]
    assert len(sent) < 400


@pytest.mark.parametrize("kind", ["a.tar.gz", "bzip2.zip"])
def test_archives_that_have_no_single_files(tmp_path, kind):
    tree = open_tree(pack(tmp_path / kind, zipfile.ZIP_BZIP2))
    assert len(tree.files()) == 6
    with pytest.raises(IclmsrError, match=r"cannot read .*/0\.bin without all files before it: .*"):
        tree.reader("set/train/c0/0.bin")


def test_the_last_of_two_members_of_one_name_counts(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for content in (b"old", b"newer"):
            member = tarfile.TarInfo("0.bin")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    assert open_tree(tmp_path / "a.tar").reader("0.bin")() == b"newer"


def test_why_a_file_cannot_be_read(tmp_path):
    gone = open_tree(made(tmp_path / "x", "folder")).reader("nowhere.bin")
    assert isinstance(gone(), FileNotFoundError)
    assert gone.size == -1
    tar, packed = (pack(tmp_path / name) for name in ("a.tar", "a.zip"))
    last = "set/train/c1/5.bin"
    stored, zipped = open_tree(tar).reader(last), open_tree(packed).reader(last)
    with tar.open("r+b") as file:
        file.truncate(stored.start + 7)
    assert "the archive ends before" in str(stored())
    content = bytearray(packed.read_bytes())
    content[zipped.header + 30 + len(last) + 2] ^= 1
    packed.write_bytes(content)
    assert "damaged in the archive" in str(zipped())
    packed.unlink()
    assert isinstance(zipped(), FileNotFoundError)


def test_no_more_of_a_zip_is_inflated_than_it_says(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("0.png", bytes(20_000_000))
    reader = open_tree(path).reader("0.png")
    assert len(reader()) == 20_000_000
    tracemalloc.start()
    try:
        forged = reader._replace(size=100)()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "damaged in the archive: its CRC-32 is wrong" in str(forged)
    assert peak < 1_000_000
