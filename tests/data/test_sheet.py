# SPDX-License-Identifier: Apache-2.0
import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from iclmsr.data.check import check
from iclmsr.data.found import guess
from iclmsr.data.sample import choose, draw_sample
from iclmsr.data.sheet import CELL, GAP, HEAD, LARGE, MARGIN, SEAM, SMALL, draw_sheet
from iclmsr.data.sheet import _titles as titles
from iclmsr.data.sources import DataConfig, load
from iclmsr.data.splits import Split
from iclmsr.data.synthetic import SyntheticConfig
from iclmsr.data.views import ViewConfig
from iclmsr.errors import IclmsrError

FEW = DataConfig("synthetic", synthetic=SyntheticConfig(train=90, test=8))
STILL = ViewConfig(crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), flip=0, jitter_probability=0)
STILL = replace(STILL, grayscale=0)


def sheet(config, views, seed=0):
    sample = draw_sample(check(config), 64, seed=seed)
    return sample, Image.open(io.BytesIO(draw_sheet(sample, config, views, seed=seed)))


def cell(picture, place):
    """The parts of a cell: image, view, view; (side, side, 3)."""
    left = MARGIN + place % 8 * (CELL[0] + GAP)
    top = MARGIN + HEAD + place // 8 * (CELL[1] + GAP)
    pixels = np.asarray(picture)[top : top + CELL[1], left : left + CELL[0]]
    views = pixels[:, LARGE + SEAM :]
    return pixels[:LARGE, :LARGE], views[:SMALL], views[SMALL + SEAM :][:SMALL]


