# SPDX-License-Identifier: Apache-2.0
"""Everything that can be the matter with a data set shows up, and nothing raises."""

import io
import json
import os
import struct
import tarfile
import warnings
import zlib
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from iclmsr.data import single
from iclmsr.data.check import check
from iclmsr.data.cifar import CIFAR10
from iclmsr.data.describe import as_json, show
from iclmsr.data.found import guess
from iclmsr.data.imagenet import TINY
from iclmsr.data.sources import SOURCES, DataConfig, load
from iclmsr.data.stl10 import CLASSES
from iclmsr.errors import IclmsrError

SIZE = 8


def picture(seed, size=SIZE):
    shape = (size, size, 3) if isinstance(size, int) else (*size, 3)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8))


def write(root, *paths, size=SIZE, seed=0, mode="RGB"):
    for number, path in enumerate(paths):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        picture(seed + number, size).convert(mode).save(root / path)


@pytest.fixture
def root(tmp_path):
    """Two classes of three images in train and of one in test, all different."""
    paths = [f"train/{name}/{number}.png" for name in ("cat", "dog") for number in range(3)]
    write(tmp_path / "set", *paths, "test/cat/0.png", "test/dog/0.png")
    return tmp_path / "set"


def looked(root, **options):
    """What is found, as JSON says it; a run agrees on whether the data can be used."""
    config = replace(guess(root), **options)
    found = check(config)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for split in ("pretrain", "test") if found.has_test else ("pretrain",):
                load(replace(config, cache=False), split)
        except IclmsrError:
            assert found.problems()
        else:
            assert not found.problems()
    return json.loads(json.dumps(as_json(found)))


def pack(root, path):
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        archive.add(root, "set")
    return path


def one(values, *parts):
    """The only one of some messages; all the parts are in it."""
    (value,) = values
    assert all(str(part) in value for part in parts), value
    assert "\n" not in value


def test_a_data_set_without_a_flaw(root, capsys):
    found = looked(root)
    assert found["usable"]
    assert found["problems"] == found["notes"] == found["copies"] == found["unused"] == []
    assert (found["source"], found["image_size"], found["masks"]) == ("folder", SIZE, None)
    assert found["splits"]["train"] == {
        "images": 6,
        "classes": {"cat": 3, "dog": 3},
        "sizes": {"8 x 8": 6},
        "formats": {"PNG": 6},
        "modes": {"RGB": 6},
        "corrupt": {},
        "masks": None,
    }
    assert found["splits"]["test"]["images"] == 2
    show(check(guess(root), workers=2))
    out = capsys.readouterr().out
    assert all(word in out for word in (str(root), "8 x 8", "PNG", "cat", "dog", "train", "test"))


@pytest.mark.parametrize("name", ["set.tar", "set.tar.gz"])
def test_an_archive_is_looked_at_like_its_folder(root, tmp_path, name):
    found, expected = looked(pack(root, tmp_path / name)), looked(root)
    assert found | {"root": ""} == expected | {"root": ""}


# Bad input, one by one


def test_truncated_archive(root, tmp_path):
    path = pack(root, tmp_path / "set.tar.gz")
    path.write_bytes(path.read_bytes()[:-300])
    one(looked(path)["problems"], path, "truncated or corrupt archive", "download it again")


def test_wrong_checksum(tmp_path, monkeypatch):
    path = tmp_path / TINY.archive
    path.write_bytes(b"not this")
    monkeypatch.setattr("iclmsr.data.imagenet.TINY", replace(TINY, size=8))
    found = check(guess(path))
    assert found.config.source == "tiny-imagenet"
    one(found.problems(), path, "corrupt archive: the official md5 is", "download it again")


def test_truncated_official_archive_and_one_that_is_missing_files(tmp_path):
    path = tmp_path / CIFAR10.layouts[0].archive
    path.write_bytes(b"\x1f\x8b\x08")
    one(looked(path)["problems"], "truncated or corrupt archive", "170,498,071 bytes")
    folder = tmp_path / "other" / CIFAR10.layouts[1].folder
    folder.mkdir(parents=True)
    (folder / "data_batch_1.bin").write_bytes(bytes(3073))
    found = looked(folder)
    assert found["source"] == "cifar10"
    assert found["problems"][0].startswith("data_batch_2.bin is missing: looked in")


