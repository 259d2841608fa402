# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from iclmsr.data.composite import composite, inpainted
from iclmsr.data.images import ImageSet
from iclmsr.data.variants import Variant, boxes, make_variant
from iclmsr.errors import IclmsrError

MIXED = ("mixed_same", "mixed_rand", "mixed_next")
SIDE = 10


@pytest.fixture
def images():
    """Thirty images of three classes with blobs; the last two have an empty and a full mask."""
    draw = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (30, 3, SIDE, SIDE), generator=draw).to(torch.uint8)
    masks = torch.zeros(30, SIDE, SIDE, dtype=torch.bool)
    for mask in masks:
        top, left = torch.randint(0, 5, (2,), generator=draw).tolist()
        mask[top : top + 4, left : left + 5] = torch.rand(4, 5, generator=draw) < 0.6
    masks[28], masks[29] = False, True
    return ImageSet(pixels, torch.arange(30) % 3, ("a", "b", "c"), masks)


def naive_box(mask):
    inside = np.argwhere(mask)
    if not len(inside):
        return 0, 0, 0, 0
    return *inside.min(0), *(inside.max(0) + 1)


def naive(image, mask, variant, filler):
    """One image (3, H, W), pixel by pixel."""
    result = image.copy()
    top, left, bottom, right = naive_box(mask)
    strips = [
        (0, 0, top, SIDE),
        (bottom, 0, SIDE, SIDE),
        (0, 0, SIDE, left),
        (0, right, SIDE, SIDE),
    ]
    strip = max(strips, key=lambda s: (s[2] - s[0]) * (s[3] - s[1]))
    height, width = strip[2] - strip[0], strip[3] - strip[1]
    for y in range(SIDE):
        for x in range(SIDE):
            boxed = top <= y < bottom and left <= x < right
            if variant == "only_fg" and not mask[y, x]:
                result[:, y, x] = filler
            if variant == "no_fg" and mask[y, x]:
                result[:, y, x] = 0
            if variant == "only_bg_b" and boxed:
                result[:, y, x] = 0
            if variant == "only_bg_t" and boxed:
                there = strip[0] + (y - top) % height if height else 0
                across = strip[1] + (x - left) % width if width else 0
                result[:, y, x] = image[:, there, across] if height * width else 0
    return result


@pytest.mark.parametrize("variant", ["only_fg", "no_fg", "only_bg_b", "only_bg_t"])
def test_pixels_equal_a_naive_compositor(images, variant):
    made = make_variant(images, variant, filler="gray")
    for index in range(30):
        expected = naive(images.images[index].numpy(), images.masks[index].numpy(), variant, 128)
        assert np.array_equal(made.images[index].numpy(), expected), index
    assert torch.equal(made.labels, images.labels)
    assert torch.equal(made.masks, images.masks)
    assert made.images.dtype == torch.uint8


@pytest.mark.parametrize("filler", ["gray", "mean", "black"])
def test_the_filler(images, filler):
    made = make_variant(images, "only_fg", filler=filler)
    mean = [round(float(images.images[:, c].double().mean())) for c in range(3)]
    colour = {"gray": [128] * 3, "black": [0] * 3, "mean": mean}[filler]
    assert (made.images[28] == torch.tensor(colour)[:, None, None]).all()  # the empty mask
    outside = ~images.masks
    for channel in range(3):
        assert (made.images[:, channel][outside] == colour[channel]).all()


@pytest.mark.parametrize("softness", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("variant", ["only_fg", *MIXED])
def test_a_full_mask_leaves_the_image_as_it_is(images, variant, softness):
    made = make_variant(images, variant, softness=softness)
    assert torch.equal(made.images[29], images.images[29])


def test_an_empty_mask_leaves_the_background(images):
    for variant in ("no_fg", "only_bg_b", "only_bg_t"):
        assert torch.equal(make_variant(images, variant).images[28], images.images[28])


def test_the_original_is_the_same_set(images):
    assert make_variant(images, "original") is images


def test_boxes(images):
    for mask, box in zip(images.masks, boxes(images.masks), strict=True):
        assert box.tolist() == list(map(int, naive_box(mask.numpy())))


def donors_of(images, variant, seed=0):
    """Which image each background is from: images of one colour, their number, all background."""
    count = len(images)
    numbered = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 4, 4)
    plain = ImageSet(
        numbered.contiguous(), images.labels, images.classes, torch.zeros(count, 4, 4).bool()
    )
    made = make_variant(plain, variant, seed=seed)
    donors = made.images[:, 0, 0, 0].long()
    assert torch.equal(made.backgrounds, images.labels[donors])
    assert made.background_names == images.classes
    return donors


def test_donors_have_the_class_that_they_should(images):
    for seed in range(20):
        for variant in MIXED:
            donors = donors_of(images, variant, seed)
            assert (donors != torch.arange(30)).all()
            step = {"mixed_same": 0, "mixed_next": 1}.get(variant)
            if step is not None:
                assert torch.equal(images.labels[donors], (images.labels + step) % 3)


