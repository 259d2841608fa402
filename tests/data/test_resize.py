# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torchvision.transforms.functional import center_crop

from iclmsr.data import resize
from iclmsr.data.images import ImageSet
from iclmsr.data.resize import centre_view, resized

IMAGES = torch.randint(0, 256, (7, 3, 12, 12), generator=torch.Generator().manual_seed(0)).byte()
MASKS = torch.zeros(7, 12, 12, dtype=torch.bool)
MASKS[:, 2:7, 4:] = True
SET = ImageSet(IMAGES, torch.arange(7), tuple("abcdefg"), MASKS, torch.arange(7), ("skipped",))


@pytest.mark.parametrize("chunk", [1, 3, 100])
@pytest.mark.parametrize("size", [6, 30])
def test_chunks_do_not_matter(monkeypatch, chunk, size):
    whole = torch.nn.functional.interpolate(IMAGES, (size, size), mode="bicubic", antialias=True)
    monkeypatch.setattr(resize, "CHUNK", chunk)
    assert torch.equal(resized(IMAGES, size), whole)


def test_one_pixel():
    exact = torch.nn.functional.interpolate(IMAGES.float(), (1, 1), mode="bicubic", antialias=True)
    assert torch.equal(resized(IMAGES, 1), exact.round().clamp(0, 255).byte())


def test_images_of_the_right_size_are_left_alone():
    assert resized(IMAGES, 12) is IMAGES
    assert resized(IMAGES[:0], 5).shape == (0, 3, 12, 12)
    same = centre_view(SET, resize=None, crop=None)
    assert same.images is IMAGES
    assert same.masks is MASKS


def test_the_centre_is_cut_out_of_images_and_masks():
    found = centre_view(SET, resize=None, crop=8)
    assert torch.equal(found.images, IMAGES[:, :, 2:10, 2:10])
    assert torch.equal(found.masks, MASKS[:, 2:10, 2:10])
    assert found.images.is_contiguous()
    assert found.labels is SET.labels
    assert found.skipped == ("skipped",)


@pytest.mark.parametrize("crop", [1, 4, 5, 7, 12])
def test_the_centre_is_torchvisions(crop):
    found = centre_view(SET, resize=None, crop=crop)
    assert torch.equal(found.images, center_crop(IMAGES, [crop, crop]))


def test_masks_are_resized_with_the_images():
    found = centre_view(SET, resize=6, crop=4)
    assert torch.equal(found.images, resized(IMAGES, 6)[:, :, 1:5, 1:5])
    expected = torch.zeros(6, 6, dtype=torch.bool)
    expected[1:4, 2:] = True  # the third row is covered by half
    assert torch.equal(found.masks, expected[1:5, 1:5].expand(7, -1, -1))


def test_a_set_without_masks_has_none_afterwards():
    bare = ImageSet(IMAGES, torch.arange(7), SET.classes)
    assert centre_view(bare, resize=6, crop=4).masks is None