def test_jpeg_cut_in_the_middle_text_named_png_and_an_empty_file(root):
    write(root, "train/cat/cut.jpg", size=64)
    content = (root / "train/cat/cut.jpg").read_bytes()
    (root / "train/cat/cut.jpg").write_bytes(content[: len(content) // 2])
    (root / "train/cat/text.png").write_text("this is text")
    (root / "test/dog/empty.png").touch()
    found = looked(root)
    corrupt = found["splits"]["train"]["corrupt"]
    assert list(corrupt) == ["train/cat/cut.jpg", "train/cat/text.png"]
    assert "truncated" in corrupt["train/cat/cut.jpg"]
    assert "no image of a known format" in corrupt["train/cat/text.png"]
    assert "the file is empty" in found["splits"]["test"]["corrupt"]["test/dog/empty.png"]
    assert len(found["problems"]) == 2
    assert found["problems"][0].startswith("2 train images do not decode: mend or remove them")
    found = looked(root, on_corrupt="skip")
    assert found["usable"]
    assert "2 train images cannot be used and would be left out" in found["notes"]


def test_decompression_bomb(root):
    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(1000)))
    content = b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b"")
    (root / "train" / "cat" / "bomb.png").write_bytes(content)
    corrupt = looked(root)["splits"]["train"]["corrupt"]
    assert "decompression bomb" in corrupt["train/cat/bomb.png"]
    assert "900000000 pixels" in corrupt["train/cat/bomb.png"]


@pytest.mark.parametrize("place", ["train/cat", "extra"])
def test_symlink_loop(root, place):
    (root / place).mkdir(exist_ok=True)
    (root / place / "again").symlink_to(root)
    found = check(guess(root))
    messages = found.problems() if place == "train/cat" else found.notes()
    one(messages, "is a symbolic link to a folder that it lies in: remove it")
    assert bool(found.problems()) == (place == "train/cat")


def test_a_link_to_itself(root):
    (root / "train" / "cat" / "self.png").symlink_to("self.png")
    one(looked(root)["problems"], f"cannot list {root}/train/cat", "symbolic links")


def test_archive_member_that_leads_out(root, tmp_path):
    path = pack(root, tmp_path / "set.tar")
    with tarfile.open(path, "a") as archive:
        archive.addfile(tarfile.TarInfo("../../evil"), io.BytesIO())
    one(looked(path)["problems"], "refusing this archive: its member '../../evil' leads out")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["set", "set.tar"]


def test_names_that_are_not_utf_8(root, capsys):
    name = os.fsdecode(b"caf\xe9")
    write(root, f"train/{name}/\udcff.png", f"test/{name}/0.png", seed=90)
    (root / "train" / name / "[bold]\n.png").touch()
    found = looked(root)
    assert found["splits"]["train"]["classes"] == {"caf\\xe9": 2, "cat": 3, "dog": 3}
    assert list(found["splits"]["train"]["corrupt"]) == ["train/caf\\xe9/[bold]\\n.png"]
    show(check(guess(root)))
    assert "train/caf\\xe9/[bold]\\n.png does not decode" in capsys.readouterr().out


@pytest.mark.parametrize("place", ["train/cat", "test", "extra"])
def test_unreadable_folder(root, monkeypatch, place):
    (root / place).mkdir(exist_ok=True)
    scandir = os.scandir

    def scan(path):  # root may list everything
        if str(path) == str(root / place):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr("os.scandir", scan)
    found = check(guess(root))
    messages = found.notes() if place == "extra" else found.problems()
    one(
        messages,
        f"cannot list {root / place}: Permission denied",
        "make it readable, or move it elsewhere",
    )