def test_random_donors_say_nothing_about_the_class():
    labels = torch.arange(240) % 3
    images = ImageSet(torch.zeros(240, 3, 1, 1, dtype=torch.uint8), labels, ("a", "b", "c"))
    table = torch.zeros(3, 3)
    for seed in range(20):
        kinds = labels[donors_of(images, "mixed_rand", seed)]
        for own, other in zip(labels, kinds, strict=True):
            table[own, other] += 1
    assert stats.chi2_contingency(table.numpy()).pvalue > 0.001
    assert stats.chisquare(table.sum(0).numpy()).pvalue > 0.001


def test_every_other_image_of_a_class_is_equally_often_a_donor():
    labels = torch.zeros(6, dtype=torch.int64)
    images = ImageSet(torch.zeros(6, 3, 1, 1, dtype=torch.uint8), labels, ("a",))
    found = torch.stack([donors_of(images, "mixed_same", seed) for seed in range(600)])
    for own in range(6):
        counts = found[:, own].bincount(minlength=6)
        assert counts[own] == 0
        assert stats.chisquare([c for i, c in enumerate(counts.tolist()) if i != own]).pvalue > 1e-4


def test_an_only_child_is_its_own_donor():
    labels = torch.tensor([0, 1, 1])
    images = ImageSet(torch.zeros(3, 3, 1, 1, dtype=torch.uint8), labels, ("a", "b"))
    assert donors_of(images, "mixed_same").tolist() == [0, 2, 1]


@pytest.mark.parametrize("softness", [0.0, 0.5])
def test_mixed_images_are_composites_on_inpainted_backgrounds(images, softness):
    made = make_variant(images, "mixed_next", seed=4, softness=softness)
    behind = inpainted(images.images, images.masks)
    for index in range(30):
        one = slice(index, index + 1)
        candidates = [
            composite(images.images[one], images.masks[one], behind[d : d + 1], softness)
            for d in range(30)
            if images.labels[d] == (images.labels[index] + 1) % 3
        ]
        assert any(torch.equal(made.images[one], candidate) for candidate in candidates)
    assert torch.equal(made.labels, images.labels)
    assert torch.equal(made.masks, images.masks)


def test_edges_of_mixed_images_equal_a_naive_compositor(images):
    made = make_variant(images, "mixed_rand", seed=4).images.double().numpy()
    numbered = torch.arange(30, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 4, 4)
    none = torch.zeros(30, 4, 4, dtype=torch.bool)
    known = replace(images, images=numbered.contiguous(), masks=none)
    donors = make_variant(known, "mixed_rand", seed=4).images[:, 0, 0, 0].tolist()
    behind = inpainted(images.images, images.masks).double().numpy()
    for index, donor in enumerate(donors):
        mask = images.masks[index].double().numpy()
        alpha = mask * ndimage.gaussian_filter(mask, 0.5, mode="nearest", radius=2)
        front = images.images[index].double().numpy()
        exact = alpha * front + (1 - alpha) * behind[donor]
        assert np.abs(made[index] - exact).max() < 0.5 + 1e-3, index


@pytest.mark.parametrize("variant", MIXED)
def test_the_seed_decides(images, variant):
    once = make_variant(images, variant, seed=1)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        state = torch.random.get_rng_state()
        again = make_variant(images, variant, seed=1)
        assert torch.equal(torch.random.get_rng_state(), state)
    assert once.fingerprint() == again.fingerprint()
    assert torch.equal(once.backgrounds, again.backgrounds)
    assert once.fingerprint() != make_variant(images, variant, seed=2).fingerprint()


def test_the_set_itself_stays(images):
    before = images.images.clone()
    for variant in get_args(Variant):
        make_variant(images, variant)
        assert torch.equal(images.images, before)


def test_where_there_is_no_background_left_none_is_named(images):
    known = replace(images, backgrounds=images.labels, background_names=("x", "y", "z"))
    gone = make_variant(known, "only_fg")
    assert gone.backgrounds is None
    assert gone.background_names == ()
    kept = make_variant(known, "no_fg")
    assert torch.equal(kept.backgrounds, images.labels)
    assert kept.background_names == ("x", "y", "z")


@pytest.mark.parametrize("variant", MIXED)
def test_backgrounds_that_are_known_come_along_with_the_pixels(images, variant):
    numbered = replace(images, backgrounds=torch.arange(30), background_names=tuple("x" * 30))
    made = make_variant(numbered, variant, seed=3)
    assert made.background_names == numbered.background_names
    behind = inpainted(images.images, images.masks)[made.backgrounds]
    assert torch.equal(made.images, composite(images.images, images.masks, behind))


def test_what_a_variant_needs(images):
    def fails(message, images, variant, **options):
        with pytest.raises(IclmsrError, match=f"^{message}"):
            make_variant(images, variant, **options)

    fails("variant only_fg needs foreground masks", replace(images, masks=None), "only_fg")
    unknown = replace(images, labels=torch.full((30,), -1))
    fails("variant mixed_rand takes donors by class: every image", unknown, "mixed_rand")
    assert make_variant(unknown, "no_fg").images.shape == images.images.shape
    fails("unknown variant 'only_gf': did you mean 'only_fg'", images, "only_gf")
    fails("unknown filler 'grey': did you mean 'gray'", images, "only_fg", filler="grey")
