# SPDX-License-Identifier: Apache-2.0
import math
from dataclasses import replace

import pytest
import torch
from scipy import stats
from scipy.ndimage import gaussian_filter
from torchvision.transforms import ColorJitter, InterpolationMode, RandomResizedCrop
from torchvision.transforms import functional as F

from iclmsr.data.colour import BRIGHTNESS, CONTRAST, HUE, SATURATION
from iclmsr.data.views import ViewConfig, ViewParameters, draw_parameters, make_views
from iclmsr.errors import IclmsrError


def gray(image):
    """Gray in three channels, with Pillow's weights; torchvision's own add up to 0.9999."""
    if not isinstance(image, torch.Tensor):
        return F.rgb_to_grayscale(image, 3)
    weights = torch.tensor([19595, 38470, 7471]) / 65536
    return (weights[:, None, None] * image).sum(0).expand(3, -1, -1)


def contrasted(image, factor):
    if not isinstance(image, torch.Tensor):
        return F.adjust_contrast(image, factor)
    return torch.lerp(gray(image).mean(), image, factor).clamp(0, 1)


def saturated(image, factor):
    if not isinstance(image, torch.Tensor):
        return F.adjust_saturation(image, factor)
    return torch.lerp(gray(image), image, factor).clamp(0, 1)


ADJUST = {
    BRIGHTNESS: F.adjust_brightness,
    CONTRAST: contrasted,
    SATURATION: saturated,
    HUE: F.adjust_hue,
}
NOTHING = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
MODES = {"bicubic": InterpolationMode.BICUBIC, "bilinear": InterpolationMode.BILINEAR}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(count, height=32, width=32, low=0, high=256):
    shape = (count, 3, height, width)
    return torch.randint(low, high, shape, dtype=torch.uint8, generator=seeded())


def nothing(count, height=32, width=32):
    """Parameters that leave images as they are."""
    flip, jitter, grayscale, blur, solarize = torch.zeros(5, count, dtype=torch.bool)
    return ViewParameters(
        box=torch.tensor([0, 0, height, width]).repeat(count, 1),
        flip=flip,
        factors=torch.tensor([1.0, 1.0, 1.0, 0.0]).repeat(count, 1),
        order=torch.arange(4).repeat(count, 1),
        jitter=jitter,
        grayscale=grayscale,
        blur=blur,
        sigma=torch.ones(count),
        solarize=solarize,
    )


def test_parameters_that_do_nothing_change_nothing():
    images = noise(3)
    views = make_views(images, nothing(3), ViewConfig(), **NOTHING)
    assert views.dtype == torch.float32
    torch.testing.assert_close(views, images / 255, atol=1e-6, rtol=0)