def test_all_classes_as_often_as_one_another():
    labels = {str(number): "abc"[min(number // 10, 2)] for number in range(100)}
    split = Split(labels, ("a", "b", "c"), digests=dict.fromkeys(labels, b""))
    chosen = [labels[name] for name in choose(split, 64, seed=0)]
    assert chosen == sorted(chosen)
    assert [chosen.count(name) for name in "abc"] == [10, 10, 44]
    chosen = choose(split, 9, seed=0)
    assert [labels[name] for name in chosen] == list("aaabbbccc")
    assert chosen == choose(split, 9, seed=0) != choose(split, 9, seed=1)
    assert len({labels[name] for name in choose(split, 2, seed=0)}) == 2
    split.digests = {"3": b"", "12": b""}  # others do not decode
    assert choose(split, 64, seed=0) == ["3", "12"]


def test_the_sheet_shows_the_images_and_what_the_encoder_sees():
    sample, picture = sheet(FEW, STILL)
    assert picture.size == (8 * (CELL[0] + GAP) - GAP + 2 * MARGIN, picture.height)
    assert sample.images.labels.tolist() == sorted(list(range(8)) * 8)
    train = load(FEW, "train").images
    for place in (0, 9, 63):
        original = sample.images.images[place]
        assert any(torch.equal(original, image) for image in train)
        large, *views = cell(picture, place)
        expected = original.permute(1, 2, 0).numpy()
        for view in views:  # nothing is changed, each pixel is 2 x 2
            assert np.array_equal(view, expected.repeat(2, 0).repeat(2, 1))
        far = ~sample.images.masks[place].numpy().repeat(4, 0).repeat(4, 1)
        far[1:] &= far[:-1]
        far[:, 1:] &= far[:, :-1]
        far[:-1] &= far[1:]
        far[:, :-1] &= far[:, 1:]
        assert np.array_equal(large[far], expected.repeat(4, 0).repeat(4, 1)[far])


def test_views_are_augmented_and_weak_ones_keep_their_colours():
    colours = ViewConfig(grayscale=1.0, jitter_probability=0.0, weak=(1,))
    _, picture = sheet(FEW, colours)
    for place in (0, 20, 63):
        _, strong, weak = (part.astype(int) for part in cell(picture, place))
        assert np.ptp(strong, axis=2).max() == 0
        assert np.ptp(weak, axis=2).max() > 9


def test_the_outline_is_the_edge_of_the_mask(tmp_path):
    for number in range(3):
        for folder, mode in (("train", "RGB"), ("masks/train", "L")):
            (tmp_path / folder / "a").mkdir(parents=True, exist_ok=True)
            image = np.full((32, 32), 40 * number, np.uint8)
            if mode == "L":
                image[:] = 0
                image[8:16, 8:24] = 255
            Image.fromarray(image).convert(mode).save(tmp_path / folder / "a" / f"{number}.png")
    _, picture = sheet(guess(tmp_path), STILL)
    large, view, _ = cell(picture, 1)
    yellow = (large == (255, 230, 0)).all(2)
    rows, columns = yellow.nonzero()
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (32, 63, 32, 95)
    assert yellow.sum() == 2 * (32 + 64) - 4
    assert not yellow[33:63, 33:95].any()
    assert (large[31, 32:96] == 0).all()
    assert not (view == (255, 230, 0)).all(2).any()


def test_the_outline_of_an_image_whose_pixels_are_no_squares(tmp_path):
    for folder, mode in (("train", "RGB"), ("masks/train", "L")):
        (tmp_path / folder / "a").mkdir(parents=True)
        image = np.zeros((48, 48), np.uint8)
        image[12:36, 18:30] = 255 if mode == "L" else 0
        Image.fromarray(image).convert(mode).save(tmp_path / folder / "a" / "0.png")
    _, picture = sheet(guess(tmp_path), replace(STILL, size=48))
    rows, columns = (cell(picture, 0)[0] == (255, 230, 0)).all(2).nonzero()
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (32, 95, 48, 79)


def test_views_are_those_of_the_seed():
    sample = draw_sample(check(FEW), 64, seed=0)
    sheets = [draw_sheet(sample, FEW, ViewConfig(), seed=seed) for seed in (0, 0, 1)]
    assert sheets[0] == sheets[1] != sheets[2]


@pytest.mark.parametrize(("weak", "said"), [((0,), "the upper one weak"), ((1,), "the lower one")])
def test_the_title_says_which_view_is_weak(weak, said):
    sample = draw_sample(check(FEW), 8, seed=0)
    (_, *_), (text, *_) = titles(sample, FEW, ViewConfig(weak=weak))
    assert said in text
    assert text.count("weak") == 1


def test_images_of_files_are_decoded_as_a_run_would(tmp_path):
    (tmp_path / "a").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (37, 41, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "a" / "0.jpg", quality=50)
    config = replace(guess(tmp_path), image_size=24)
    drawn = {}
    for decoder in ("pillow", "torchvision"):
        known = replace(config, decoder=decoder)
        drawn[decoder] = draw_sample(check(known), 1, seed=0).images.images
        assert torch.equal(drawn[decoder], load(known, "train").images)
    assert not torch.equal(drawn["pillow"], drawn["torchvision"])


@pytest.fixture
def masked(tmp_path):
    """Two classes of white images with black squares as foregrounds."""
    for folder, mode in (("train", "RGB"), ("masks/train", "L")):
        for name in ("a/0", "a/1", "b/0", "b/1"):
            (tmp_path / folder / name).parent.mkdir(parents=True, exist_ok=True)
            image = np.full((32, 32), 255 if mode == "RGB" else 0, np.uint8)
            image[8:24, 8:24] = 255 - image[0, 0]
            Image.fromarray(image).convert(mode).save(tmp_path / folder / f"{name}.png")
    return guess(tmp_path)


def test_the_sheet_shows_a_variant_of_files(masked):
    config = replace(masked, variant="only_fg")
    _, picture = sheet(config, STILL)
    for part in cell(picture, 3):
        assert (part[0] == 128).all()
        assert (part[len(part) // 2, len(part) // 2] == 0).all()
    with pytest.raises(IclmsrError, match="variant only_fg needs foreground masks"):
        sheet(replace(config, masks=None), STILL)


def test_the_sheet_shows_views_whose_backgrounds_are_exchanged(masked):
    gray = replace(STILL, background="remove", background_probability=1.0, weak=(1,))
    _, picture = sheet(masked, gray)
    _, strong, weak = cell(picture, 2)
    assert (strong[0] == 128).all()
    assert (weak[0] == 255).all()
    with pytest.raises(IclmsrError, match="views.background remove needs images with foreground"):
        sheet(replace(masked, masks=None), gray)


def test_few_images_of_odd_sizes_and_long_names_without_classes(tmp_path):
    name = "a name that is far too long for one cell of the sheet, \udcff"
    for number in range(3):
        Image.new("RGB", (50, 30), (90, 0, number)).save(tmp_path / f"{name} {number}.png")
    sample, picture = sheet(guess(tmp_path), ViewConfig(size=300))
    assert len(sample.images) == 3
    assert picture.height == MARGIN * 2 + HEAD + CELL[1]
    assert (cell(picture, 0)[0][..., 0] == 90).all()


def test_nothing_to_draw(tmp_path):
    (tmp_path / "0.png").touch()
    with pytest.raises(IclmsrError, match="no training images to draw a sheet of"):
        draw_sample(check(guess(tmp_path)), 64, seed=0)