def test_unreadable_file(root, monkeypatch):
    real = single._at_once

    def open_(name, flags):
        if name.endswith("train/cat/1.png"):
            raise PermissionError(13, "Permission denied", name)
        return real(name, flags)

    monkeypatch.setattr(single, "_at_once", open_)
    corrupt = looked(root)["splits"]["train"]["corrupt"]
    assert list(corrupt) == ["train/cat/1.png"]
    assert "Permission denied" in corrupt["train/cat/1.png"]


def test_a_pipe_is_no_image_and_nobody_waits_for_it(root):
    os.mkfifo(root / "train" / "cat" / "p.png")
    assert looked(root)["splits"]["train"]["corrupt"] == {
        "train/cat/p.png": "does not decode (OSError: not a plain file)"
    }
    with pytest.raises(IclmsrError, match=r"train/cat/p\.png does not decode .*not a plain file"):
        load(replace(guess(root), cache=False), "train")


def test_empty_class(root):
    (root / "train" / "eel").mkdir()
    problems = looked(root)["problems"]
    assert problems[0].startswith(f"no images in {root}/train/eel: looked for files named")
    assert problems[1].startswith("test and train have different classes; only in")


def test_a_class_of_which_nothing_can_be_used(root):
    for file in (root / "train" / "dog").iterdir():
        file.write_text("no image")
    for on_corrupt in ("error", "skip"):
        problems = looked(root, on_corrupt=on_corrupt)["problems"]
        assert problems[0] == "not one train image can be used of: dog"
        assert len(problems) == 1 + (on_corrupt == "error")


def test_nothing_at_all(tmp_path):
    one(looked(tmp_path)["problems"], f"no images in {tmp_path}")
    (tmp_path / "file.txt").touch()
    one(looked(tmp_path / "file.txt")["problems"], "is neither a folder nor an archive")
    with pytest.raises(IclmsrError, match="nowhere does not exist"):
        guess(tmp_path / "nowhere")
    one(check(DataConfig("foldr", tmp_path)).problems(), "unknown data.source 'foldr'")
    one(check(DataConfig("folder", tmp_path, masks=tmp_path / "x")).problems(), "does not exist")


# What a run would not stop at


def test_copies_within_and_across_splits_and_of_other_classes(root):
    for name in ("train/cat/copy.png", "test/cat/copy.png", "train/dog/copy.png"):
        picture(0).save(root / name)  # that of train/cat/0.png
    Image.open(root / "test/dog/0.png").save(root / "test/dog/other.webp", lossless=True)
    found = looked(root)
    assert found["usable"]
    groups = [[(image["image"], image["class"]) for image in group] for group in found["copies"]]
    assert groups == [
        [
            ("train/cat/0.png", "cat"),
            ("train/cat/copy.png", "cat"),
            ("train/dog/copy.png", "dog"),
            ("test/cat/copy.png", "cat"),
        ],
        [("test/dog/0.png", "dog"), ("test/dog/other.webp", "dog")],
    ]
    assert found["copies_across_splits"] == found["copies_in_different_classes"]
    assert len(found["copies_across_splits"]) == 1
    assert found["notes"] == [
        "1 test image is one of the training images too (same pixels): accuracy on such images "
        "says nothing",
        "2 train images are copies of others (same pixels)",
        "1 test image is a copy of another (same pixels)",
        "1 group of copies is in different classes",
    ]


def test_copies_in_two_splits_that_are_not_trained_on(root):
    write(root, "val/cat/0.png", "original/cat/0.png", seed=50)
    write(root, "val/dog/0.png", "original/dog/0.png", seed=60)
    for name in ("cat", "dog"):
        picture(7).save(root / f"val/{name}/7.png")
    picture(7).save(root / "original/cat/7.png")  # and test/dog/0.png is that one
    found = looked(root)
    assert set(found["splits"]) == {"train", "test", "val", "original"}
    group = [image["image"] for image in found["copies_across_splits"][0]]
    assert set(group) == {
        "test/dog/0.png",
        "val/cat/7.png",
        "val/dog/7.png",
        "original/cat/7.png",
    }
    noted = [note for note in found["notes"] if "chosen" in note]
    assert sorted(noted) == [
        "1 original image is one of the test images too (same pixels): what is chosen on "
        "original has seen the test images",
        "2 val images are original images too (same pixels): what is chosen on val has seen the "
        "original images",
        "2 val images are test images too (same pixels): what is chosen on val has seen the test "
        "images",
    ]
    assert not any("training" in note for note in found["notes"])