def test_normalization_uses_the_mean_and_std_of_each_channel():
    images, mean, std = noise(2), (0.1, 0.2, 0.3), (0.5, 1.0, 2.0)
    views = make_views(images, nothing(2), ViewConfig(), mean=mean, std=std)
    expected = F.normalize(images / 255, mean, std)
    torch.testing.assert_close(views, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("operation", ADJUST)
def test_each_colour_operation_is_torchvisions(operation):
    images = noise(8)
    images[0] = images[0, :1]  # gray pixels have no hue
    images[1, :, ::2], images[1, :, 1::2] = 0, 255
    parameters = nothing(8)
    parameters.jitter.fill_(True)
    low, high = (-0.5, 0.5) if operation == HUE else (0.0, 2.0)
    factors = torch.linspace(low, high, 8)
    parameters.factors[:, operation] = factors
    views = make_views(images, parameters, ViewConfig(), **NOTHING)
    for image, view, factor in zip(images, views, factors.tolist(), strict=True):
        exact = whole(ADJUST[operation](image / 255, factor), operation)
        off = (view - exact).abs()
        assert off.max() < 1.01 / 255  # where a fraction is next to nothing
        assert off.mean() < 0.01 / 255
        pil = F.to_tensor(ADJUST[operation](F.to_pil_image(image), factor))
        if operation == HUE:  # PIL rounds hue and saturation to bytes on the way
            assert (view - pil).abs().mean() < 2 / 255
        else:  # PIL rounds the gray that it blends with, then cuts the result to a byte
            assert (view - pil).abs().max() < (1 + 0.5 * abs(1 - factor)) / 255 + 1e-5


def test_gray_stays_as_light_as_it_is():
    ramp = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(21, 3, -1, -1)
    parameters = nothing(21, 16, 16)
    parameters.jitter.fill_(True)
    parameters.factors[:, SATURATION] = torch.linspace(0, 2, 21)
    parameters.factors[:, HUE] = torch.linspace(-0.5, 0.5, 21)
    views = make_views(ramp, parameters, ViewConfig(size=16), **NOTHING)
    assert torch.equal(views.mul(255).round(), ramp.float())
    for factor, view in zip(parameters.factors[:, SATURATION].tolist(), views, strict=True):
        pil = F.to_tensor(F.adjust_saturation(F.to_pil_image(ramp[0]), factor))
        torch.testing.assert_close(view, pil, atol=1e-5, rtol=0)


def test_hue_is_torchvisions_on_every_sector_and_its_edges():
    levels = torch.tensor([0, 1, 127, 128, 254, 255], dtype=torch.uint8)
    colours = torch.cartesian_prod(levels, levels, levels).T  # (3, 216)
    shifts = torch.linspace(-0.5, 0.5, 13)
    square = colours.repeat(1, 2)[:, :225].reshape(3, 15, 15)
    parameters = nothing(13, 15, 15)
    parameters.jitter.fill_(True)
    parameters.factors[:, HUE] = shifts
    views = make_views(square.expand(13, 3, 15, 15), parameters, ViewConfig(size=15), **NOTHING)
    for view, shift in zip(views, shifts.tolist(), strict=True):
        exact = F.adjust_hue(square / 255, shift)
        torch.testing.assert_close(view, exact, atol=0.51 / 255, rtol=0)


def test_grayscale_is_pils():
    images, parameters = noise(4), nothing(4)
    parameters.grayscale[1::2] = True
    views = make_views(images, parameters, ViewConfig(), **NOTHING)
    assert torch.equal(views[1, 0], views[1, 2])
    for row in (1, 3):
        pil = F.to_tensor(F.to_grayscale(F.to_pil_image(images[row]), 3))
        assert (views[row] - pil).abs().max() < 0.55 / 255
    torch.testing.assert_close(views[::2], images[::2] / 255, atol=1e-6, rtol=0)


@pytest.mark.parametrize("interpolation", MODES)
@pytest.mark.parametrize("size", [8, 24, 32, 50])
def test_the_crop_is_pils_up_and_down(interpolation, size):
    boxes = [(0, 0, 36, 40), (5, 3, 20, 30), (35, 0, 1, 40), (7, 9, 9, 9), (10, 2, 25, 34)]
    boxes += [(0, 9, 36, 12), (3, 0, 33, 20), (1, 39, 34, 1)]
    images = noise(len(boxes), 36, 40)
    images[::2] = images[::2] // 128 * 255  # black and white overshoot the most
    parameters = nothing(len(boxes))._replace(box=torch.tensor(boxes))
    parameters.flip[::2] = True
    config = ViewConfig(size=size, interpolation=interpolation)
    views = make_views(images, parameters, config, **NOTHING)
    for row, (image, box) in enumerate(zip(images, boxes, strict=True)):
        top, left, height, width = box
        pil = F.crop(F.to_pil_image(image), top, left, height, width)
        for shape in ((height, size), (size, size)):  # in this order whatever Pillow's version
            pil = F.resize(pil, shape, MODES[interpolation])
        pil = F.hflip(pil) if parameters.flip[row] else pil
        off = (views[row] - F.to_tensor(pil)).abs().max()
        assert off < (2 if interpolation == "bicubic" else 1.01) / 255  # rounded twice


def whole(image, operation):
    """Whole grey levels, as the operation of the jitter leaves them."""
    levels = image * 255
    return (levels.round() if operation == HUE else (levels + 1e-3).floor()) / 255


def recoloured(image, parameters, row):
    """Jitter and gray, one torchvision function at a time."""
    if parameters.jitter[row]:
        if isinstance(image, torch.Tensor):
            image = (image * 255 + 0.5 + 1e-3).floor() / 255  # halves go up, as Pillow's
        for operation in parameters.order[row].tolist():
            image = ADJUST[operation](image, parameters.factors[row, operation].item())
            image = whole(image, operation) if isinstance(image, torch.Tensor) else image
    return gray(image) if parameters.grayscale[row] else image


def cropped(image, parameters, row, config):
    """Crop and flip, one torchvision function at a time."""
    box, size, mode = parameters.box[row].tolist(), [config.size] * 2, MODES[config.interpolation]
    image = F.resized_crop(image, *box, size, mode, antialias=True)
    return F.hflip(image) if parameters.flip[row] else image


def by_hand(image, parameters, row, config):
    """The pipeline of the protocol, one image and one function at a time."""
    if config.crop_first:
        image = recoloured(cropped(image, parameters, row, config), parameters, row)
    else:
        image = cropped(recoloured(image, parameters, row), parameters, row, config)
    if parameters.blur[row]:
        reach = {"mode": "nearest", "radius": math.ceil(4 * config.blur_sigma[1])}
        sigma = parameters.sigma[row].item()
        image = torch.from_numpy(gaussian_filter(image.numpy(), sigma, axes=(1, 2), **reach))
    return image


@pytest.mark.parametrize("interpolation", MODES)
@pytest.mark.parametrize("crop_first", [False, True])
def test_the_whole_pipeline_runs_in_the_protocols_order(crop_first, interpolation):
    # Middling values: torchvision's float crop does not clip between its two passes, PIL's does.
    images = noise(64, 40, 36, low=80, high=110)
    images[:, :, :20] += 30  # a crop's mean gray is not the image's
    config = ViewConfig(
        size=24, grayscale=0.3, blur=0.3, crop_first=crop_first, interpolation=interpolation
    )
    parameters = draw_parameters(64, 40, 36, config, seeded(1))
    views = make_views(images, parameters, config, **NOTHING)
    assert parameters.order.unique(dim=0).shape[0] > 16
    other = replace(config, crop_first=not crop_first)
    apart = 0.0
    for row, image in enumerate(images):
        expected = by_hand(image / 255, parameters, row, config)
        off = (views[row] - expected).abs()
        assert off.max() < 2.5 / 255  # a level, enlarged by what follows
        assert off.mean() < 0.02 / 255
        turned = by_hand(image / 255, parameters, row, other)
        apart = max(apart, (expected - turned).abs().max().item())
    assert apart > 2 / 255


@pytest.mark.parametrize("crop_first", [False, True])
def test_the_whole_pipeline_is_pils_on_average(crop_first):
    images, config = noise(32), ViewConfig(crop_first=crop_first)
    parameters = draw_parameters(32, 32, 32, config, seeded(2))
    views = make_views(images, parameters, config, **NOTHING)
    pil = torch.stack(
        [
            F.to_tensor(by_hand(F.to_pil_image(image), parameters, row, config))
            for row, image in enumerate(images)
        ]
    )
    off = views - pil
    assert off.abs().mean((1, 2, 3)).max() < 3 / 255
    assert off.mean().abs() < 0.25 / 255


def test_only_the_rows_that_are_blurred_change_and_the_blur_comes_last():
    images, parameters, config = noise(6), nothing(6), ViewConfig()
    parameters.flip[:3] = True
    parameters.grayscale[1:5] = True
    plain = make_views(images, parameters, config, **NOTHING)
    parameters.blur[1::2] = True
    parameters.sigma.copy_(torch.linspace(0.3, 2.0, 6))
    views = make_views(images, parameters, config, **NOTHING)
    assert torch.equal(views[::2], plain[::2])
    for row in (1, 3, 5):
        expected = by_hand(images[row] / 255, parameters, row, config)
        torch.testing.assert_close(views[row], expected, atol=1e-5, rtol=0)
        assert (views[row] - plain[row]).abs().mean() > 10 / 255


def test_a_blurred_view_stays_between_black_and_white():
    images, parameters = torch.full((40, 3, 32, 32), 255, dtype=torch.uint8), nothing(40)
    parameters.blur.fill_(True)
    parameters.sigma.copy_(torch.linspace(0.1, 2.0, 40))
    views = make_views(images, parameters, ViewConfig(), **NOTHING)
    assert views.max() <= 1
    torch.testing.assert_close(views, torch.ones_like(views), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (96, 96), (20, 60), (9, 90)])
