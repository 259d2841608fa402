# SPDX-License-Identifier: Apache-2.0
import io
import os
import subprocess
import tarfile
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from iclmsr.data.sources import DataConfig, load
from iclmsr.errors import IclmsrError
from iclmsr.masks import files, makers, named
from iclmsr.masks.files import Masked, as_mask, make_masks
from iclmsr.masks.named import MaskConfig


def bright(image):
    """The maker of these tests: what is light is foreground."""
    return image.mean(2) >= 128


BRIGHT = MaskConfig("bright")


@pytest.fixture(autouse=True)
def maker(monkeypatch):
    """Makes ``bright`` known by its name."""
    monkeypatch.setitem(named.MAKERS, "bright", bright)


def write(path, height=8, width=8, **options):
    """An image whose left half is white; returns where."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return pixels[..., 0] > 0


def mask(path):
    with Image.open(path) as image:
        assert (image.format, image.mode) == ("PNG", "L")
        pixels = np.array(image)
    assert set(np.unique(pixels)) <= {0, 255}
    return pixels == 255


def tree(root):
    """Every file below, hidden ones too."""
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if not p.is_dir())


@pytest.fixture
def images(tmp_path):
    """A folder of images in several depths, sizes and formats."""
    root = tmp_path / "images"
    for name, shape in (
        ("train/a/0.png", (8, 8)),
        ("train/b/c/1.JPEG", (16, 24)),
        ("2.bmp", (5, 4)),
    ):
        write(root / name, *shape)
    return root


MASKS = ["2.png", "train/a/0.png", "train/b/c/1.png"]


def test_a_parallel_tree_that_pretraining_reads(images, tmp_path):
    out = tmp_path / "deep" / "out"
    done = make_masks(images, out, BRIGHT)
    assert (set(done.shares.values()), done.kept, done.failed) == ({0.5}, 0, {})
    assert tree(out) == MASKS
    assert mask(out / "train/b/c/1.png").shape == (16, 24)
    (images / "2.bmp").unlink()
    config = DataConfig("folder", images, 8, masks=out)
    found = load(config, "train")
    left = torch.zeros(8, 8, dtype=torch.bool)
    left[:, :4] = True
    assert torch.equal(found.masks, left.expand(2, 8, 8))


@pytest.mark.filterwarnings("ignore:1 image beside the class folders")
def test_masks_in_the_folder_masks_are_no_images(images):
    make_masks(images, images / "masks", BRIGHT)
    again = make_masks(images, images / "masks" / "bright", BRIGHT)
    assert len(again.shares) == 3
    assert tree(images / "masks") == sorted(MASKS + [f"bright/{name}" for name in MASKS])
    assert len(load(DataConfig("folder", images, 8, masks=images), "train").masks) == 2


@pytest.mark.parametrize(
    "out", ["", "train", "train/a", "train/masks", "new", "..", "../link/masks2"]
)
def test_masks_are_never_put_between_the_images(images, tmp_path, out):
    (tmp_path / "link").symlink_to(images)
    before = tree(images)
    message = f"masks in .* would lie between the images of {images}: name a folder outside, or "
    with pytest.raises(IclmsrError, match=f"^{message}{images}/masks$"):
        make_masks(images, images / out, BRIGHT)
    assert tree(images) == before


def test_what_killed_processes_left_is_removed_and_nothing_else(images, tmp_path):
    out = tmp_path / "out"
    make_masks(images, out, BRIGHT)
    with subprocess.Popen(["true"]) as process:  # one that has ended
        ended = process.pid
    (out / "2.png").unlink()
    scraps = [f".2.png.{ended}.tmp", f"train/a/.0.png.{ended}.tmp"]
    living = f".2.png.{os.getppid()}.tmp"
    others = [living, ".2.png.tmp", f".3.png.{ended}.tmp", f"2.png.{ended}.tmp"]
    for name in scraps + others:
        (out / name).touch()
    make_masks(images, out, BRIGHT)
    assert tree(out) == sorted(MASKS + others)


def test_a_folder_of_masks_that_may_not_be_searched(images, tmp_path, monkeypatch):
    out, stat = tmp_path / "locked" / "out", Path.stat

    def refused(self, **options):
        if out in self.parents:
            raise PermissionError(13, "Permission denied", str(self))
        return stat(self, **options)

    monkeypatch.setattr("pathlib.Path.stat", refused)  # root may search everything
    message = f"cannot write {out}: Permission denied: name a place that you may write to"
    with pytest.raises(IclmsrError, match=f"^{message}$"):
        make_masks(images, out, BRIGHT)


def test_it_goes_on_where_it_was_stopped(images, tmp_path, monkeypatch):
    out, calls = tmp_path / "out", []

    def stop(image):
        calls.append(image.shape)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return bright(image)

    monkeypatch.setitem(named.MAKERS, "bright", stop)
    with pytest.raises(KeyboardInterrupt):
        make_masks(images, out, BRIGHT)
    monkeypatch.setitem(named.MAKERS, "bright", bright)
    there = tree(out)
    assert 1 <= len(there) < 3
    done = make_masks(images, out, BRIGHT)
    assert (len(done.shares), done.kept) == (3 - len(there), len(there))
    assert tree(out) == MASKS
    assert make_masks(images, out, BRIGHT) == Masked({}, 3, {})


def test_masks_that_are_there_are_kept_unless_it_overwrites(images, tmp_path):
    mine = np.zeros((8, 8), np.uint8)
    out = tmp_path / "out" / "train" / "a"
    out.mkdir(parents=True)
    Image.fromarray(mine).save(out / "0.png")
    make_masks(images, tmp_path / "out", BRIGHT)
    assert not mask(out / "0.png").any()
    done = make_masks(images, tmp_path / "out", MaskConfig("bright", overwrite=True))
    assert (len(done.shares), done.kept) == (3, 0)
    assert mask(out / "0.png").mean() == 0.5


def test_files_that_do_not_decode_are_listed_while_others_go_on(images, tmp_path):
    out = tmp_path / "out"
    (images / "train" / "a" / "bad.png").write_text("text")
    whole = (images / "train" / "b" / "c" / "1.JPEG").read_bytes()
    (images / "train" / "b" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (images / "empty.gif").touch()
    (images / "gone.webp").symlink_to("nowhere")
    done = make_masks(images, out, BRIGHT)
    assert tree(out) == MASKS
    assert len(done.shares) == 3
    assert set(done.failed) == {"train/a/bad.png", "train/b/cut.jpg", "empty.gif", "gone.webp"}
    assert done.failed["train/a/bad.png"] == "does not decode (no image of a known format)"
    lines = done.describe().splitlines()
    assert lines[0] == "masks: 3 made, 0 kept, 4 failed"
    assert "  train/a/bad.png does not decode (no image of a known format)" in lines
    (out / "empty.png").write_bytes(b"mine")
    make_masks(images, out, MaskConfig("bright", overwrite=True))
    assert (out / "empty.png").read_bytes() == b"mine"


def test_images_with_the_same_mask(images, tmp_path):
    write(images / "train" / "a" / "0.jpg")
    done = make_masks(images, tmp_path / "out", BRIGHT)
    reason = "would have the same mask as train/a/0.jpg: give it another name"
    assert done.failed == {"train/a/0.png": reason}
    assert tree(tmp_path / "out") == MASKS
    assert make_masks(images, tmp_path / "out", BRIGHT).failed == done.failed


def test_a_turned_image_has_an_upright_mask(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn clockwise: left becomes top
    write(tmp_path / "images" / "0.png", 8, 16, exif=exif)
    make_masks(tmp_path / "images", tmp_path / "out", BRIGHT)
    found = mask(tmp_path / "out" / "0.png")
    assert found.shape == (16, 8)
    assert found[:8].all()
    assert not found[8:].any()


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".zip"])
def test_archives_are_read_in_place(images, tmp_path, suffix):
    archive = tmp_path / f"set{suffix}"
    if suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as file:
            for name in tree(images):
                file.write(images / name, f"set/{name}")
    else:
        with tarfile.open(archive, "w:gz" if suffix.endswith("gz") else "w") as file:
            file.add(images, "set")
    done = make_masks(archive, tmp_path, MaskConfig("bright", workers=3))
    assert len(done.shares) == 3
    assert all(mask(tmp_path / name).mean() == 0.5 for name in MASKS)
    assert make_masks(archive, tmp_path, BRIGHT).kept == 3
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    with pytest.raises(IclmsrError, match="truncated or corrupt archive"):
        make_masks(archive, tmp_path / "out", BRIGHT)


@pytest.mark.parametrize("config", [MaskConfig(workers=1), MaskConfig(workers=4)])
def test_grabcut_is_the_same_in_any_number_of_threads(tmp_path, config):
    draw = np.random.default_rng(0)
    root, out = tmp_path / "images", tmp_path / "out"
    root.mkdir()
    for number in range(12):
        pixels = draw.normal(128, 60, (24, 24, 3)) + 40 * (np.arange(24) < 12)[:, None, None]
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / f"{number}.png")
    make_masks(root, out, config)
    for number in range(12):
        cv2.setRNGSeed(number)
        with Image.open(root / f"{number}.png") as image:
            assert np.array_equal(mask(out / f"{number}.png"), makers.grabcut(np.array(image)))


def test_boxes_go_to_their_images(images, tmp_path):
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("path,x0,y0,x1,y1\ntrain/a/0.png,0,0,8,8\n2.bmp,0,0,9,2\n")
    done = make_masks(images, tmp_path / "out", MaskConfig(boxes=boxes))
    assert mask(tmp_path / "out" / "train" / "a" / "0.png").all()
    assert done.failed == {
        "2.bmp": "has a box (0, 0, 9, 2) that is empty or leaves its 4 x 5 pixels"
    }
    assert not (tmp_path / "out" / "2.png").exists()
    boxes.write_text("train/z.png,0,0,8,8\n")
    with pytest.raises(IclmsrError, match=f"names images that are not in {images}: train/z.png"):
        make_masks(images, tmp_path / "out", MaskConfig(boxes=boxes))


@pytest.mark.parametrize("error", [ValueError, SystemExit])
def test_a_maker_that_raises_fails_that_image_only(images, tmp_path, monkeypatch, error):
    def choosy(image):
        if image.shape[0] == 5:
            raise error("too\nsmall")
        return bright(image) * 1.0

    monkeypatch.setitem(named.MAKERS, "bright", choosy)
    done = make_masks(images, tmp_path / "out", BRIGHT)
    assert done.failed == {"2.bmp": f"cannot be masked ({error.__name__}: too small)"}
    assert tree(tmp_path / "out") == MASKS[1:]


@pytest.mark.parametrize(
    ("found", "got"),
    [
        (np.zeros((4, 6), np.uint8), "uint8 (4, 6)"),
        (np.zeros((6, 4), np.bool_), "bool (6, 4)"),
        (np.zeros((4, 6, 1)), "float64 (4, 6, 1)"),
        (np.full((4, 6), 255.0), "float64 from 255 to 255"),
        (np.full((4, 6), np.nan), "float64 from nan to nan"),
        (None, "object ()"),
    ],
)
def test_what_is_no_mask_stops_it(found, got, images, tmp_path, monkeypatch):
    expected = f"the mask maker returned {got} for an image (4, 6, 3): expected (4, 6), bool or a "
    with pytest.raises(IclmsrError) as caught:
        as_mask(found, np.zeros((4, 6, 3), np.uint8))
    assert str(caught.value) == expected + "float in [0, 1]"
    monkeypatch.setitem(named.MAKERS, "bright", lambda image: found)
    with pytest.raises(IclmsrError, match="the mask maker returned"):
        make_masks(images, tmp_path / "out", BRIGHT)
    assert not (tmp_path / "out").exists()


def test_probabilities_from_one_half_on_are_foreground():
    found = as_mask(np.float16([[0, 0.499], [0.5, 1]]), np.zeros((2, 2, 3), np.uint8))
    assert found.tolist() == [[False, False], [True, True]]


def test_where_masks_cannot_be_written(images, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(IclmsrError, match=rf"^cannot write {tmp_path}/file\S*: "):
        make_masks(images, tmp_path / "file", BRIGHT)
    assert (tmp_path / "file").read_text() == "mine"

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        IclmsrError, match=r"^cannot write .*\.png: No space left on device: free .*"
    ):
        make_masks(images, tmp_path / "out", BRIGHT)
    assert tree(tmp_path / "out") == []


def test_nothing_to_mask(images, tmp_path):
    with pytest.raises(IclmsrError, match="^there is no folder "):
        make_masks(tmp_path / "nowhere", tmp_path / "out", BRIGHT)
    (tmp_path / "empty" / "masks").mkdir(parents=True)
    write(tmp_path / "empty" / "masks" / "0.png")
    with pytest.raises(
        IclmsrError, match=f"^no images in {tmp_path}/empty: looked for files named"
    ):
        make_masks(tmp_path / "empty", tmp_path / "out", BRIGHT)


def test_a_bomb_is_refused(images, tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    done = make_masks(images, tmp_path / "out", MaskConfig("bright", workers=2))
    assert list(done.failed) == ["train/b/c/1.JPEG"]
    assert "DecompressionBomb" in done.failed["train/b/c/1.JPEG"]


def test_remarks_of_the_decoder_are_passed_over(tmp_path):
    (tmp_path / "images").mkdir()
    image = Image.fromarray(np.full((8, 8), 200, np.uint8)).convert("P")
    image.save(tmp_path / "images" / "0.png", transparency=bytes(range(256)))
    assert make_masks(tmp_path / "images", tmp_path / "out", BRIGHT).failed == {}


def test_names_that_are_not_utf_8(tmp_path):
    root = tmp_path / "images"
    write(root / "0.png")
    (root / "0.png").rename(os.fsdecode(os.fsencode(root) + b"/caf\xe9.png"))
    Path(os.fsdecode(os.fsencode(root) + b"/bad\xff.png")).touch()
    done = make_masks(root, tmp_path / "out", BRIGHT)
    assert tree(tmp_path / "out") == ["caf\udce9.png"]
    assert "  bad\\xff.png does not decode (ValueError: the file is empty)" in done.describe()


def test_only_the_first_failures_are_named():
    done = Masked({}, 0, {f"{number:02}.png": "is bad" for number in range(25)})
    lines = done.describe().splitlines()
    assert lines[0] == "masks: 0 made, 0 kept, 25 failed"
    assert lines[-2:] == ["  19.png is bad", "  and 5 more"]


def test_progress_is_for_terminals_only(images, tmp_path, capsys, monkeypatch):
    make_masks(images, tmp_path / "out", BRIGHT)
    assert capsys.readouterr() == ("", "")
    screen = io.StringIO()
    console = files.Console(file=screen, force_terminal=True)
    monkeypatch.setattr(files, "Console", lambda **options: console)
    make_masks(images, tmp_path / "again", BRIGHT)
    assert "masks" in screen.getvalue()