def test_the_same_bytes_in_another_shape_are_no_copy(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 4, 3), np.uint8)
    (tmp_path / "a").mkdir()
    Image.fromarray(pixels).save(tmp_path / "a/0.png")
    Image.fromarray(pixels.reshape(4, 8, 3)).save(tmp_path / "a/1.png")
    assert looked(tmp_path)["copies"] == []


def test_images_that_no_split_reads(root):
    write(root, "stray.png", "train/stray.png", "other/a/0.png", "masks/train/cat/0.png", seed=50)
    found = looked(root, masks=None)
    assert found["loose"] == ["stray.png", "train/stray.png"]
    assert found["unused"] == ["other/a/0.png"]
    assert (
        "2 images beside the class folders will not be read: stray.png, train/stray.png"
        in (found["notes"])
    )
    assert sum("beside the class folders" in note for note in found["notes"]) == 1
    limited = looked(root, masks=None, limit=4)
    assert limited["unused"] == []
    assert "1 image beside the class folders will not be read: stray.png" in limited["notes"]


def test_one_of_each(root):
    write(root, "stray.png", "other/a/0.png", seed=50)
    write(root, "train/cat/3.png", seed=60, size=SIZE - 1)
    (root / "notes.txt").touch()
    (root / "train/cat/bad.png").write_text("this is text")
    names = [f"{split}/{kind}/0.png" for split in ("train", "test") for kind in ("cat", "dog")]
    names += [f"train/{name}.png" for name in ("cat/1", "dog/1", "dog/2", "cat/bad")]
    write(root / "masks", *names, mode="L", seed=70)
    write(root / "masks", "train/cat/3.png", mode="L", size=SIZE - 1)
    Image.new("L", (SIZE, SIZE)).save(root / "masks/train/cat/0.png")
    found = looked(root)
    assert found["problems"] == [
        "1 train image does not decode: mend or remove it, or pass --data.on-corrupt skip",
        "1 train image has no mask that can be used: `iclmsr masks` makes masks, or pass "
        "--data.on-corrupt skip",
    ]
    assert found["notes"] == [
        "1 image beside the class folders will not be read: stray.png",
        "1 image belongs to no split: other/a/0.png",
        "1 file is not called like images (.txt: 1): passed over",
        f"1 train image with a side below {SIZE} pixels is enlarged",
        "1 train mask has no foreground",
    ]
    (root / "masks/train/cat/2.png").write_bytes((root / "masks/train/cat/1.png").read_bytes())
    note = "1 train image cannot be used and would be left out"
    assert note in looked(root, on_corrupt="skip")["notes"]


def test_a_class_that_is_called_train(tmp_path):
    write(tmp_path, "aeroplane/0.png", "bicycle/0.png", "train/0.png")
    one(looked(tmp_path)["problems"], "train has images but no classes", "aeroplane, bicycle")


def test_files_that_are_not_called_like_images(root):
    for name in ("train/cat/a.TXT", "b.txt", "README", "masks/b.csv"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).touch()
    found = looked(root, masks=None)
    assert found["passed_over"] == {".txt": 2, "": 1}
    note = "3 files are not called like images (.txt: 2, no suffix: 1): passed over"
    assert found["notes"] == [note]


def test_backgrounds_that_lack_images(root):
    names = [str(file.relative_to(root)) for file in sorted(root.glob("*/*/*.png"))]
    path = root / "backgrounds.csv"
    path.write_text("\n".join(f"{name},sea" for name in names))
    found = looked(root)
    assert found["usable"]
    assert (found["notes"], found["passed_over"]) == ([], {})
    path.write_text("\n".join(f"{name},sea" for name in names if name != "train/cat/0.png"))
    found = looked(root)
    one(found["problems"], f"{path} has no line for train/cat/0.png: write one for every image")
    assert (found["notes"], found["splits"]["train"]["images"]) == ([], 6)