@pytest.mark.parametrize("config", [ViewConfig(), ViewConfig(crop_ratio=(0.3, 0.9))])
def test_crops_are_distributed_as_torchvisions(height, width, config):
    box = draw_parameters(4000, height, width, config, seeded()).box
    top, left, tall, wide = box.T
    assert bool((top >= 0).all() and (left >= 0).all())
    assert bool((top + tall <= height).all() and (left + wide <= width).all())
    image = torch.empty(3, height, width)
    crop = RandomResizedCrop(32, config.crop_scale, config.crop_ratio)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = torch.tensor(
            [crop.get_params(image, crop.scale, crop.ratio) for _ in range(2000)],
        )
    statistics = (
        lambda b: b[:, 2] * b[:, 3],
        lambda b: b[:, 3] / b[:, 2],
        lambda b: b[:, 0] / (height - b[:, 2] + 1),
        lambda b: b[:, 1] / (width - b[:, 3] + 1),
    )
    for statistic in statistics:
        ours, reference = statistic(box.double()), statistic(theirs.double())
        assert stats.ks_2samp(ours.numpy(), reference.numpy()).pvalue > 0.01


@pytest.mark.parametrize(("height", "width"), [(100, 4), (4, 100)])
def test_a_crop_that_never_fits_falls_back_to_the_centre(height, width):
    config = ViewConfig(crop_scale=(1.0, 1.0))
    box = draw_parameters(5, height, width, config, seeded()).box
    crop = RandomResizedCrop(4, config.crop_scale, config.crop_ratio)
    expected = crop.get_params(torch.empty(3, height, width), crop.scale, crop.ratio)
    assert box.tolist() == [list(expected)] * 5


