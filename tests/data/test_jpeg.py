# SPDX-License-Identifier: Apache-2.0
import io
import re

import numpy as np
import pytest
import torch
import torchvision
from pictures import picture
from PIL import Image

from iclmsr.data import jpeg
from iclmsr.data.decode import Unusable, careful, decode_image, decode_mask, plain_size
from iclmsr.data.feed import feed_of
from iclmsr.data.file_set import FileSet
from iclmsr.data.sources import DataConfig, cache_path, load, open_split, prepare
from iclmsr.errors import IclmsrError

CPU = torch.device("cpu")
SIZES = [(64, 64), (61, 47), (33, 81), (77, 77), (250, 190)]
KINDS = ("torchvision", "pillow")


def packed(image, kind="jpeg", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def turned(orientation):
    exif = Image.Exif()
    exif[jpeg.ORIENTATION] = orientation
    return exif


def found(content, decoder, size=24):
    """What a decoder makes of a file: pixels and size, or the message."""
    try:
        with careful():
            pixels, whole = decode_image(content, size, decoder)
    except Unusable as error:
        return str(error)
    return pixels.tobytes(), whole


@pytest.fixture
def asked(monkeypatch):
    """What torchvision said to each file that it was asked for."""
    said, real = [], jpeg.by_torchvision

    def by_torchvision(content, size):
        said.append(real(content, size))
        return said[-1]

    monkeypatch.setattr("iclmsr.data.decode.by_torchvision", by_torchvision)
    return said


PLAIN = {
    **{f"4:{x}, {q}": {"subsampling": s, "quality": q}
       for s, x in enumerate(("4:4", "2:2", "2:0")) for q in (10, 50, 75, 90, 100)},
    "progressive": {"progressive": True},
    "optimized": {"optimize": True},
    "restarts": {"restart_marker_blocks": 3},
    "in RGB": {"keep_rgb": True},
    "upright": {"exif": turned(1)},
}  # fmt: skip


@pytest.mark.parametrize("name", PLAIN)
def test_torchvision_gives_the_pixels_of_pillow(name, asked):
    """The same at the image's own size; resized, less than half a grey level apart on average."""
    for mode in ("RGB", "L"):
        if mode == "L" and name.startswith(("4:", "in")):
            continue
        for number, size in enumerate(SIZES):
            content = packed(picture(number, size).convert(mode), **PLAIN[name])
            one, other = (decode_image(content, 24, kind)[0].astype(int) for kind in KINDS)
            assert abs(one - other)[:, 3:-3, 3:-3].max() <= 3
            assert abs(one - other).mean() < 0.5
            assert found(content, "torchvision", 64)[1] == size
            if size[0] == size[1]:
                assert found(content, "torchvision", size[0]) == found(content, "pillow", size[0])
    assert len(asked) >= 2 * len(SIZES)
    assert all(pixels is not None for pixels in asked)


OTHERS = {
    "CMYK": packed(picture(0).convert("CMYK")),
    "turned": packed(picture(0), exif=turned(6)),
    "mirrored": packed(picture(0), exif=turned(2)),
    "several": packed(picture(0), "mpo", save_all=True, append_images=[picture(1)]),
    "png": packed(picture(0), "png"),
    "16 bits": packed(Image.fromarray(np.arange(999, dtype=np.uint16).reshape(27, 37)), "png"),
    "palette": packed(picture(0).convert("P"), "gif"),
    "empty": b"",
    "text": b"no image",
    "unread": OSError(5, "Input/output error"),
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("decoder", ["torchvision", "nvjpeg"])
def test_other_files_are_pillows(name, decoder, asked):
    assert found(OTHERS[name], decoder) == found(OTHERS[name], "pillow")
    assert asked == []


@pytest.mark.parametrize("kind", ["jpeg", "png"])
@pytest.mark.parametrize(
    ("size", "decoder"),
    [((40, 28), "pillow"), ((40, 29), "torchvision"), ((21, 34), "torchvision")],
)
def test_masks_are_cropped_as_their_images(kind, size, decoder):
    """The image is its mask."""
    mask = np.zeros(size[::-1], np.uint8)
    mask[5:15, 8:18] = 255
    image = Image.fromarray(np.stack([mask] * 3, axis=-1))
    content, drawn = packed(image, kind, quality=100), packed(Image.fromarray(mask), "png")
    side = min(size)
    pixels, whole = decode_image(content, side, decoder)
    found = decode_mask(drawn, "mask.png", side, whole, decoder)
    assert np.array_equal(pixels[0] >= 128, found)


def test_a_file_that_is_cut_off_is_left_to_pillow():
    """A decoder may fill up what is missing."""
    content = packed(picture(3, (90, 70)))
    assert plain_size(content) == plain_size(content + bytes(3)) == (90, 70)
    assert plain_size(content[:-1]) is None


def test_damaged_files_are_what_they_are_to_pillow():
    content = packed(picture(3, (90, 90)))
    numbers = np.random.default_rng(0)
    cut = [content[:length] for length in range(0, len(content), len(content) // 60)]
    changed = []
    for place in numbers.integers(2, len(content), 200).tolist():
        broken = bytearray(content)
        broken[place] ^= int(numbers.integers(1, 256))
        changed.append(bytes(broken))
    outcomes = [tuple(found(each, kind, 90) for kind in KINDS) for each in cut + changed]
    assert all(one == other for one, other in outcomes)
    assert 50 < sum(isinstance(one, str) for one, _ in outcomes) < 200  # some of each


@pytest.fixture
def root(tmp_path):
    """A PNG, a turned JPEG and six plain ones of several sizes, in two classes."""
    for number in range(8):
        kind, options = ("png", {}) if number == 2 else ("jpeg", {})
        if number == 5:
            options = {"exif": turned(8)}
        path = tmp_path / "set" / "ab"[number % 2] / f"{number}.{kind}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(packed(picture(number, (40 + number, 30)), kind, **options))
    return tmp_path / "set"


def config(root, **options):
    return DataConfig(**{"source": "folder", "root": root, "image_size": 16} | options)


def fetched(files, index=None):
    with feed_of(files, CPU, 0) as feed:
        return feed.fetch(torch.arange(len(files)) if index is None else index)


def test_runs_decode_as_told_in_memory_and_on_disk(root, asked):
    load(config(root), "train")
    assert asked == []
    held = load(config(root, decoder="torchvision"), "train").images
    assert len(asked) == 6
    files = open_split(config(root, decoder="torchvision", resident="disk"), "pretrain")
    assert torch.equal(fetched(files), held)
    assert len(asked) == 12


def test_workers_decode_as_told(root, monkeypatch):
    files = open_split(config(root, decoder="torchvision", resident="disk"), "pretrain")
    expected = fetched(files)
    monkeypatch.setattr("iclmsr.data.feed.decode", None)
    with feed_of(files, CPU, 1) as feed:
        feed.expect([torch.arange(8)])
        assert torch.equal(feed.fetch(torch.arange(8)), expected)


def test_the_decoder_is_part_of_what_data_are_known_by(root, tmp_path, monkeypatch):
    monkeypatch.setenv("ICLMSR_CACHE", str(tmp_path / "cache"))
    kinds = [config(root, decoder=name, resident="disk") for name in ("pillow", "torchvision")]
    assert len({cache_path(each, "train") for each in kinds}) == 2
    assert len({open_split(each, "train").fingerprint() for each in kinds}) == 2
    prepare(kinds[0], "train")
    assert isinstance(open_split(kinds[1], "train"), FileSet)


def test_a_decoder_that_would_do_nothing_is_refused(root):
    with pytest.raises(IclmsrError, match=r"^data\.decoder torchvision is for images in files, wh"):
        load(DataConfig(source="synthetic", decoder="torchvision"), "train")
    message = "^data.decoder nvjpeg is for image files that stay on disk: pass --data.resident disk"
    with pytest.raises(IclmsrError, match=message):
        open_split(config(root, decoder="nvjpeg", resident="memory"), "train")


def test_what_is_loaded_into_memory_is_torchvisions_where_a_run_has_nvjpegs(root):
    """Looks at a run's images while it trains, as for the online probe."""
    found = load(config(root, decoder="nvjpeg", resident="disk"), "train")
    assert torch.equal(found.images, load(config(root, decoder="torchvision"), "train").images)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_nvjpeg_needs_a_gpu(root):
    message = "^data.decoder nvjpeg needs an NVIDIA GPU .* pass --data.decoder torchvision$"
    with pytest.raises(IclmsrError, match=message):
        open_split(config(root, decoder="nvjpeg", resident="disk"), "train")


def test_a_gpu_is_given_many_files_at_once_and_one_by_one_where_one_fails(monkeypatch):
    real, calls = torchvision.io.decode_jpeg, []

    def decode_jpeg(files, mode, device):
        calls.append((len(files), device))
        return [real(file, mode) for file in files]

    files = [packed(picture(number)) for number in range(3)]
    expected = [jpeg.by_torchvision(content, 24) for content in files]
    monkeypatch.setattr(torchvision.io, "decode_jpeg", decode_jpeg)
    gpu = torch.device("cuda:1")
    assert all(map(torch.equal, jpeg.by_nvjpeg(files, 24, gpu), expected))
    assert calls == [(3, gpu)]
    found = jpeg.by_nvjpeg([files[0], b"bad", files[2]], 24, gpu)
    assert found[1] is None
    assert torch.equal(found[2], expected[2])
    assert calls[1:] == [(3, gpu), (1, gpu), (1, gpu), (1, gpu)]

    def full(*_, device):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(torchvision.io, "decode_jpeg", full)
    with pytest.raises(torch.OutOfMemoryError):
        jpeg.by_nvjpeg(files, 24, gpu)


def test_torchvision_without_its_decoder_is_said_at_once(root, monkeypatch):
    message = "^data.decoder torchvision needs torchvision's JPEG decoder, which torchvision .* at"
    for break_it in (
        lambda: monkeypatch.setattr(torchvision.io, "decode_jpeg", decode_nothing),
        lambda: monkeypatch.delattr(torchvision.io, "decode_jpeg"),
    ):
        break_it()
        with pytest.raises(IclmsrError, match=message):
            load(config(root, decoder="torchvision"), "train")


def decode_nothing(*_):
    raise RuntimeError("not compiled with libjpeg support")


@pytest.fixture
def stand_in(monkeypatch):
    """The processor instead of a GPU; how many files it was given each time."""
    real, calls = jpeg.by_nvjpeg, []

    def by_nvjpeg(files, *how):
        calls.append(len(files))
        return real(files, *how)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("iclmsr.data.decoded.gpu_for", lambda device: device)
    monkeypatch.setattr("iclmsr.data.decoded.by_nvjpeg", by_nvjpeg)
    return calls


def test_nvjpeg_decodes_plain_jpegs_piece_by_piece(root, stand_in):
    files = open_split(config(root, decoder="nvjpeg", resident="disk"), "pretrain")
    expected = load(config(root, decoder="torchvision"), "train").images
    assert torch.equal(fetched(files), expected)
    assert stand_in == [6]
    with feed_of(files, CPU, 1) as feed:
        feed.expect([torch.arange(8)])
        assert torch.equal(feed.fetch(torch.arange(8)), expected)
    assert stand_in == [6, 6]


@pytest.mark.filterwarnings("ignore")
def test_what_nvjpeg_refuses_is_pillows_to_judge(root, stand_in):
    bad = root / "a" / "4.jpeg"
    content = bad.read_bytes()
    bad.write_bytes(content[:300] + b"\xff\xd9")  # whole, as it seems
    cut = root / "b" / "7.jpeg"
    cut.write_bytes(cut.read_bytes()[:-100])
    options = {"decoder": "nvjpeg", "resident": "disk"}
    files = open_split(config(root, **options), "pretrain")
    with pytest.raises(IclmsrError, match=re.escape(f"{bad} does not decode (")):
        fetched(files, torch.tensor([0, 2]))
    with pytest.raises(IclmsrError, match=re.escape(f"{cut} does not decode (")):
        fetched(files, torch.tensor([7]))
    skipping = open_split(config(root, **options, on_corrupt="skip"), "pretrain")
    found = fetched(skipping)
    assert skipping.instead == {2: 3, 7: 0}
    assert torch.equal(found[2], found[3])
    assert torch.equal(found[7], found[0])
    assert torch.equal(fetched(skipping), found)