@pytest.mark.parametrize("suffix", [".pgm", ".pbm", ".pnm", ".jp2", ".jfif"])
def test_rarer_suffixes(tmp_path, suffix):
    write(tmp_path, *(f"a/{number}.png" for number in range(2)))
    mode = {".pgm": "L", ".pbm": "1"}.get(suffix, "RGB")
    picture(9).convert(mode).save(tmp_path / "a" / f"2{suffix}")
    found = looked(tmp_path)["splits"]["train"]
    assert (found["images"], found["corrupt"]) == (3, {})


def test_images_without_classes_or_test(tmp_path):
    write(tmp_path, "0.png", "deep/er/1.png")
    found = looked(tmp_path, labels=False)
    assert found["usable"]
    assert found["splits"]["train"]["classes"] == {"": 2}
    assert found["notes"] == [
        "no test images: an encoder can be pretrained, but not evaluated",
        "train images have no classes: one can pretrain on them, but not evaluate",
    ]


@pytest.mark.parametrize("name", ["JPEGImages", "Images", "img", "all"])
def test_one_class_only(tmp_path, name):
    write(tmp_path, f"train/{name}/0.png", f"train/{name}/1.png", f"test/{name}/0.png")
    found = looked(tmp_path)
    assert found["usable"]
    assert found["notes"] == [
        f"{split} images have one class only, {name}: any accuracy on them is 100 %; sort them "
        "into folders by class, or pass --data.no-labels"
        for split in ("train", "test")
    ]
    assert "class only" not in " ".join(looked(tmp_path, labels=False)["notes"])


def test_sizes_formats_and_unequal_classes(tmp_path, capsys):
    write(tmp_path, *(f"a/{number}.png" for number in range(30)))
    write(tmp_path, "b/0.png", "b/1.jpg", size=(20, 30), seed=60)
    write(tmp_path, "b/2.png", "b/3.png", size=(5, 9), seed=70, mode="L")
    found = looked(tmp_path)
    split = found["splits"]["train"]
    assert split["sizes"] == {"8 x 8": 30, "30 x 20": 2, "9 x 5": 2}
    assert (split["formats"], split["modes"]) == ({"PNG": 33, "JPEG": 1}, {"RGB": 32, "L": 2})
    assert "2 train images with a side below 8 pixels are enlarged" in found["notes"]
    assert "train classes are very unequal" not in " ".join(found["notes"])
    (tmp_path / "b" / "0.png").unlink()
    (tmp_path / "b" / "1.jpg").unlink()
    assert "train classes are very unequal: 2 to 30 images" in looked(tmp_path)["notes"]


# Masks


def test_masks_and_how_much_they_cover(root, capsys):
    for file in sorted(root.glob("*/*/*.png")):
        mask = np.zeros((SIZE, SIZE), np.uint8)
        mask[: 1 + int(file.stem)] = 255
        target = root / "masks" / file.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(target)
    found = looked(root)
    assert found["usable"]
    assert found["masks"] == str(root)
    masks = found["splits"]["train"]["masks"]
    assert (masks["usable"], masks["share_of_images"], masks["unusable"]) == (6, 1.0, {})
    assert masks["foreground"]["mean"] == pytest.approx(2 / SIZE)
    assert masks["foreground"]["quantile_0.0"] == 1 / SIZE
    assert masks["foreground"]["quantile_0.5"] == 2 / SIZE
    assert masks["foreground"]["quantile_1.0"] == 3 / SIZE
    show(check(guess(root)))
    out = " ".join(capsys.readouterr().out.split())
    assert "6 (100.0 % of images)" in out
    assert "median 25 %" in out
    (root / "masks/train/cat/0.png").unlink()
    (root / "masks/train/cat/1.png").write_text("no mask")
    Image.new("L", (SIZE, SIZE)).save(root / "masks/train/cat/2.png")
    found = looked(root)
    unusable = found["splits"]["train"]["masks"]["unusable"]
    assert list(unusable) == ["train/cat/0.png", "train/cat/1.png"]
    assert "has no mask" in unusable["train/cat/0.png"]
    assert "does not decode" in unusable["train/cat/1.png"]
    one(found["problems"], "2 train images have no mask that can be used: `iclmsr masks` makes")
    one(found["notes"], "1 train mask has no foreground")