def test_offsets_are_independent_and_reach_both_ends():
    config = ViewConfig(crop_scale=(0.5, 0.5), crop_ratio=(1.0, 1.0))
    top, left, tall, wide = draw_parameters(2000, 10, 10, config, seeded()).box.T
    assert tall.unique().tolist() == wide.unique().tolist() == [7]
    assert torch.stack([top, left]).unique(dim=1).T.tolist() == [
        [y, x] for y in range(4) for x in range(4)
    ]


def test_flip_jitter_and_grayscale_happen_as_often_as_asked():
    config = ViewConfig(flip=0.5, jitter_probability=0.8, grayscale=0.1)
    parameters = draw_parameters(20000, 32, 32, config, seeded())
    for drawn, share in ((parameters.flip, 0.5), (parameters.jitter, 0.8)):
        assert abs(drawn.double().mean() - share) < 4 * math.sqrt(share * (1 - share) / 20000)
    assert abs(parameters.grayscale.double().mean() - 0.1) < 4 * math.sqrt(0.09 / 20000)
    both = (parameters.flip & parameters.grayscale).double().mean()
    assert abs(both - 0.05) < 4 * math.sqrt(0.05 * 0.95 / 20000)


def test_blur_happens_as_often_as_asked_with_a_uniform_sigma():
    config = ViewConfig(blur=0.3, blur_sigma=(0.5, 1.5))
    parameters = draw_parameters(20000, 32, 32, config, seeded())
    assert parameters.sigma.dtype == torch.float32
    assert abs(parameters.blur.double().mean() - 0.3) < 4 * math.sqrt(0.21 / 20000)
    for sigma in (parameters.sigma, parameters.sigma[parameters.blur]):
        assert stats.kstest(sigma.double().numpy(), stats.uniform(0.5, 1.0).cdf).pvalue > 0.01
    both = (parameters.blur & parameters.grayscale).double().mean()
    assert abs(both - 0.03) < 4 * math.sqrt(0.03 * 0.97 / 20000)


def test_blur_is_drawn_after_all_else():
    """Whatever the blur, the other fields hold the numbers that they held before it existed."""
    none = draw_parameters(50, 32, 32, ViewConfig(), seeded())
    always = draw_parameters(50, 32, 32, ViewConfig(blur=1.0, blur_sigma=(1.0, 3.0)), seeded())
    assert always.blur.all()
    assert not none.blur.any()
    for name in ("box", "flip", "factors", "order", "jitter", "grayscale"):
        assert torch.equal(getattr(none, name), getattr(always, name))
    old = seeded()  # what was drawn before: 2 × 10 + 2, 1, 4, 4, 1 and 1 numbers an image
    shapes = ((2, 10), (2,), (), (4,), (4,), (), ())
    before = [torch.rand(50, *shape, generator=old, dtype=torch.float64) for shape in shapes]
    assert torch.equal(none.flip, before[2] < 0.5)
    assert torch.equal(none.grayscale, before[6] < 0.1)
    blur, sigma = torch.rand(2, 50, generator=old, dtype=torch.float64)
    assert torch.equal(none.sigma, (0.1 + 1.9 * sigma).float())
    half = draw_parameters(50, 32, 32, ViewConfig(blur=0.5), seeded())
    assert torch.equal(half.blur, blur < 0.5)


