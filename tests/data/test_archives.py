# SPDX-License-Identifier: Apache-2.0
import io
import os
import re
import tarfile
import warnings
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from iclmsr.data.archives import open_tar
from iclmsr.data.draw import Draw
from iclmsr.data.feed import feed_of
from iclmsr.data.folder import read_images
from iclmsr.data.listing import FOLDERS, Rules, list_folder, top
from iclmsr.data.sources import DataConfig, load, open_split
from iclmsr.data.trees import Archive, open_tree
from iclmsr.errors import IclmsrError

GENERATOR = np.random.default_rng(0)
SIZE = 8
NAMES = ["train/a/0.png", "train/a/sub/1.png", "train/b/0.png", "test/a/0.png", "test/b/0.png"]
FORMATS = pytest.mark.parametrize("name", ["set.tar", "set.tar.gz", "set.tgz", "set.zip"])


def png():
    buffer = io.BytesIO()
    Image.fromarray(GENERATOR.integers(0, 256, (SIZE, SIZE, 3), np.uint8)).save(buffer, "png")
    return buffer.getvalue()


def pack(path, files, prefix=""):
    """An archive of files in the opposite of their order; names that end with / are folders."""
    files = {prefix + name: content for name, content in reversed(files.items())}
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return path
    with tarfile.open(path, "w" if path.suffix == ".tar" else "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            if name.endswith("/"):
                member.type = tarfile.DIRTYPE
            archive.addfile(member, io.BytesIO(content))
    return path


def unpack(root, files):
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def read(root, split="train", *, on_corrupt="error", draw=None, **rules):
    listing = list_folder(top(open_tree(root)), split, Rules(**{"folders": FOLDERS} | rules))
    return read_images(listing, image_size=SIZE, on_corrupt=on_corrupt, draw=draw or Draw())


def fails(message, path):
    with pytest.raises(IclmsrError, match=f"^{message}$"):
        read(path)


@FORMATS
@pytest.mark.parametrize("prefix", ["", "./", "pets/", "./data/pets/"])
def test_an_archive_reads_like_the_folder_that_was_packed(tmp_path, name, prefix):
    files = {name: png() for name in NAMES}
    files |= {"train/a/.hidden.png": b"", "train/.git/0.png": b"", "train/a/notes.txt": b"hello"}
    folder = unpack(tmp_path / "folder", files)
    path = pack(tmp_path / name, files, prefix)
    before = sorted(tmp_path.rglob("*"))
    for split in ("train", "test"):
        found, expected = read(path, split), read(folder, split)
        assert found.fingerprint() == expected.fingerprint()
        assert found.classes == expected.classes == ("a", "b")
    assert sorted(tmp_path.rglob("*")) == before


@FORMATS
def test_archives_without_splits_or_classes(tmp_path, name):
    flat = {"0.png": png(), "1.png": png()}
    assert read(pack(tmp_path / name, flat)).labels.tolist() == [-1, -1]
    classes = {"cat/0.png": png(), "dog/0.png": png()}
    assert read(pack(tmp_path / name, classes, "pets/")).classes == ("cat", "dog")
    one = {"cat/0.png": png(), "cat/1.png": png()}
    assert read(pack(tmp_path / name, one)).classes == ("cat",)
    assert read(pack(tmp_path / name, one), labels=False).labels.tolist() == [-1, -1]
    with pytest.warns(UserWarning, match="^1 image beside the class folders will not be .*"):
        assert read(pack(tmp_path / name, {"0.png": png(), **classes})).classes == ("cat", "dog")


@FORMATS
def test_a_split_folder_that_is_not_in_lower_case_is_not_passed_through(tmp_path, name):
    path = pack(tmp_path / name, {"pets/Train/cat/0.png": png(), "pets/Train/dog/0.png": png()})
    fails(f"{path}/pets/Train is no split, as its name is not in lower case: call it train.*", path)


@FORMATS
@pytest.mark.parametrize("prefix", ["", "pets/"])
def test_an_empty_class_is_an_error_as_in_a_folder(tmp_path, name, prefix):
    empty = ["train/", "train/a/", "test/", "train/eel/", "train/newt/sub/"]
    files = {name: png() for name in NAMES} | dict.fromkeys(empty, b"")
    path = pack(tmp_path / name, files, prefix)
    fails(rf"no images in 2 classes of {path}/{prefix}train: eel, newt: looked for .*", path)
    empty = ["./", "pets/", "logs/", "__MACOSX/", "pets/.git/", "pets/a/", "pets/a/sub/"]
    files = {"pets/a/0.png": png(), "pets/b/0.png": png(), **dict.fromkeys(empty, b"")}
    assert read(pack(path, files)).classes == ("a", "b")  # no class is empty
    files = {"a/0.png": png(), **dict.fromkeys(["a/sub/", "__MACOSX/", "__MACOSX/a/"], b"")}
    assert read(pack(path, files)).classes == ("a",)


@FORMATS
def test_texts_and_folders_beside_that_of_the_splits(tmp_path, name):
    files = {name: png() for name in NAMES}
    expected = read(unpack(tmp_path / "folder", files))
    files = {f"pets/{name}": content for name, content in files.items()}
    path = pack(tmp_path / name, files | {"README.txt": b"hello"})
    assert read(path).fingerprint() == expected.fingerprint()
    for beside in ("notes/README.txt", "0.png"):
        pack(path, files | {beside: b"hello"})
        fails(f"{path} has no folder train, but {path}/pets has: unpack it, or pack .*", path)


@FORMATS
def test_draw_and_corrupt_files(tmp_path, name):
    files = {f"a/{number}.png": png() for number in range(10)}
    draw = Draw(limit=4, seed=1)
    folder = unpack(tmp_path / "folder", files)
    path = pack(tmp_path / name, files)
    assert read(path, draw=draw).fingerprint() == read(folder, draw=draw).fingerprint()
    bad = f"a/{draw.indices(10)[1]}.png"
    files[bad] = files[bad][:60]
    path = pack(tmp_path / name, files)
    fails(rf"{path}/{bad} does not decode \(OSError: .*\): mend it, or .*", path)
    unpack(tmp_path / "folder", files)
    found = read(path, draw=draw, on_corrupt="skip")
    expected = read(folder, draw=draw, on_corrupt="skip")
    assert found.fingerprint() == expected.fingerprint()
    assert found.skipped == (f"{path}/{bad}",)


def pack_in_order(path, files, method=zipfile.ZIP_DEFLATED):
    """An archive of pairs of name and content, of which several may have one name."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", method) as archive, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Duplicate name")
            for name, content in files:
                archive.writestr(name, content)
        return path
    with tarfile.open(path, "w" if path.suffix == ".tar" else "w:gz") as archive:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
@FORMATS
def test_the_last_of_several_members_of_one_name_counts(tmp_path, name, method):
    new, other = png(), png()
    files = [("a/0.png", b"damaged"), ("a/1.png", other), ("a/0.png", png()), ("a/0.png", new)]
    tree = open_tree(pack_in_order(tmp_path / name, files, method))
    assert sorted(tree.contents(["a/0.png", "a/1.png", "a/2.png"])) == [
        ("a/0.png", new),
        ("a/1.png", other),
    ]
    assert dict(tree.below("a").contents(["0.png"])) == {"0.png": new}
    expected = read(unpack(tmp_path / "folder", {"a/0.png": new, "a/1.png": other}))
    assert read(tmp_path / name).fingerprint() == expected.fingerprint()


@FORMATS
@pytest.mark.parametrize("prefix", ["", "set/"])
def test_an_archive_is_listed_in_the_order_of_its_folder(tmp_path, name, prefix):
    classes = ["tree-frog", "tree", "tree frog", "tree.frog", "tree0", "Tree"]
    names = [f"train/{one}/{file}.png" for one in classes for file in ("b", "a", "sub/c")]
    names += ["train/z.png", "train-more/tree/0.png"]
    files = dict.fromkeys(names, b"")
    folder = open_tree(unpack(tmp_path / "folder", files))
    archive = top(open_tree(pack(tmp_path / name, files, prefix)))
    for inside in ("", "train", "train/tree", "train/tree/sub", "nowhere"):
        where = inside if (folder.place / inside).is_dir() else "train/tree/sub"
        assert archive.folders(where) == folder.folders(where)
        assert archive.files(where) == folder.files(where)
        assert archive.files_in(where) == folder.files_in(where)
    assert (
        archive.folders("nowhere") == archive.files("nowhere") == archive.files_in("nowhere") == []
    )


class Path(str):
    """Counts how often one of them is looked at."""

    __slots__ = ()
    looks = 0

    def __lt__(self, other):
        Path.looks += 1
        return super().__lt__(other)

    def __getitem__(self, key):
        Path.looks += 1
        return super().__getitem__(key)

    def startswith(self, *arguments):
        Path.looks += 1
        return super().startswith(*arguments)


def test_listing_an_archive_takes_no_look_at_every_path_for_every_class(tmp_path):
    classes = [f"train/{number}" for number in range(300)]
    paths = [Path(f"{name}/{number}.png") for name in classes for number in range(2)]
    archive = Archive(tmp_path / "set.tar", open_tar, lambda _: ((path, None) for path in paths))
    Path.looks = 0
    assert [len(archive.files(name)) for name in classes] == [2] * len(classes)
    assert Path.looks < 50 * len(classes)


def test_names_that_are_not_utf_8(tmp_path):
    name = os.fsdecode(b"caf\xe9/\xff.png")
    path = pack(tmp_path / "set.tar", {name: png()})
    found = read(path)
    assert found.classes == (os.fsdecode(b"caf\xe9"),)
    fails(
        rf"{path}/caf\\xe9/\\xff\.png does not decode \(ValueError: the file is empty\).*",
        pack(path, {name: b""}),
    )


@FORMATS
@pytest.mark.parametrize("evil", ["../../evil", "/etc/evil.png", "a/../../evil.png"])
def test_paths_that_lead_out_are_refused(tmp_path, name, evil):
    path = pack(tmp_path / name, {"a/0.png": png(), evil: png()})
    before = sorted(tmp_path.rglob("*"))
    fails(
        f"{path}: refusing this archive: its member {re.escape(repr(evil))} leads out of the "
        "archive: do not use it, or pack it anew",
        path,
    )
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (tarfile.SYMTYPE, "is a link to '/etc/passwd': pack files, not links"),
        (tarfile.LNKTYPE, "is a link to '/etc/passwd': pack files, not links"),
        (tarfile.FIFOTYPE, "is not a plain file"),
        (tarfile.CHRTYPE, "is not a plain file"),
    ],
)
def test_members_that_are_no_files_are_refused(tmp_path, kind, message):
    path = tmp_path / "set.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        folder = tarfile.TarInfo("a")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        member = tarfile.TarInfo("a/0.png")
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member)
    fails(f"{path}: refusing this archive: its member 'a/0.png' {message}", path)


@FORMATS
def test_every_truncated_archive_is_an_error(tmp_path, name):
    path = pack(tmp_path / name, {name: png() for name in NAMES})
    content = path.read_bytes()
    for length in [0, 1, 511, 512, *range(700, len(content), 512)]:
        if name == "set.tar" and not any(content[length:]):
            continue  # only zeros are missing
        path.write_bytes(content[:length])
        fails(
            rf"{path}: truncated or corrupt archive \([^\n]+\): found {min(length, len(content)):,}"
            " bytes; download it again",
            path,
        ) if length < len(content) else None


@FORMATS
def test_damaged_archives(tmp_path, name):
    path = pack(tmp_path / name, {name: png() for name in NAMES})
    content = bytearray(path.read_bytes())
    second = content.index(b"train/b/0.png") if name in ("set.tar", "set.zip") else 60
    content[second + 1 : second + 40] = bytes(39)
    path.write_bytes(content)
    if name == "set.zip":  # which has a checksum for each file
        fails(rf"{path}/train/b/0\.png does not decode \(OSError: damaged in the arch.*", path)
    else:
        fails(rf"{path}: truncated or corrupt archive \([^\n]+\): found .*; download.*", path)
    path.write_text("<html>404</html>")
    fails(rf"{path}: truncated or corrupt archive \([^\n]+\): found 16 bytes; download.*", path)


def test_a_damaged_header_is_not_the_end(tmp_path):
    path = pack(tmp_path / "set.tar", {f"a/{number}.png": png() for number in range(3)})
    content = bytearray(path.read_bytes())
    content[content.index(b"a/1.png")] ^= 1  # the header's checksum is wrong now
    path.write_bytes(content)
    fails(rf"{path}: truncated or corrupt archive \(ReadError: no end-of-archive mark\).*", path)


def test_a_wrong_checksum_in_a_zip_is_one_file_s_damage_in_memory_and_on_disk(tmp_path):
    files = {name: png() for name in NAMES}
    path = pack(tmp_path / "set.zip", files)
    content = bytearray(path.read_bytes())
    content[content.index(files["train/a/0.png"]) + 60] ^= 1
    path.write_bytes(content)
    why = rf"{path}/train/a/0\.png does not decode \(OSError: damaged in the archive: .* wrong\)"
    fails(f"{why}: mend it, or .*", path)
    assert read(path, on_corrupt="skip").skipped == (f"{path}/train/a/0.png",)
    config = DataConfig("folder", path, SIZE, on_corrupt="skip", resident="disk")
    images = open_split(config, "train")
    with pytest.warns(UserWarning, match=why), feed_of(images, torch.device("cpu"), 0) as feed:
        feed.fetch(torch.arange(3))


@pytest.mark.parametrize("kind", ["folder", "a.tar", "a.tar.gz", "a.zip", "stored.zip", "bz2.zip"])
def test_files_too_large_for_an_image_are_not_read(tmp_path, kind, monkeypatch):
    monkeypatch.setattr("iclmsr.data.single.LARGEST", 1000)
    files = {"a/0.png": bytes(1001), "a/1.png": bytes(1000)}
    methods = {"stored.zip": zipfile.ZIP_STORED, "bz2.zip": zipfile.ZIP_BZIP2}
    tree = open_tree(
        unpack(tmp_path / kind, files)
        if kind == "folder"
        else pack_in_order(tmp_path / kind, files.items(), methods.get(kind, zipfile.ZIP_DEFLATED))
    )
    found = dict(tree.contents(files))
    assert str(found["a/0.png"]) == "1,001 bytes are too many for an image"
    assert found["a/1.png"] == bytes(1000)


def test_encrypted_zip(tmp_path):
    path = pack(tmp_path / "set.zip", {"a/0.png": png()})
    content = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + offset] |= 1
    path.write_bytes(content)
    fails(rf"{path}: refusing .* its member 'a/0\.png' is encrypted: pack it without.*", path)


def zipped(path, kind=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", kind) as archive:
        archive.writestr("a/0.png", png())
    return bytearray(path.read_bytes())


def test_zip_packed_in_a_way_that_python_does_not_know(tmp_path):
    path = tmp_path / "set.zip"
    content = zipped(path)
    for mark, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        content[content.index(mark) + offset] = 9
    path.write_bytes(content)
    fails(rf"{path}: refusing .* 'a/0\.png' is packed by method 9: pack it with Deflate", path)


@pytest.mark.parametrize(
    ("offset", "value"),
    [(6, 0x40), (8, 0x20)],  # of the directory's entry: version, flag
)
def test_zip_of_an_unknown_kind(tmp_path, offset, value):
    path = tmp_path / "set.zip"
    content = zipped(path)
    for start in (content.index(b"PK\x01\x02") + offset, content.index(b"PK\x03\x04") + offset - 2):
        content[start : start + 2] = value.to_bytes(2, "little")
    path.write_bytes(content)
    fails(rf"{path}: truncated or corrupt archive \(NotImplementedError: .*; download .*", path)


def test_zip_with_a_name_that_is_not_the_utf_8_it_says(tmp_path):
    path = tmp_path / "set.zip"
    content = zipped(path)
    for mark, flags, name in ((b"PK\x03\x04", 6, 30), (b"PK\x01\x02", 8, 46)):
        start = content.index(mark)
        content[start + flags + 1] |= 8
        content[start + name] = 0xFF
    path.write_bytes(content)
    fails(rf"{path}: truncated or corrupt archive \(UnicodeDecodeError: .*; download .*", path)


def test_damaged_lzma(tmp_path):
    path = tmp_path / "set.zip"
    content = zipped(path, zipfile.ZIP_LZMA)
    content[60:120] = bytes(60)
    path.write_bytes(content)
    fails(rf"{path}: truncated or corrupt archive \(LZMAError: .*; download it again", path)


@pytest.mark.parametrize("field", [{"GNU.sparse.map": "a,b"}, {"GNU.sparse.size": "x"}])
def test_numbers_of_a_header_that_are_none(tmp_path, field):
    path = tmp_path / "set.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("a/0.png")
        member.pax_headers, member.size = field, 3
        archive.addfile(member, io.BytesIO(b"123"))
    fails(rf"{path}: truncated or corrupt archive \(ReadError: .*; download it again", path)


def test_backslashes_of_windows_part_folders(tmp_path):
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in NAMES:
            info = zipfile.ZipInfo(name.replace("/", "\\"))
            info.create_system = 0
            archive.writestr(info, png())
        folder = zipfile.ZipInfo("train\\")
        folder.create_system = 0
        archive.writestr(folder, b"")
    assert read(path).labels.tolist() == [0, 0, 1]
    assert len(read(path, "test")) == 2
    with zipfile.ZipFile(path, "a") as archive:
        evil = zipfile.ZipInfo("..\\..\\evil.png")
        evil.create_system = 0
        archive.writestr(evil, png())
    fails(rf"{path}: refusing .* '\.\./\.\./evil\.png' leads out of the archive: .*", path)


def test_members_are_read_one_after_the_other(tmp_path):
    files = {"a/0.png": b"zero", "a/1.png": b"one"}
    with open_tar(pack(tmp_path / "set.tar.gz", files)) as members:
        assert [(name, size, start().read()) for name, size, start in members] == [
            ("a/1.png", 3, b"one"),
            ("a/0.png", 4, b"zero"),
        ]


def test_archives_that_cannot_be_read(tmp_path, monkeypatch):
    path = pack(tmp_path / "set.tar", {"a/0.png": png()})

    def refuse(self, mode):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr("pathlib.Path.open", refuse)  # root may read everything
    fails(f"cannot read {path}: Permission denied", path)


def test_masks_in_the_archive_of_the_images(tmp_path):
    mask = io.BytesIO()
    Image.fromarray(np.eye(SIZE, dtype=np.uint8) * 255).save(mask, "png")
    files = {name: png() for name in NAMES}
    files |= {f"masks/{name}": mask.getvalue() for name in NAMES}
    archive = pack(tmp_path / "set.tar.gz", files, "eth/")
    folder = unpack(tmp_path / "folder", files)
    for root, masks in [(archive, archive), (folder, folder), (folder, folder / "masks")]:
        config = DataConfig(source="folder", root=root, masks=masks, image_size=SIZE)
        found = load(config, "train")
        assert torch.equal(found.masks, torch.eye(SIZE).bool().expand(3, -1, -1))
        assert found.classes == ("a", "b")
        assert found.fingerprint() == read(folder).fingerprint()


@pytest.mark.parametrize("name", ["SET.TAR", "set.Tar.Gz", "SET.TGZ", "SET.ZIP"])
def test_suffixes_in_any_case(tmp_path, name):
    files = {name: png() for name in NAMES}
    path = pack(tmp_path / name.lower(), files)
    expected = read(path).fingerprint()
    assert read(path.rename(tmp_path / name)).fingerprint() == expected


@pytest.mark.parametrize(
    ("name", "other", "kind"),
    [
        ("set.tar.gz", "set.tar", ".tar.gz"),
        ("set.tar", "set.tgz", ".tar"),
        ("set.zip", "set.tar", ".zip"),
        ("set.tgz", "set.zip", ".tar.gz"),
    ],
)
def test_archives_of_another_kind_than_their_name_says(tmp_path, name, other, kind):
    path = pack(tmp_path / name, {name: png() for name in NAMES}).rename(tmp_path / other)
    fails(rf"{path}: a \*{kind} archive by its content: rename it, so that .*", path)


@pytest.mark.filterwarnings("ignore:.*has no index")
def test_a_shard_may_be_called_in_capitals(tmp_path):
    path = pack(tmp_path / "set.tar", {"0.png": png(), "0.cls": b"cat"})
    tree = open_tree(path.rename(tmp_path / "SET.TAR"))
    assert tree.folders() == ["cat"]