@pytest.mark.parametrize("folder", ["", "a/"])
def test_masks_beside_images_without_splits(tmp_path, folder):
    names = [f"{folder}{number}.png" for number in range(3)]
    write(tmp_path / "set", *names)
    write(tmp_path / "set" / "masks", *names, mode="L")
    found = looked(tmp_path / "set")
    assert found["masks"] == str(tmp_path / "set")
    assert found["splits"]["train"]["masks"]["usable"] == found["splits"]["train"]["images"] == 3
    assert list(found["splits"]["train"]["classes"]) == [folder[:-1]]
    assert found["unused"] == found["loose"] == []


def test_masks_of_zeros_and_ones(root):
    for file in sorted(root.glob("*/*/*.png")):
        target = root / "masks" / file.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.eye(SIZE, dtype=np.uint8)).save(target)
    warning = "a mask has no value above 1: 128 and more is foreground, write 255 for it"
    assert check(guess(root)).notes().count(warning) == 1
    with pytest.warns(UserWarning, match=warning) as caught:
        load(replace(guess(root), cache=False), "train")
    assert [str(one.message) for one in caught] == [warning]


def test_masks_in_an_archive(root, tmp_path):
    names = [str(file.relative_to(root)) for file in sorted(root.glob("*/*/*.png"))]
    write(root / "masks", *names, mode="L")
    found = looked(pack(root, tmp_path / "set.tar"))
    assert found["splits"]["test"]["masks"]["usable"] == 2
    assert found["unused"] == found["loose"] == []


# Guesses


@pytest.mark.parametrize(
    ("classes", "size", "folder", "source"),
    [
        (CIFAR10.classes, 32, "test", "cifar10"),
        (CIFAR10.classes, 40, "test", "folder"),
        (CLASSES, 96, "test", "stl10"),
        (("n01440764", "n01443537"), 300, "val", "imagenet"),
        (("n01440764", "n01443537"), 300, "test", "folder"),
        (("cat", "n01443537"), 300, "val", "folder"),
    ],
)
def test_the_source_is_guessed_from_classes_and_size(tmp_path, classes, size, folder, source):
    paths = [f"{split}/{name}/0.png" for split in ("train", folder) for name in classes]
    write(tmp_path, *paths, size=size)
    config = guess(tmp_path)
    assert (config.source, config.image_size) == (source, min(size, 224))


def test_official_files_are_guessed_and_their_remarks_are_notes(tmp_path):
    layout = CIFAR10.layouts[1]
    (tmp_path / layout.folder).mkdir()
    for number, name in enumerate([*layout.parts["train"], *layout.parts["test"]]):
        records = np.random.default_rng(number).integers(0, 256, (2, 3073), np.uint8)
        records[:, 0] %= 10
        (tmp_path / layout.folder / name).write_bytes(records.tobytes())
    found = check(guess(tmp_path))
    assert found.config.source == "cifar10"
    assert len(found.splits["train"]) == 10
    one([note for note in found.notes() if "official" in note], "is not of the official size")
    assert found.copies == []


def test_what_evaluation_cuts_off_hides_no_copy(root, tmp_path):
    (root / "test/cat/0.png").write_bytes((root / "train/cat/0.png").read_bytes())
    config = replace(guess(root), evaluate_crop=4)
    assert len(check(config).across()) == 1
    layout = CIFAR10.layouts[1]
    folder = tmp_path / layout.folder
    folder.mkdir()
    for name in [*layout.parts["train"], *layout.parts["test"]]:
        (folder / name).write_bytes(bytes(3073))
    config = replace(guess(folder), evaluate_resize=20, evaluate_crop=16)
    assert len(check(config).across()) == 1


@pytest.mark.parametrize("source", SOURCES)
def test_no_source_raises(source, root):
    check(DataConfig(source, root))
    if source != "synthetic":
        one(check(DataConfig(source)).problems(), "data.root is not set")
