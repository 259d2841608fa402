# SPDX-License-Identifier: Apache-2.0
import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from iclmsr.data.draw import Draw
from iclmsr.data.folder import read_images
from iclmsr.data.listing import FOLDERS, Rules, list_folder, top
from iclmsr.data.sources import DataConfig, load
from iclmsr.data.trees import open_tree
from iclmsr.errors import IclmsrError

GENERATOR = np.random.default_rng(0)
SIZE = 8


def write(path, pixels=None, **options):
    """A random image, or the given one; returns its pixels (H, W, 3)."""
    if pixels is None:
        pixels = GENERATOR.integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return pixels


def make(root, *paths):
    return [write(root / path) for path in paths]


def read(root, split="train", *, size=SIZE, on_corrupt="error", draw=None, masks=None, **rules):
    return read_images(
        list_folder(top(open_tree(root)), split, Rules(**{"folders": FOLDERS} | rules)),
        image_size=size,
        on_corrupt=on_corrupt,
        draw=draw or Draw(),
        masks=None if masks is None else open_tree(masks),
    )


def fails(message, *arguments, **options):
    with pytest.raises(IclmsrError, match=f"^{message}$"):
        read(*arguments, **options)


def stack(arrays):
    return torch.from_numpy(np.stack(arrays).transpose(0, 3, 1, 2).copy())


def test_images_in_the_order_of_class_and_path(tmp_path):
    paths = ["b/10.png", "b/9.png", "a/z.png", "a/sub/deeper/y.png", "c/0.png"]
    written = dict(zip(paths, make(tmp_path / "train", *paths), strict=True))
    found = read(tmp_path)
    order = ["a/sub/deeper/y.png", "a/z.png", "b/10.png", "b/9.png", "c/0.png"]
    assert torch.equal(found.images, stack([written[path] for path in order]))
    assert found.images.dtype == torch.uint8
    assert found.images.is_contiguous()
    assert found.labels.tolist() == [0, 0, 1, 1, 2]
    assert found.labels.dtype == torch.int64
    assert found.classes == ("a", "b", "c")
    assert found.skipped == ()
    assert read(tmp_path).fingerprint() == found.fingerprint()


@pytest.mark.parametrize(
    "name", ["0.png", "0.PNG", "0.webp", "0.bmp", "0.tif", "0.TIFF", "0.ppm", "a.b.png"]
)
def test_lossless_formats(tmp_path, name):
    pixels = write(tmp_path / "cat" / name, **({"lossless": True} if "webp" in name else {}))
    assert torch.equal(read(tmp_path).images, stack([pixels]))


@pytest.mark.parametrize("name", ["0.jpg", "0.JPEG", "0.gif"])
def test_lossy_formats(tmp_path, name):
    write(tmp_path / "cat" / name, np.full((SIZE, SIZE, 3), (200, 100, 50), np.uint8))
    expected = torch.tensor([200, 100, 50]).view(3, 1, 1)
    assert (read(tmp_path).images[0] - expected).abs().max() <= 3


def test_hidden_and_other_files_are_passed_over(tmp_path):
    written = make(tmp_path, "train/cat/0.png")
    make(tmp_path, "train/.hidden/0.png", "train/cat/.0.png", "train/cat/.cache/0.png")
    make(tmp_path, ".other/0.png")
    (tmp_path / "train" / "cat" / "list.txt").write_text("0.png")
    (tmp_path / "train" / "list.csv").write_text("0.png")
    found = read(tmp_path)
    assert torch.equal(found.images, stack(written))
    assert found.classes == ("cat",)


@pytest.mark.parametrize("name", ["test", "val", "valid", "validation"])
def test_every_name_of_the_test_split(tmp_path, name):
    make(tmp_path, "train/a/0.png", "train/b/0.png")
    written = make(tmp_path, f"{name}/a/0.png", f"{name}/b/0.png")
    assert torch.equal(read(tmp_path, "test").images, stack(written))


def test_test_goes_before_val(tmp_path):
    make(tmp_path, "train/a/0.png", "val/a/0.png")
    written = make(tmp_path, "test/a/0.png")
    assert torch.equal(read(tmp_path, "test").images, stack(written))