def test_factors_and_order_are_uniform_as_torchvisions():
    config = ViewConfig(jitter=(0.4, 1.5, 0.2, 0.1))
    parameters = draw_parameters(12000, 32, 32, config, seeded())
    jitter = ColorJitter(*config.jitter)
    ranges = (jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)
    for column, (low, high) in enumerate(ranges):
        drawn = parameters.factors[:, column].double().numpy()
        assert stats.kstest(drawn, stats.uniform(low, high - low).cdf).pvalue > 0.01
    orders, counts = parameters.order.unique(dim=0, return_counts=True)
    assert orders.sort(dim=1).values.unique(dim=0).tolist() == [[0, 1, 2, 3]]
    assert len(orders) == 24
    assert stats.chisquare(counts.numpy()).pvalue > 0.01


def test_the_same_generator_draws_the_same_parameters():
    one, two, other = (draw_parameters(50, 32, 32, ViewConfig(), seeded(s)) for s in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert not torch.equal(one.box, other.box)


@pytest.mark.parametrize("size", [17, 24, 40])
def test_an_image_alone_is_multiplied_as_one_of_many(size):
    images, config = noise(3, 32, 32), ViewConfig(size=size, blur=1.0)
    parameters = draw_parameters(3, 32, 32, config, seeded())
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        whole = make_views(images, parameters, config, **NOTHING)
        one = torch.tensor([1])
        alone = make_views(images[one], parameters.take(one), config, **NOTHING)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(alone, whole[1:2])


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [(32, 32, 32), (33, 29, 31), (80, 96, 64), (33, 7, 5), (32, 32, 11)],
)
@pytest.mark.parametrize("crop_first", [False, True])
def test_a_row_is_bit_identical_in_every_batch(height, width, size, crop_first):
    images = noise(24, height, width)
    config = ViewConfig(size=size, grayscale=0.3, blur=0.6, solarize=0.4, crop_first=crop_first)
    parameters = draw_parameters(24, height, width, config, seeded())
    whole = make_views(images, parameters, config, **NOTHING)
    singles = tuple(torch.arange(24).split(1))
    for index in (*singles, torch.tensor([23, 0]), torch.arange(5, 24)):
        part = make_views(images[index], parameters.take(index), config, **NOTHING)
        assert torch.equal(part, whole[index])


def test_a_large_batch_is_made_in_parts_that_fit_the_cache(monkeypatch):
    images, config = noise(10), ViewConfig(blur=0.5)
    parameters = draw_parameters(10, 32, 32, config, seeded())
    whole = make_views(images, parameters, config, **NOTHING)
    monkeypatch.setattr("iclmsr.data.views.CACHED_PIXELS", 4 * 32 * 32)
    assert torch.equal(make_views(images, parameters, config, **NOTHING), whole)


def test_bright_channels_are_inverted_last_as_pils():
    images, parameters = noise(6), nothing(6)
    images[0, :, 0, :3] = torch.tensor([127, 128, 129])
    parameters.solarize[::2] = True
    for threshold, byte in ((0.5, 128), (0.0, 0), (1.0, 255), (0.75, 192)):
        config = ViewConfig(solarize_threshold=threshold)
        views = make_views(images, parameters, config, **NOTHING)
        for row, image in enumerate(images):
            image = image if row % 2 else F.pil_to_tensor(F.solarize(F.to_pil_image(image), byte))
            torch.testing.assert_close(views[row], image / 255, atol=1e-6, rtol=0)
    parameters.blur.fill_(True)
    parameters.solarize.fill_(False)
    blurred = make_views(images, parameters, ViewConfig(), **NOTHING)
    parameters.solarize.fill_(True)
    views = make_views(images, parameters, ViewConfig(), **NOTHING)
    inverted = torch.where(blurred < 0.5, blurred, 1 - blurred)
    torch.testing.assert_close(views, inverted, atol=1e-6, rtol=0)


