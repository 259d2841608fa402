# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from scipy import ndimage
from torch.nn import functional as F

from iclmsr.data.resample import blur_matrix, resample_matrix


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(count, size=32):
    """Bytes (count, 3, size, size): smooth blobs with some noise, as photographs have."""
    blobs = torch.rand(count, 3, size // 5, size // 5, generator=seeded())
    smooth = F.interpolate(blobs, size=(size, size), mode="bicubic")
    grain = torch.rand(count, 3, size, size, generator=seeded(1)).sub(0.5).mul(0.1)
    return (smooth + grain).clamp(0, 1).mul(255).round().byte()


def blurred(images, sigma, largest=2.0):
    """Images (B, 3, H, W) in [0, 1] blurred by matrices, with one sigma for all."""
    rows, columns = (blur_matrix(torch.tensor([sigma]), size, largest) for size in images.shape[2:])
    return rows @ images @ columns.mT


def by_hand(values, sigma, radius):
    """A row of numbers, each replaced by the weighted mean of those around it, one at a time."""
    last, result = len(values) - 1, []
    for centre in range(len(values)):
        total = weight = 0.0
        for offset in range(-radius, radius + 1):
            share = math.exp(-(offset**2) / (2 * sigma**2))
            weight += share
            total += share * values[min(max(centre + offset, 0), last)]
        result.append(total / weight)
    return result


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_resample_matrices_sum_to_one_and_stay_in_the_box(interpolation):
    start, length = torch.tensor([0, 5, 11, 3]), torch.tensor([12, 4, 1, 8])
    matrix = resample_matrix(start, length, 12, 7, interpolation)
    assert matrix.shape == (4, 7, 12)
    torch.testing.assert_close(matrix.sum(2), torch.ones(4, 7))
    pixel = torch.arange(12)
    outside = (pixel < start[:, None]) | (pixel >= (start + length)[:, None])
    assert (matrix * outside[:, None]).abs().max() == 0
    mirror = torch.tensor([True, False, True, False])
    mirrored = resample_matrix(start, length, 12, 7, interpolation, mirror)
    assert torch.equal(mirrored, torch.where(mirror[:, None, None], matrix.flip(1), matrix))


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_matrices_are_the_same_from_the_table_and_computed(interpolation, monkeypatch):
    box = torch.tensor([[first, last - first] for last in range(1, 10) for first in range(last)]).T
    mirror = torch.rand(box.shape[1], generator=seeded()) < 0.5
    taken = resample_matrix(*box, 9, 5, interpolation, mirror)
    monkeypatch.setattr("iclmsr.data.resample.TABLE_ENTRIES", 0)
    assert torch.equal(resample_matrix(*box, 9, 5, interpolation, mirror), taken)


@pytest.mark.parametrize("largest", [0.6, 2.0, 5.0])
@pytest.mark.parametrize("size", [1, 2, 5, 32])
def test_the_blur_is_the_weighted_mean_of_the_pixels_around(size, largest):
    sigma = torch.tensor([0.1, 0.5, 0.6, 1.7, 2.0, 5.0])
    sigma = sigma[sigma <= largest]
    matrix = blur_matrix(sigma, size, largest)
    assert matrix.shape == (len(sigma), size, size)
    values = torch.rand(size, generator=seeded())
    for row, spread in zip(matrix, sigma.tolist(), strict=True):
        expected = torch.tensor(by_hand(values.tolist(), spread, math.ceil(4 * largest)))
        torch.testing.assert_close(row @ values, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("sigma", [0.3, 0.5, 1.0, 1.5, 2.0])
def test_the_blur_is_scipys_along_both_axes(sigma):
    images = torch.rand(2, 3, 24, 31, generator=seeded(), dtype=torch.float64)
    axes = {"axes": (2, 3), "mode": "nearest", "radius": 8}
    expected = ndimage.gaussian_filter(images.numpy(), sigma, **axes)
    result = blurred(images.float(), sigma)
    torch.testing.assert_close(result.double(), torch.from_numpy(expected), atol=1e-6, rtol=0)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 1.5, 2.0])
def test_the_blur_is_near_pils(sigma):
    """As near as three box blurs, each rounded to bytes, come to a Gaussian."""
    images = pictures(16)
    theirs = np.stack(
        [
            Image.fromarray(image.permute(1, 2, 0).numpy()).filter(ImageFilter.GaussianBlur(sigma))
            for image in images
        ]
    )
    result = blurred(images / 255, sigma)
    off = result.mul(255).sub(torch.from_numpy(theirs).permute(0, 3, 1, 2)).abs()
    assert off.mean() < 0.8
    assert off[..., 6:-6, 6:-6].max() < 3.5
    assert off.max() < 7  # three blurs repeat the edge three times: most at the border
    change = result.mul(255).sub(images).abs()
    assert off.mean() < change.mean() / 2


def test_blur_matrices_sum_to_one_and_keep_a_row_to_itself():
    sigma = torch.linspace(0.05, 2.0, 50)
    matrix = blur_matrix(sigma, 20, 2.0)
    assert matrix.min() >= 0
    torch.testing.assert_close(matrix.sum(2), torch.ones(50, 20), atol=1e-6, rtol=0)
    assert torch.equal(matrix[0], torch.eye(20))  # far less than a pixel
    for row in range(50):
        assert torch.equal(blur_matrix(sigma[row : row + 1], 20, 2.0)[0], matrix[row])
    assert blur_matrix(sigma[:0], 20, 2.0).shape == (0, 20, 20)


def test_the_reach_leaves_next_to_nothing_out():
    sigma = torch.tensor([2.0])
    assert (blur_matrix(sigma, 40, 2.0) - blur_matrix(sigma, 40, 4.0)).abs().max() < 1e-4