def test_root_without_splits_serves_train_only(tmp_path):
    written = make(tmp_path, "a/0.png", "b/0.png")
    assert torch.equal(read(tmp_path).images, stack(written))
    fails(
        f"no test images in {tmp_path}: looked for a folder test or val or valid or validation; "
        f"put the images into {tmp_path}/test/CLASS/",
        tmp_path,
        "test",
    )


def test_root_with_only_a_test_split_has_no_train(tmp_path):
    make(tmp_path, "test/a/0.png")
    assert len(read(tmp_path, "test")) == 1
    fails(
        f"no train images in {tmp_path}: looked for a folder train; put .*/train/CLASS/", tmp_path
    )


def test_root_one_level_too_high(tmp_path):
    make(tmp_path, "pets/train/a/0.png", "pets/test/a/0.png")
    fails(f"{tmp_path} has no folder train, but {tmp_path}/pets has: pass --data.root .*", tmp_path)


def test_images_without_classes(tmp_path):
    written = make(tmp_path, "0.png", "1.png")
    found = read(tmp_path)
    assert torch.equal(found.images, stack(written))
    assert found.labels.tolist() == [-1, -1]
    assert found.labels.dtype == torch.int64
    assert found.classes == ()
    make(tmp_path / "set", "test/0.png")
    tmp_path /= "set"
    message = f"{tmp_path}/test has images but no classes: move them to {tmp_path}/test/CLASS/"
    fails(message, tmp_path, "test")


def test_different_classes(tmp_path):
    make(tmp_path, "train/a/0.png", "train/b/0.png", "test/a/0.png", "test/c/0.png")
    assert len(read(tmp_path)) == 2
    fails(
        f"test and train have different classes; only in {tmp_path}/test: c; "
        f"only in {tmp_path}/train: b: give both the same",
        tmp_path,
        "test",
    )
    make(tmp_path, *(f"train/{number}/0.png" for number in range(8)), "test/b/0.png")
    fails(
        rf".*; only in {tmp_path}/train: 0, 1, 2, 3, 4 and 3 more: give both the same",
        tmp_path,
        "test",
    )


@pytest.mark.parametrize("split", ["train", "test"])
def test_nothing_to_read(tmp_path, split):
    fails(f"there is no folder {tmp_path}/absent", tmp_path / "absent", split)
    folder = tmp_path / split
    folder.mkdir()
    fails(rf"no images in {folder}: looked for files named \*\.png, .*", tmp_path, split)
    make(folder, "a/0.png")
    (folder / "b").mkdir()
    (folder / "b" / "notes.txt").write_text("nothing")
    fails(rf"no images in {folder}/b: looked for files named \*\.png, \*\.jpg, .*", tmp_path, split)


def test_empty_root(tmp_path):
    fails(rf"no images in {tmp_path}: .*", tmp_path)


def test_folder_that_cannot_be_listed(tmp_path, monkeypatch):
    make(tmp_path, "a/0.png", "b/0.png")
    scandir = os.scandir

    def scan(path):  # root may list everything
        if path == tmp_path / "b":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr("os.scandir", scan)
    fails(
        f"cannot list {tmp_path}/b: Permission denied: make it readable, or move it elsewhere",
        tmp_path,
    )


def test_symlinked_class_and_file(tmp_path):
    written = make(tmp_path, "store/x/0.png")
    (tmp_path / "set" / "b").mkdir(parents=True)
    (tmp_path / "set" / "a").symlink_to(tmp_path / "store" / "x")
    (tmp_path / "set" / "b" / "0.png").symlink_to(tmp_path / "store" / "x" / "0.png")
    found = read(tmp_path / "set")
    assert torch.equal(found.images, stack(written * 2))
    assert found.labels.tolist() == [0, 1]


