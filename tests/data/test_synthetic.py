# SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch
from scipy import stats

from iclmsr.data.synthetic import BACKGROUNDS, SHAPES, TEXTURES, SyntheticConfig, make_synthetic
from iclmsr.errors import IclmsrError

SMALL = SyntheticConfig(train=160, val=120, test=120)
BITS = {
    "train": "f8afa6c233d3e413",
    "test": "5e95354b2709b275",
    "test-swapped": "585aeaf1a0de4963",
}


def make(split="train", config=SMALL, seed=0, image_size=32):
    return make_synthetic(config, split, seed=seed, image_size=image_size)


def same(one, two):
    pairs = zip(
        (one.images, one.labels, one.masks, one.backgrounds),
        (two.images, two.labels, two.masks, two.backgrounds),
        strict=True,
    )
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("image_size", [16, 32, 50])
def test_shapes_and_types(image_size):
    made = make(image_size=image_size)
    assert made.images.shape == (160, 3, image_size, image_size)
    assert made.images.dtype == torch.uint8
    assert made.masks.shape == (160, image_size, image_size)
    assert made.masks.dtype == torch.bool
    assert made.labels.dtype == made.backgrounds.dtype == torch.int64
    assert made.classes == tuple(SHAPES)
    assert len(BACKGROUNDS) == len(SHAPES) == 8
    assert len(make("test", image_size=image_size)) == 120


@pytest.mark.parametrize("split", ["train", "val", "val-swapped", "test", "test-swapped"])
def test_every_call_makes_the_same_images(split):
    once = make(split)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        state = torch.random.get_rng_state()
        again = make(split)
        assert torch.equal(torch.random.get_rng_state(), state)
    assert same(once, again)
    assert once.fingerprint() == again.fingerprint()


def test_the_number_of_threads_changes_nothing():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        alone = make()
    finally:
        torch.set_num_threads(threads)
    assert same(alone, make())


def test_seeds_and_splits_are_independent():
    config = SyntheticConfig(train=120, val=120, test=120)
    names = ("train", "val", "test")
    sets = [make(name, config) for name in names] + [make("train", config, seed=1)]
    for i, one in enumerate(sets):
        for two in sets[:i]:
            assert not (one.images == two.images).flatten(1).all(1).any()
            assert (one.labels == two.labels).double().mean() < 0.3
            assert not (one.masks == two.masks).flatten(1).all(1).any()


def test_backgrounds_are_drawn_anew_for_every_seed_and_split():
    config = SyntheticConfig(classes=2, train=120, test=120)
    train = make("train", config)
    for other in (make("test", config), make("train", config, seed=1)):
        assert (train.images == other.images).double().mean() < 0.03


def test_the_bits_do_not_change():
    """What was published with splits train and test stays what it was."""
    config = SyntheticConfig(train=40, test=16)
    found = {split: make(split, config).fingerprint()[:16] for split in BITS}
    assert found == BITS
    assert len(make("val", SyntheticConfig(val=24))) == 24


def test_labels_are_balanced_and_in_random_order():
    config = SyntheticConfig(train=163, test=10)
    counts = make("train", config).labels.bincount(minlength=8)
    assert set(counts.tolist()) == {20, 21}
    assert not torch.equal(make().labels, make().labels.sort().values)


@pytest.mark.parametrize("front", ["val", "test"])
def test_swapping_keeps_the_foreground_and_nothing_else(front):
    test, swapped = make(front), make(f"{front}-swapped")
    assert torch.equal(test.labels, swapped.labels)
    assert torch.equal(test.masks, swapped.masks)
    unequal = (test.images != swapped.images).any(1)  # (N, H, W)
    assert not (unequal & test.masks).any()
    assert (unequal & ~test.masks).sum() > 0.98 * (~test.masks).sum()
    assert not torch.equal(test.backgrounds, swapped.backgrounds)


def test_rho_changes_backgrounds_only():
    one, two = (make("test", SyntheticConfig(test=120, rho=rho)) for rho in (0.2, 1.0))
    assert torch.equal(one.labels, two.labels)
    assert torch.equal(one.masks, two.masks)
    assert torch.equal((one.images * one.masks[:, None]), (two.images * two.masks[:, None]))


def test_masks_show_the_shape_of_the_class():
    made = make(image_size=64)
    share = made.masks.double().mean((1, 2))
    assert share.min() > 0.02
    assert share.max() < 0.3
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    for mask, label in zip(made.masks, made.labels.tolist(), strict=True):
        rows, columns = mask.any(1).nonzero().squeeze(1), mask.any(0).nonzero().squeeze(1)
        middle = y[mask].double().mean().round().int(), x[mask].double().mean().round().int()
        name = made.classes[label]
        if name in ("circle", "square", "triangle", "star", "cross"):
            assert mask[middle]
        if name == "ring":
            assert not mask[middle]
        if name in ("circle", "ring"):
            radius = (len(rows) + len(columns)) / 4
            hole = 0.0 if name == "circle" else (0.49 / 0.95) ** 2
            area = math.pi * radius**2 * (1 - hole)
            assert mask.sum().item() == pytest.approx(area, rel=0.06)