def test_solarize_happens_as_often_as_asked_and_is_drawn_after_all_else():
    none = draw_parameters(20000, 32, 32, ViewConfig(blur=0.5), seeded())
    some = draw_parameters(20000, 32, 32, ViewConfig(blur=0.5, solarize=0.2), seeded())
    assert not none.solarize.any()
    assert abs(some.solarize.double().mean() - 0.2) < 4 * math.sqrt(0.16 / 20000)
    both = (some.solarize & some.blur).double().mean()
    assert abs(both - 0.1) < 4 * math.sqrt(0.09 / 20000)
    for name in set(ViewParameters._fields) - {"solarize"}:
        assert torch.equal(getattr(none, name), getattr(some, name))


def test_autocast_leaves_views_alone():
    images, config = noise(4), ViewConfig(blur=1.0, crop_first=True)
    parameters = draw_parameters(4, 32, 32, config, seeded())
    plain = make_views(images, parameters, config, **NOTHING)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(make_views(images, parameters, config, **NOTHING), plain)


def test_a_weak_view_is_only_cropped_and_flipped():
    config = ViewConfig(
        blur=0.5, grayscale=0.2, solarize=0.1, crop_first=True, size=24, weak=(0, 2)
    )
    assert config.for_view(1) is config
    for index in (0, 2):
        weak = config.for_view(index)
        assert weak.jitter_probability == weak.grayscale == weak.blur == weak.solarize == 0.0
        kept = {"jitter_probability": 0.8, "grayscale": 0.2, "blur": 0.5, "solarize": 0.1}
        assert replace(weak, **kept) == config


def test_blur_and_solarize_of_each_view():
    """BYOL's pair; a third view is like the second."""
    config = ViewConfig(blur=(1.0, 0.1), solarize=(0.0, 0.2), weak=(3,))
    pairs = [(1.0, 0.0), (0.1, 0.2), (0.1, 0.2), (0.0, 0.0)]
    for index, (blur, solarize) in enumerate(pairs):
        own = config.for_view(index)
        assert (own.blur, own.solarize) == (blur, solarize)
    assert config.for_view(1) == replace(config, blur=0.1, solarize=0.2)
    whole = ViewConfig(blur=1.0, weak=(3,))
    for found, expected in zip(
        draw_parameters(50, 32, 32, config, seeded()),
        draw_parameters(50, 32, 32, whole, seeded()),
        strict=True,
    ):
        assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": 0}, "size must be whole pixels, > 0, got 0"),
        ({"size": 32.5}, "size must be whole pixels, > 0, got 32.5"),
        ({"crop_scale": (0.5, 0.2)}, "crop-scale must have 1e-06 <= low <= high <= 1, got 0.5 0.2"),
        ({"crop_scale": (0.0, 1.0)}, "crop-scale .* got 0.0 1.0"),
        ({"crop_scale": (0.5, 1.2)}, "crop-scale .* got 0.5 1.2"),
        ({"crop_ratio": (0.0, 1.0)}, r"crop-ratio .* <= high <= 1e\+06, got 0.0 1.0"),
        ({"crop_ratio": (2.0, 1.0)}, "crop-ratio .* got 2.0 1.0"),
        ({"crop_ratio": (1.0, math.nan)}, "crop-ratio .* got 1.0 nan"),
        ({"interpolation": "bicubc"}, "interpolation 'bicubc': did you mean 'bicubic'"),
        ({"background": "swap"}, "background 'swap': did you mean 'swaps'"),
        ({"flip": -0.1}, r"flip must be in \[0, 1\], got -0.1"),
        ({"jitter_probability": 1.1}, r"jitter-probability must be in \[0, 1\], got 1.1"),
        ({"grayscale": math.nan}, r"grayscale must be in \[0, 1\], got nan"),
        ({"solarize": 1.5}, r"solarize must be in \[0, 1\], got 1.5"),
        ({"solarize_threshold": 128}, r"solarize-threshold must be in \[0, 1\], got 128"),
        ({"blur": 1.5}, r"blur must be in \[0, 1\], got 1.5"),
        ({"blur": (1.0, 1.5)}, r"blur must be in \[0, 1\], got \(1.0, 1.5\)"),
        ({"solarize": ()}, r"solarize must be in \[0, 1\], got \(\)"),
        ({"blur_sigma": (1e-50, 2.0)}, "blur-sigma must have 1e-06 <= low .* got 1e-50 2.0"),
        ({"blur_sigma": (2.0, 1.0)}, "blur-sigma .* got 2.0 1.0"),
        ({"blur_sigma": (1.0, math.inf)}, "blur-sigma .* got 1.0 inf"),
        ({"weak": (1, -1)}, r"weak must be indices >= 0, got \(1, -1\)"),
        ({"jitter": (-0.1, 0.4, 0.4, 0.1)}, r"jitter must be 4 numbers >= 0, got \(-0.1"),
        ({"jitter": (0.4, 0.4, 0.1)}, "jitter must be 4 numbers"),
        ({"jitter": (0.4, 0.4, 0.4, 0.51)}, r"jitter's hue must be in \[0, 0.5\] turns, got 0.51"),
    ],
)
def test_a_bad_config_says_what_is_wrong(values, message):
    with pytest.raises(IclmsrError, match=rf"^(unknown )?views\.{message}"):
        ViewConfig(**values)