def test_exif_orientation(tmp_path):
    pixels = GENERATOR.integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        write(tmp_path / "a" / f"{orientation}.png", pixels, exif=exif)
    found = read(tmp_path).images
    turned = [
        np.rot90(pixels if orientation in (1, 3, 6, 8) else np.fliplr(pixels), turns)
        for orientation, turns in enumerate([0, 0, 2, 2, 1, 3, 3, 1], start=1)
    ]
    assert torch.equal(found, stack(turned))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bits_of_gray_are_scaled_not_clipped(tmp_path, suffix):
    gray = np.linspace(0, 65535, SIZE * SIZE).astype(np.uint16).reshape(SIZE, SIZE)
    write(tmp_path / "a" / f"0.{suffix}", gray)
    found = read(tmp_path).images[0]
    assert torch.equal(found, torch.from_numpy((gray >> 8).astype(np.uint8)).expand(3, -1, -1))


def test_floating_point_pixels_are_refused(tmp_path):
    write(tmp_path / "a" / "0.tif", np.zeros((SIZE, SIZE), np.float32))
    fails(r".*/0\.tif does not decode \(ValueError: its pixels are floating-point .*", tmp_path)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_other_modes_become_rgb(tmp_path, mode):
    gray = np.where(GENERATOR.random((SIZE, SIZE, 1)) < 0.5, 255, 0).astype(np.uint8).repeat(3, 2)
    image = Image.fromarray(gray).convert(mode)
    (tmp_path / "a").mkdir()
    image.save(tmp_path / "a" / f"0.{'tif' if mode == 'CMYK' else 'png'}")
    assert torch.equal(read(tmp_path).images, stack([gray]))