def test_foregrounds_stand_out_from_their_backgrounds():
    made = make(config=SyntheticConfig(train=500))
    pixels, inside = made.images / 255, made.masks[:, None]
    front = (pixels * inside).sum((2, 3)) / inside.sum((2, 3))
    behind = (pixels * ~inside).sum((2, 3)) / (~inside).sum((2, 3))
    assert (front - behind).norm(dim=1).quantile(0.01) > 0.25


def test_colours_say_nothing_about_the_class():
    made = make(config=SyntheticConfig(train=1000))
    inside = made.masks[:, None]
    front = (made.images * inside).sum((2, 3)) / inside.sum((2, 3))
    for channel in range(3):
        groups = [front[made.labels == label, channel].numpy() for label in range(8)]
        assert stats.f_oneway(*groups).pvalue > 0.001


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9, 1.0])
def test_backgrounds_follow_the_class_as_often_as_rho_says(rho):
    config = SyntheticConfig(test=2000, rho=rho)
    made = make("test", config, image_size=16)
    own = (made.backgrounds == made.labels).sum().item()
    interval = stats.binomtest(own, 2000).proportion_ci(0.999)
    assert interval.low <= rho + (1 - rho) / 8 <= interval.high
    foreign = made.backgrounds[made.backgrounds != made.labels]
    if rho < 1:
        assert stats.chisquare(foreign.bincount(minlength=8).numpy()).pvalue > 0.001


@pytest.mark.parametrize("split", ["test", "test-swapped"])
def test_without_confounding_backgrounds_are_independent_of_classes(split):
    config = SyntheticConfig(test=2000, rho=0.0 if split == "test" else 1.0)
    made = make(split, config, image_size=16)
    table = (made.labels * 8 + made.backgrounds).bincount(minlength=64).reshape(8, 8)
    assert stats.chi2_contingency(table.numpy()).pvalue > 0.001


def test_fewer_classes_use_the_first_shapes_and_textures():
    made = make(config=SyntheticConfig(classes=3, train=60))
    assert made.classes == ("circle", "square", "triangle")
    assert made.labels.unique().tolist() == made.backgrounds.unique().tolist() == [0, 1, 2]


def test_no_two_textures_and_no_two_shapes_are_alike():
    side = torch.arange(40, dtype=torch.float64)
    u, v = (plane[None] / 8 for plane in torch.meshgrid(side, side, indexing="ij"))
    draw = torch.Generator().manual_seed(0)
    patterns = [texture(u, v, draw).double() for texture in TEXTURES.values()]
    shapes = [inside(u / 2.5 - 1, v / 2.5 - 1).double() for inside in SHAPES.values()]
    for kinds, least in ((patterns, 0.2), (shapes, 0.06)):
        for i, one in enumerate(kinds):
            assert all((one - two).abs().mean() > least for two in kinds[:i])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"classes": 1}, r"classes must be in \[2, 8\], got 1"),
        ({"classes": 9}, r"classes must be in \[2, 8\], got 9"),
        ({"train": 0}, "train must be > 0 images, got 0"),
        ({"val": 0}, "val must be > 0 images, got 0"),
        ({"test": -5}, "test must be > 0 images, got -5"),
        ({"rho": 1.2}, r"rho must be in \[0, 1\], got 1.2"),
        ({"rho": -0.1}, r"rho must be in \[0, 1\], got -0.1"),
        ({"variety": 2.0}, r"variety must be in \[0, 1\], got 2.0"),
        ({"rho": math.nan}, r"rho must be in \[0, 1\], got nan"),
    ],
)
def test_a_bad_config_says_what_is_wrong(values, message):
    with pytest.raises(IclmsrError, match=message):
        SyntheticConfig(**values)


def test_an_unknown_split_is_quoted_with_the_nearest():
    with pytest.raises(IclmsrError, match="no split 'test-swap' .* 'test-swapped'"):
        make("test-swap")


def test_images_too_small_for_a_shape_are_refused():
    with pytest.raises(IclmsrError, match="image_size must be >= 16 pixels, got 8"):
        make(image_size=8)


def test_variety_is_place_and_turn():
    """Without it every shape of a class has one place; with all of it the place is anywhere."""

    def spread(variety):
        config = SyntheticConfig(train=160, variety=variety)
        images = make_synthetic(config, "train", seed=0, image_size=32)
        across = torch.arange(32.0)
        weights = images.masks.float().sum(1)  # (N, W)
        centre = (weights * across).sum(1) / weights.sum(1)
        return max(centre[images.labels == label].std().item() for label in range(8))

    assert spread(0.0) < 1.5  # pixels; size still varies
    assert spread(0.5) > 1.5
    assert spread(1.0) > 3.0