def test_no_images_have_no_views():
    views = make_views(noise(0), nothing(0), ViewConfig(size=8, blur=1.0), **NOTHING)
    assert views.shape == (0, 3, 8, 8)


def test_views_do_not_depend_on_the_default_precision():
    images, config = noise(4, 20, 21), ViewConfig(size=17, blur=1.0)
    parameters = draw_parameters(4, 20, 21, config, seeded())
    try:
        torch.set_default_dtype(torch.float64)  # first, as matrices are kept
        double = make_views(images, parameters, config, **NOTHING)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(make_views(images, parameters, config, **NOTHING), double)


@pytest.mark.parametrize(
    ("images", "rows", "message"),
    [
        (
            torch.rand(2, 3, 8, 8),
            2,
            r"images must be uint8 \(B, 3, H, W\), got torch.float32 ",
        ),
        (
            noise(2, 8, 8)[:, :1],
            2,
            r"images must be uint8 .*, got torch.uint8 \(2, 1, 8",
        ),
        (noise(2, 8, 8)[0], 2, r"images must be uint8 \(B, 3, H, W\), got torch.uint8 \(3, 8, 8\)"),
        (noise(2, 8, 8), 3, "2 images need as many rows of parameters, got 3"),
        (noise(2, 8, 7), 2, r"a crop ends at row 8, column 8 of images of 8 x 7 pixels"),
    ],
)
def test_images_that_do_not_fit_their_parameters(images, rows, message):
    with pytest.raises(IclmsrError, match=f"^{message}"):
        make_views(images, nothing(rows, 8, 8), ViewConfig(size=8), **NOTHING)


@pytest.mark.parametrize(
    ("mean", "std"), [((0.5,), (1.0,) * 3), ((0.5,) * 3, (1.0, 0.0, 1.0)), ((0.5,) * 3, (1.0,) * 4)]
)
def test_normalization_that_cannot_be(mean, std):
    with pytest.raises(IclmsrError, match="^mean and std must be 3 numbers each, std > 0, got"):
        make_views(noise(2), nothing(2), ViewConfig(), mean=mean, std=std)


@pytest.mark.parametrize("sizes", [(3, 0, 32), (3, 32, 0), (-1, 32, 32)])
def test_images_that_cannot_be(sizes):
    with pytest.raises(IclmsrError, match="^there are no parameters for -?[0-9]+ images of"):
        draw_parameters(*sizes, ViewConfig(), seeded())


def test_chances_may_be_a_list():
    assert ViewConfig(blur=[1.0, 0.1]) == ViewConfig(blur=(1.0, 0.1))


def test_a_crop_has_pixels_however_long_it_shall_be():
    for ratio in ((70.0, 80.0), (1 / 80, 1 / 70)):
        box = draw_parameters(50, 32, 32, ViewConfig(crop_ratio=ratio), seeded()).box
        assert box[:, 2:].min() >= 1


def test_values_for_views_that_there_are_not():
    config = ViewConfig(blur=(1.0, 0.1, 0.2), weak=(2,))
    config.check_count(3)
    with pytest.raises(IclmsrError, match=r"^views.blur has 3 values for 2 views: leave out"):
        config.check_count(2)
    with pytest.raises(IclmsrError, match=r"^views.weak 2 is not one of the 2 views, 0 to 1$"):
        replace(config, blur=0.5).check_count(2)