def test_palette_with_transparency_does_not_warn(tmp_path):
    image = Image.fromarray(GENERATOR.integers(0, 4, (SIZE, SIZE), np.uint8), "L").convert("P")
    (tmp_path / "a").mkdir()
    image.save(tmp_path / "a" / "0.png", transparency=bytes(range(256)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(read(tmp_path).images, stack([np.array(image.convert("RGB"))]))


def resize_and_crop(pixels):
    """Short side to SIZE, then the centre, in two steps."""
    short = min(pixels.shape[:2])
    height, width = (round(side * SIZE / short) for side in pixels.shape[:2])
    resized = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)
    top, left = (height - SIZE) // 2, (width - SIZE) // 2
    return stack([np.array(resized)[top : top + SIZE, left : left + SIZE]])


@pytest.mark.parametrize("shape", [(16, 16), (5, 5), (1, 1), (40, 20), (8, 200)])
def test_other_sizes_are_resized_by_the_short_side_and_cropped(tmp_path, shape):
    pixels = write(tmp_path / "a" / "0.png", GENERATOR.integers(0, 256, (*shape, 3), np.uint8))
    found = read(tmp_path).images
    assert found.shape == (1, 3, SIZE, SIZE)
    assert (found.int() - resize_and_crop(pixels).int()).abs().max() <= 1  # rounding


@pytest.mark.parametrize("shape", [(17, 31), (9, 5)])
def test_crop_of_an_uneven_rest_starts_between_two_pixels(tmp_path, shape):
    ramp = np.add.outer(np.linspace(0, 120, shape[0]), np.linspace(0, 120, shape[1]))
    pixels = write(tmp_path / "a" / "0.png", ramp.astype(np.uint8)[..., None].repeat(3, 2))
    found = read(tmp_path).images
    assert found.shape == (1, 3, SIZE, SIZE)
    half_a_pixel = 120 / SIZE / 2
    assert (found.int() - resize_and_crop(pixels).int()).abs().max() <= half_a_pixel + 1


def test_downscaling_is_antialiased(tmp_path):
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    write(tmp_path / "a" / "0.png", stripes)
    assert (read(tmp_path).images.int() - 127).abs().max() < 30


def corrupt_png(path):
    write(path)
    path.write_bytes(path.read_bytes()[:-40])


def corrupt_jpeg(path):
    write(path, GENERATOR.integers(0, 256, (64, 64, 3), np.uint8))
    path.write_bytes(path.read_bytes()[:-500])


def text(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("no image")


def empty(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def dangling(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to("nowhere")


@pytest.mark.parametrize(
    ("spoil", "name", "reason"),
    [
        (corrupt_png, "bad.png", "OSError: .*truncated"),
        (corrupt_jpeg, "bad.jpg", "OSError: .*truncated"),
        (text, "bad.png", "no image of a known format"),
        (empty, "bad.webp", "ValueError: the file is empty"),
        (dangling, "bad.gif", "FileNotFoundError: "),
    ],
)
def test_image_that_does_not_decode(tmp_path, spoil, name, reason):
    written = make(tmp_path, "train/a/0.png", "train/a/z.png", "train/b/0.png")
    bad = tmp_path / "train" / "a" / name
    spoil(bad)
    fails(
        rf"{bad} does not decode \({reason}.*\): mend it, or "
        "pass --data.on-corrupt skip to leave such files out",
        tmp_path,
    )
    found = read(tmp_path, on_corrupt="skip")
    assert torch.equal(found.images, stack(written))
    assert found.labels.tolist() == [0, 0, 1]
    assert found.skipped == (str(bad),)


@pytest.mark.parametrize("limit", [40, 20])  # beyond it PIL warns, beyond twice that it raises
def test_more_pixels_than_pillow_allows(tmp_path, monkeypatch, limit):
    make(tmp_path, "a/0.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    fails(r".*/0\.png does not decode \(DecompressionBomb.*could be decompression bomb.*", tmp_path)


def write_bomb(path, side=30_000):
    """A valid black PNG of one bit a pixel: 110 KB that would be 2.7 GB in RGB."""

    def chunk(kind, content):
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    pack = zlib.compressobj(9)
    row = bytes(1 + side // 8)
    pixels = b"".join(pack.compress(row * 1000) for _ in range(side // 1000)) + pack.flush()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
        + chunk(b"IDAT", pixels)
        + chunk(b"IEND", b"")
    )


def test_decompression_bomb_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    written = make(tmp_path, "a/1.png")
    write_bomb(tmp_path / "a" / "0.png")
    assert (tmp_path / "a" / "0.png").stat().st_size < 200_000
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", lambda self: pytest.fail("decoded"))
    message = r"DecompressionBombError: Image size \(900000000 pixels\) exceeds limit of .*"
    fails(rf"{tmp_path}/a/0\.png does not decode \({message}\): mend it, or .*", tmp_path)
    monkeypatch.undo()
    found = read(tmp_path, on_corrupt="skip")
    assert torch.equal(found.images, stack(written))
    assert found.skipped == (f"{tmp_path}/a/0.png",)


@pytest.mark.parametrize("size", [10**7, 10**10])  # no memory of that size, no address
@pytest.mark.parametrize(("masks", "planes"), [(None, 3), ("masks", 4)])
def test_images_that_do_not_fit_into_memory(tmp_path, size, masks, planes):
    make(tmp_path / "set", "a/0.png", "a/1.png")
    make(tmp_path / "masks", "a/0.png", "a/1.png")
    fails(
        f"{tmp_path}/set: 2 images of {size} x {size} pixels need {2 * planes * size**2:,} bytes "
        "of memory, more than there is: pass a smaller --data.image-size, or --data.resident disk "
        "to pretrain on them from their files",
        tmp_path / "set",
        size=size,
        masks=masks and tmp_path / masks,
    )


def test_class_that_loses_all_its_images(tmp_path):
    make(tmp_path, "a/0.png")
    text(tmp_path / "b" / "0.png")
    text(tmp_path / "b" / "1.png")
    message = f"not one image of class 'b' in {tmp_path} can be used: all 2 left out"
    fails(message, tmp_path, on_corrupt="skip")


def test_unlabelled_folder_that_loses_all_its_images(tmp_path):
    text(tmp_path / "0.png")
    message = f"not one image of {tmp_path} can be used: all 1 left out"
    fails(message, tmp_path, on_corrupt="skip")


def test_names_that_are_not_utf_8(tmp_path):
    folder = os.fsencode(tmp_path) + b"/caf\xe9"
    Path(os.fsdecode(folder)).mkdir()
    pixels = write(tmp_path / "0.png")
    (tmp_path / "0.png").rename(os.fsdecode(folder + b"/\xff.png"))
    found = read(tmp_path)
    assert torch.equal(found.images, stack([pixels]))
    assert found.classes == ("caf\udce9",)
    text(Path(os.fsdecode(folder + b"/bad\xfe\n.png")))
    fails(rf"{tmp_path}/caf\\xe9/bad\\xfe\\n\.png does not decode .*", tmp_path)
    assert read(tmp_path, on_corrupt="skip").skipped == (rf"{tmp_path}/caf\xe9/bad\xfe\n.png",)


DRAW = Draw(limit=4, seed=3)


def test_only_the_drawn_images_are_decoded(tmp_path):
    make(tmp_path, *(f"{name}/{number}.png" for name in "ab" for number in range(5)))
    whole = read(tmp_path)
    drawn = DRAW.of(whole)
    for number in set(range(10)) - set(DRAW.indices(10)):
        text(tmp_path / "ab"[number // 5] / f"{number % 5}.png")
    found = read(tmp_path, draw=DRAW)
    assert found.fingerprint() == drawn.fingerprint()
    assert found.classes == ("a", "b")
    assert found.skipped == ()


def test_others_are_drawn_for_those_that_do_not_decode(tmp_path):
    make(tmp_path, *(f"{name}/{number}.png" for name in "ab" for number in range(5)))
    whole, order = read(tmp_path), DRAW.order(10)
    bad = [order[1], order[3], order[4]]  # the last one would replace another
    for number in bad:
        text(tmp_path / "ab"[number // 5] / f"{number % 5}.png")
    found = read(tmp_path, draw=DRAW, on_corrupt="skip")
    index = sorted([order[0], order[2], order[5], order[6]])
    assert found.fingerprint() == whole.take(torch.tensor(index)).fingerprint()
    assert found.skipped == tuple(
        f"{tmp_path}/{'ab'[number // 5]}/{number % 5}.png" for number in sorted(bad)
    )
    fails(r".*\.png does not decode .*", tmp_path, draw=DRAW)


def test_too_few_images_decode(tmp_path):
    make(tmp_path, *(f"a/{number}.png" for number in range(4)))
    text(tmp_path / "a" / "2.png")
    message = r"data\.limit must be in \[1, 3\], the number of training images, got 4"
    fails(message, tmp_path, draw=DRAW, on_corrupt="skip")


def write_masked(root, masks, name, shape=(SIZE, SIZE), mask_shape=None):
    """A random image and a random mask of 8 bits; returns the foreground."""
    write(root / name, GENERATOR.integers(0, 256, (*shape, 3), np.uint8))
    mask = GENERATOR.integers(0, 256, mask_shape or shape, np.uint8)
    write((masks / name).with_suffix(".png"), mask)
    return mask >= 128


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_masks_lie_in_a_parallel_tree(tmp_path, suffix):
    names = [f"train/{name}/sub/{number}.{suffix}" for name in "ab" for number in range(2)]
    written = [write_masked(tmp_path / "set", tmp_path / "masks", name) for name in names]
    found = read(tmp_path / "set", masks=tmp_path / "masks")
    assert found.masks.dtype == torch.bool
    assert torch.equal(found.masks, torch.from_numpy(np.stack(written)))
    assert read(tmp_path / "set").masks is None


@pytest.mark.parametrize("shape", [(16, 16), (24, 40), (40, 16), (4, 4)])
def test_masks_are_resized_and_cropped_as_the_images_are(tmp_path, shape):
    """A mask says where the image is white: it still does so after both have been resized."""
    height, width = shape
    inside = np.zeros(shape, bool)
    inside[height // 4 : -height // 4, width // 2 :] = True
    pixels = np.where(inside, 255, 0).astype(np.uint8)
    write(tmp_path / "set" / "a" / "0.png", pixels[..., None].repeat(3, 2))
    write(tmp_path / "masks" / "a" / "0.png", pixels // 255 * 200)
    found = read(tmp_path / "set", masks=tmp_path / "masks")
    assert torch.equal(found.masks[0], found.images[0, 0] >= 128)
    assert 0 < found.masks.float().mean() < 1


def test_a_pixel_is_foreground_if_half_of_its_area_is(tmp_path):
    mask = np.zeros((16, 16), np.uint8)
    mask[0, :2] = mask[2, 2] = 128  # half and a quarter of a pixel
    mask[4:6, 4:6] = 127
    write(tmp_path / "set" / "a" / "0.png", np.zeros((16, 16, 3), np.uint8))
    write(tmp_path / "masks" / "a" / "0.png", mask)
    found = read(tmp_path / "set", masks=tmp_path / "masks").masks[0]
    assert found.nonzero().tolist() == [[0, 0]]


def test_mask_of_a_turned_image_is_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    write(tmp_path / "set" / "a" / "0.png", np.zeros((8, 16, 3), np.uint8), exif=exif)
    upright = GENERATOR.integers(0, 256, (16, 8), np.uint8)
    write(tmp_path / "masks" / "a" / "0.png", upright)
    found = read(tmp_path / "set", masks=tmp_path / "masks").masks[0]
    assert torch.equal(found, torch.from_numpy(upright[4:12] >= 128))
    write(tmp_path / "masks" / "a" / "0.png", upright.T)
    fails(
        rf"{tmp_path}/set/a/0\.png is 8 x 16 pixels, but its mask {tmp_path}/masks/a/0\.png "
        "16 x 8: mend it, or .*",
        tmp_path / "set",
        masks=tmp_path / "masks",
    )


def test_missing_and_broken_masks(tmp_path):
    root, masks = tmp_path / "set", tmp_path / "masks"
    written = [write_masked(root, masks, f"a/{number}.jpg") for number in range(4)]
    (masks / "a" / "1.png").unlink()
    text(masks / "a" / "2.png")
    message = rf"{root}/a/1\.jpg has no mask {masks}/a/1\.png: mend it, or pass .* skip .*"
    fails(message, root, masks=masks)
    found = read(root, masks=masks, on_corrupt="skip")
    assert torch.equal(found.masks, torch.from_numpy(np.stack([written[0], written[3]])))
    assert found.skipped == (f"{root}/a/1.jpg", f"{root}/a/2.jpg")
    write(masks / "a" / "1.png", np.zeros((SIZE, SIZE), np.uint8))
    reason = "does not decode \\(no image of a known format\\)"
    fails(rf"{root}/a/2\.jpg has a mask {masks}/a/2\.png that {reason}: .*", root, masks=masks)


def one_masked(tmp_path, mask):
    write(tmp_path / "set" / "a" / "0.png", np.zeros((SIZE, SIZE, 3), np.uint8))
    (tmp_path / "masks" / "a").mkdir(parents=True, exist_ok=True)
    mask.save(tmp_path / "masks" / "a" / "0.png")
    return {"root": tmp_path / "set", "masks": tmp_path / "masks"}


def test_masks_of_16_bits_are_scaled_as_images_are(tmp_path):
    levels = np.full((SIZE, SIZE), 1000, np.uint16)
    levels[:2], levels[2:4] = 65535, 32768
    where = one_masked(tmp_path, Image.fromarray(levels))
    assert read(**where).masks[0].sum(1).tolist() == [SIZE] * 4 + [0] * 4
    one_masked(tmp_path, Image.fromarray(np.full((SIZE, SIZE), 255, np.uint16)))
    with pytest.warns(UserWarning, match="above 255: 32768 and more is foreground, write 65535"):
        assert not read(**where).masks.any()


def indexed(*colors):
    """A mask of two halves that a palette of these colors shows."""
    image = Image.fromarray(np.repeat(np.uint8([[0], [1]]), SIZE // 2, 0).repeat(SIZE, 1))
    image = image.convert("P")
    image.putpalette([level for color in colors for level in color])
    return image


def test_masks_in_color_or_with_transparency(tmp_path):
    where = one_masked(tmp_path, indexed((0, 0, 0), (255, 255, 255)))
    assert read(**where).masks[0].float().mean() == 0.5
    for mode in ("RGB", "RGBA", "LA", "1"):
        one_masked(tmp_path, indexed((0, 0, 0), (255, 255, 255)).convert(mode))
        assert read(**where).masks[0].float().mean() == 0.5
    there = rf"{tmp_path}/set/a/0\.png has a mask {tmp_path}/masks/a/0\.png"
    for mask in (indexed((0, 0, 0), (128, 0, 0)), indexed((0, 0, 0), (0, 255, 0)).convert("RGB")):
        one_masked(tmp_path, mask)
        fails(rf"{there} in color: write it in gray, 255 for the foreground and 0 .*", **where)
    shape = indexed((0, 0, 0), (255, 255, 255)).convert("L")
    black = Image.new("RGBA", (SIZE, SIZE))
    black.putalpha(shape)
    one_masked(tmp_path, black)
    fails(rf"{there} that is transparent in places: write it in gray, .*", **where)


def write_tiff(path, pixels, *changes):
    """A TIFF of which numbers in its header are changed: (tag, old, new)."""
    Image.fromarray(pixels).save(path, "TIFF", tiffinfo={339: 1})
    content = path.read_bytes()
    for tag, old, new in changes:
        before = struct.pack("<HHIH", tag, 3, 1, old)
        assert content.count(before) == 1
        content = content.replace(before, struct.pack("<HHIH", tag, 3, 1, new))
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("kind", "changes", "reason"),
    [
        (np.uint16, [(258, 16, 12)], "its pixels have 12 bits: save it with 8 or 16"),
        (np.int32, [], "its pixels have 32 bits: save it with 8 or 16"),
        (np.int32, [(339, 2, 1)], "its pixels have 32 bits: save it with 8 or 16"),
        (np.uint16, [(339, 1, 2)], "its pixels are signed numbers: save it with unsigned ones"),
        (np.uint8, [(339, 1, 2)], "its pixels are signed numbers: "),
        (np.uint16, [(262, 1, 0)], "its white is 0, in 16 bits: save it with 0 for black"),
        (np.float32, [], "its pixels are floating-point numbers of no known range"),
    ],
)
def test_numbers_that_would_not_be_read_as_they_are_meant(tmp_path, kind, changes, reason):
    root, masks = tmp_path / "set", tmp_path / "masks"
    (root / "a").mkdir(parents=True)
    write_tiff(root / "a" / "0.png", np.full((SIZE, SIZE), 200, kind), *changes)
    fails(rf"{root}/a/0.png does not decode \(ValueError: {reason}.*", root)
    (masks / "a").mkdir(parents=True)
    (root / "a" / "0.png").rename(masks / "a" / "0.png")
    Image.new("RGB", (SIZE, SIZE)).save(root / "a" / "0.png")
    fails(rf".* a mask {masks}/a/0.png that does not .*: {reason}.*", root, masks=masks)


@pytest.mark.parametrize(("black", "expected"), [(1, 200), (0, 55)])
def test_bytes_of_a_tiff_may_be_0_for_white(tmp_path, black, expected):
    (tmp_path / "a").mkdir()
    pixels = np.full((SIZE, SIZE), 200, np.uint8)
    write_tiff(tmp_path / "a" / "0.tiff", pixels, (262, 1, black))
    assert read(tmp_path).images.unique().tolist() == [expected]


def test_images_are_not_their_own_masks(tmp_path):
    make(tmp_path, "a/0.png", "b/0.png")
    message = (
        f"^data.masks {tmp_path} is where the images are, and has no folder masks: make some with "
        f"`iclmsr masks {tmp_path} {tmp_path}/masks`, or name the folder that has them$"
    )
    with pytest.raises(IclmsrError, match=message):
        load(DataConfig("folder", tmp_path, masks=tmp_path), "train")


def test_drawn_images_keep_their_masks(tmp_path):
    root, masks = tmp_path / "set", tmp_path / "masks"
    written = [write_masked(root, masks, f"a/{number}.jpg") for number in range(10)]
    (masks / "a" / f"{DRAW.order(10)[0]}.png").unlink()
    found = read(root, masks=masks, draw=DRAW, on_corrupt="skip")
    index = sorted(DRAW.order(10)[1:5])
    assert torch.equal(found.masks, torch.from_numpy(np.stack(written)[index]))
