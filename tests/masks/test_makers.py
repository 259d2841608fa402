# SPDX-License-Identifier: Apache-2.0
import sys

import cv2
import numpy as np
import pytest

from iclmsr.errors import IclmsrError
from iclmsr.masks.makers import centred_ellipse, grabcut, saliency


def picture(mask, seed=0, fore=(200, 60, 40), behind=(40, 90, 160), noise=12):
    """Two colours, with some noise, parted by a mask."""
    draw = np.random.default_rng(seed)
    pixels = np.where(mask[..., None], fore, behind) + draw.normal(0, noise, (*mask.shape, 3))
    return pixels.clip(0, 255).astype(np.uint8)


def disc(height, width, y, x, radius):
    rows, columns = np.ogrid[:height, :width]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def overlap(one, other):
    return (one & other).sum() / (one | other).sum()


@pytest.mark.parametrize(
    ("shape", "y", "x", "radius"), [((48, 64), 24, 32, 14), ((64, 48), 38, 20, 12)]
)
def test_grabcut_finds_what_is_in_the_middle(shape, y, x, radius):
    truth = disc(*shape, y, x, radius)
    found = grabcut(picture(truth))
    assert found.dtype == np.bool_
    assert overlap(found, truth) > 0.98


def test_a_box_says_which_of_two_is_meant():
    left, right = disc(48, 96, 24, 24, 12), disc(48, 96, 24, 72, 12)
    image = picture(left | right)
    assert overlap(grabcut(image, (10, 9, 38, 39)), left) > 0.98
    assert overlap(grabcut(image, (58, 9, 86, 39)), right) > 0.98
    assert overlap(grabcut(image), left | right) > 0.98


def test_a_large_image_is_cut_small_and_its_mask_is_large_again(monkeypatch):
    truth = disc(600, 900, 300, 400, 150)
    image, shapes = picture(truth), []
    cut = cv2.grabCut
    monkeypatch.setattr(
        cv2, "grabCut", lambda image, *rest: shapes.append(image.shape) or cut(image, *rest)
    )
    assert overlap(grabcut(image), truth) > 0.97
    boxed = grabcut(image, (249, 149, 552, 452))
    assert overlap(boxed, truth) > 0.97
    assert shapes == [(171, 256, 3)] * 2


def test_a_tiny_box_in_a_large_image_is_cut_and_nothing_leaves_it():
    image = picture(disc(40, 1000, 20, 500, 15))
    found = grabcut(image, (501, 21, 502, 22))
    assert found.sum() <= 1
    box = (481, 3, 519, 37)
    outside = np.ones((40, 1000), bool)
    outside[3:37, 481:519] = False
    assert not grabcut(image, box)[outside].any()


def test_a_box_is_scaled_outwards():
    truth = np.zeros((600, 900), bool)
    truth[302:452, 302:452] = True
    found = grabcut(picture(truth), (302, 302, 452, 452))
    assert found[303:450, 451].all()
    assert found[451, 303:450].all()


def test_grabcut_begins_again_where_it_loses_the_object():
    """The same noise everywhere: nothing in the middle is unlike the rim."""
    image = np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)
    for box in (None, (8, 4, 40, 44)):
        found = grabcut(image, box)
        assert found[21:27, 21:27].all()
        assert 0.05 < found.mean() < 0.2


def test_both_are_deterministic_and_leave_the_image_alone():
    truth = disc(64, 64, 30, 34, 15)
    image = picture(truth, noise=60)
    before = image.copy()
    for make in (grabcut, saliency, lambda one: grabcut(one, (15, 11, 52, 50))):
        first = make(image)
        cv2.setRNGSeed(99)
        make(picture(truth, seed=1, noise=60))
        assert np.array_equal(first, make(image))
    assert np.array_equal(before, image)


def test_saliency_finds_what_is_unlike_the_rest():
    rows, columns = np.ogrid[:64, :64]
    stripes = np.broadcast_to((rows + columns) // 4 % 2 == 0, (64, 64))
    image = picture(stripes, fore=(90, 90, 90), behind=(140, 140, 140), noise=2)
    image[40:56, 8:24] = (220, 30, 30)
    found = saliency(image)
    assert found[48, 16]
    assert found[40:56, 8:24].mean() > 4 * found.mean()
    large = saliency(np.repeat(np.repeat(image, 5, 0), 5, 1))
    assert large.shape == (320, 320)
    assert overlap(large[2::5, 2::5], found) > 0.9


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (2, 2), (3, 3), (5, 4), (1, 3000), (3000, 2)])
@pytest.mark.parametrize("make", [grabcut, saliency])
def test_the_smallest_images(make, shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    found = make(image)
    assert found.shape == shape
    assert found.dtype == np.bool_
    if min(shape) < 3 and make is grabcut:
        assert not found.any()


@pytest.mark.parametrize("value", [0, 128, 255])
def test_one_colour(value):
    image = np.full((20, 30, 3), value, np.uint8)
    assert not saliency(image).any()
    assert grabcut(image).shape == (20, 30)
    boxed = grabcut(image, (5, 5, 20, 15))
    assert not boxed[:5].any()
    assert not boxed[:, 20:].any()


def test_a_box_of_the_whole_image_is_all_foreground():
    assert grabcut(picture(disc(20, 20, 10, 10, 5)), (0, 0, 20, 20)).all()


def test_the_ellipse_covers_its_share():
    for share in (0.1, 0.5):
        for shape in ((200, 200), (100, 300)):
            assert centred_ellipse(*shape, share).mean() == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize("make", [grabcut, saliency])
def test_without_opencv(make, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    message = r"^mask makers .* need OpenCV \(.*cv2.*\): pip install 'iclmsr\[masks\]'$"
    with pytest.raises(IclmsrError, match=message):
        make(picture(disc(20, 20, 10, 10, 5)))
