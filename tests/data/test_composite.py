# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from iclmsr.data.composite import alpha_of, composite, inpainted


@pytest.fixture
def draw():
    return torch.Generator().manual_seed(3)


def random_images(draw, count=4, height=9, width=12):
    return torch.randint(0, 256, (count, 3, height, width), generator=draw).to(torch.uint8)


def random_masks(draw, count=4, height=9, width=12):
    return torch.rand(count, height, width, generator=draw) < 0.5


def naive(images, masks, backgrounds, softness):
    """Pixel by pixel, in double precision; SciPy blurs."""
    result = np.empty(images.shape, np.uint8)
    for image in range(len(images)):
        inside = masks[image].numpy().astype(np.float64)
        alpha = inside
        if softness:
            radius = math.ceil(4 * softness)
            alpha = inside * gaussian_filter(inside, softness, mode="nearest", radius=radius)
        for channel in range(3):
            for y in range(images.shape[2]):
                for x in range(images.shape[3]):
                    over = float(images[image, channel, y, x])
                    under = float(backgrounds[image, channel, y, x])
                    value = alpha[y, x] * over + (1 - alpha[y, x]) * under
                    result[image, channel, y, x] = round(value)
    return torch.from_numpy(result)


def test_hard_edges_equal_a_naive_compositor(draw):
    images, masks, backgrounds = random_images(draw), random_masks(draw), random_images(draw)
    made = composite(images, masks, backgrounds, 0.0)
    assert made.dtype == torch.uint8
    assert torch.equal(made, naive(images, masks, backgrounds, 0.0))


@pytest.mark.parametrize("softness", [0.4, 0.5, 1.5])
def test_soft_edges_equal_a_naive_compositor(draw, softness):
    images, masks, backgrounds = random_images(draw), random_masks(draw), random_images(draw)
    made = composite(images, masks, backgrounds, softness).int()
    apart = (made - naive(images, masks, backgrounds, softness).int()).abs()
    assert apart.max() <= 1  # float32 on the edge between two bytes
    assert (apart > 0).float().mean() < 0.01


@pytest.mark.parametrize("softness", [0.0, 0.5, 2.0])
def test_nothing_of_the_own_background_comes_along(draw, softness):
    masks, backgrounds = random_masks(draw), random_images(draw)
    one, two = random_images(draw), random_images(draw)
    two = torch.where(masks[:, None], one, two)
    assert torch.equal(
        composite(one, masks, backgrounds, softness), composite(two, masks, backgrounds, softness)
    )
    outside = ~masks[:, None].expand_as(one)
    assert torch.equal(composite(one, masks, backgrounds, softness)[outside], backgrounds[outside])


@pytest.mark.parametrize("softness", [0.0, 0.5, 3.0])
def test_full_and_empty_masks_leave_one_of_the_two(draw, softness):
    images, backgrounds = random_images(draw), random_images(draw)
    full = torch.ones(4, 9, 12, dtype=torch.bool)
    assert torch.equal(composite(images, full, backgrounds, softness), images)
    assert torch.equal(composite(images, ~full, backgrounds, softness), backgrounds)
    assert alpha_of(full, softness).min() > 1 - 1e-6


def test_softness_grows_from_the_edge_inwards():
    mask = torch.zeros(1, 1, 9, dtype=torch.bool)
    mask[..., 4:] = True
    alpha = alpha_of(mask, 1.0)[0, 0, 0]
    assert alpha[:4].tolist() == [0, 0, 0, 0]
    assert (alpha[4:].diff() > 0).sum() >= 3
    assert 0.6 < alpha[4] < 0.8


def test_a_known_quarter_is_as_good_as_a_whole():
    image = torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
    image[..., 0, 0] = 200
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[0, :2, :2] = torch.tensor([[False, True], [True, True]])
    filled = inpainted(image, mask)
    # The upper left of four blocks is 200, the others are 0; bilinear between the blocks.
    assert filled[0, 0, :2, :2].tolist() == [[200, 150], [150, 112]]


def test_a_hole_takes_the_colour_around_it():
    image = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    image[:, 0] = 200
    image[:, :, 2:6, 3:6] = 7
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[:, 2:6, 3:6] = True
    filled = inpainted(image, mask)
    assert torch.equal(filled[:, 0], torch.full((1, 8, 8), 200, dtype=torch.uint8))
    assert not filled[:, 1:].any()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 7), (5, 8), (13, 32)])
def test_known_pixels_stay_and_unknown_ones_count_for_nothing(draw, height, width):
    images = random_images(draw, 6, height, width)
    masks = random_masks(draw, 6, height, width)
    masks[0], masks[1] = True, False
    filled = inpainted(images, masks)
    known = ~masks[:, None].expand_as(images)
    assert torch.equal(filled[known], images[known])
    other = torch.where(masks[:, None], 255 - images, images)
    assert torch.equal(inpainted(other, masks), filled)
    assert (filled[0] == 128).all()
    assert torch.equal(filled[1], images[1])
    lows, highs = (
        torch.where(known, images, beyond).flatten(2) for beyond in (255, 0)
    )  # of what is known
    for image in range(1, 6):
        if known[image].any():
            assert (filled[image].flatten(1) >= lows[image].amin(1, keepdim=True)).all()
            assert (filled[image].flatten(1) <= highs[image].amax(1, keepdim=True)).all()


def test_a_ramp_is_continued_across_a_hole():
    ramp = torch.arange(0, 256, 8, dtype=torch.uint8).expand(1, 3, 32, 32).contiguous()
    mask = torch.zeros(1, 32, 32, dtype=torch.bool)
    mask[:, 12:20, 12:20] = True
    filled = inpainted(ramp, mask)
    error = (filled.int() - ramp.int()).abs()[:, :, 12:20, 12:20]
    assert error.max() <= 4
    assert (filled[0, 0, 16, 12:20].int().diff() >= 0).all()


def test_images_do_not_depend_on_each_other(draw):
    images, masks = random_images(draw, 5), random_masks(draw, 5)
    for index in range(5):
        part = slice(index, index + 1)
        assert torch.equal(inpainted(images, masks)[part], inpainted(images[part], masks[part]))
        assert torch.equal(
            composite(images, masks, images.flip(0))[part],
            composite(images[part], masks[part], images.flip(0)[part]),
        )
