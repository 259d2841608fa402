# SPDX-License-Identifier: Apache-2.0
"""The batched views against torchvision's transforms of one PIL image after another.

Both make views of the same images with random numbers of their own. Statistics of single views
are compared over all of them, by two-sample Kolmogorov-Smirnov tests where they are continuous
and by chi-square tests of histograms where they are not. Seeds are fixed: no test is passed or
failed by chance. The true parameters must not be rejected at LEVEL, wrong ones must be at POWER.
Single operations, crops among them, are compared with torchvision's for given parameters in
test_views.py; the geometry of crops is therefore that of their boxes.
"""

import functools
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ImageFilter
from scipy import stats
from torchvision import transforms as T
from torchvision.transforms import functional as F

from iclmsr.data.sources import DataConfig, load
from iclmsr.data.synthetic import SyntheticConfig, make_synthetic
from iclmsr.data.views import ViewConfig, draw_parameters, make_views

LEVEL, POWER = 1e-3, 1e-6
SIZE = 32
NOTHING = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
PROTOCOL = ViewConfig()
RESSL = ViewConfig(grayscale=0.2, blur=0.5, crop_first=True, interpolation="bilinear", weak=(1,))
BYOL = ViewConfig(grayscale=0.2, blur=0.1, solarize=0.2, crop_first=True)  # its second view
CONFIGS = {
    "protocol": PROTOCOL,
    "strong": RESSL.for_view(0),
    "weak": RESSL.for_view(1),
    "solarized": BYOL,
}
MODES = {"bicubic": T.InterpolationMode.BICUBIC, "bilinear": T.InterpolationMode.BILINEAR}


@functools.cache
def theirs(images, config, seed):
    """Views (B, 3, S, S) in bytes, one PIL image at a time."""
    low, high = config.blur_sigma
    colour = [
        T.RandomApply([T.ColorJitter(*config.jitter)], config.jitter_probability),
        T.RandomGrayscale(config.grayscale),
    ]
    crop = [
        T.RandomResizedCrop(
            config.size, config.crop_scale, config.crop_ratio, MODES[config.interpolation]
        ),
        T.RandomHorizontalFlip(config.flip),
    ]
    blur = T.RandomApply(
        [T.Lambda(lambda i: i.filter(ImageFilter.GaussianBlur(np.random.uniform(low, high))))],
        config.blur,
    )
    last = [blur, T.RandomSolarize(round(config.solarize_threshold * 255), config.solarize)]
    transform = T.Compose([*(crop + colour if config.crop_first else colour + crop), *last])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        np.random.seed(seed)
        return torch.stack([F.pil_to_tensor(transform(F.to_pil_image(one))) for one in images])


def ours(images, config, seed):
    """Views (B, 3, S, S) in bytes, all at once."""
    generator = torch.Generator().manual_seed(seed)
    parameters = draw_parameters(len(images), *images.shape[2:], config, generator)
    views = make_views(images, parameters, config, **NOTHING)
    return views.mul_(255).add_(0.5 + 1e-3).floor_().to(torch.uint8)  # halves go up, as Pillow's


@functools.cache
def ramps(count):
    """Images whose red grows from left to right and whose green grows from top to bottom."""
    ramp = (torch.arange(SIZE) * 8 + 4).to(torch.uint8)
    planes = [ramp.expand(SIZE, SIZE), ramp[:, None].expand(SIZE, SIZE), torch.zeros(SIZE, SIZE)]
    return torch.stack([plane.to(torch.uint8) for plane in planes]).expand(count, -1, -1, -1)


def flipped(views):
    """Of views of ramps: (B,) bool, which run the other way."""
    red = views[:, 0].double()
    return red[..., 16:].mean((1, 2)) < red[..., :16].mean((1, 2))


def their_boxes(count, config, seed):
    """Top, left, height and width (B, 4) of torchvision's crops."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        image, scale, ratio = torch.empty(3, SIZE, SIZE), config.crop_scale, config.crop_ratio
        crop = T.RandomResizedCrop.get_params
        return torch.tensor([crop(image, [*scale], [*ratio]) for _ in range(count)])


def geometry(boxes):
    """Of crops (B, 4): what and where they are, in pixels."""
    top, left, tall, wide = boxes.double().unbind(1)
    sides = {"top": top, "left": left, "bottom": top + tall, "right": left + wide}
    return {"area": tall * wide, "ratio": wide / tall} | sides


def appearance(views):
    """Of any views: statistics of each one."""
    pixels = views.double().div(255)
    found = {}
    for name, plane in zip(("red", "green", "blue"), pixels.unbind(1), strict=True):
        found[f"{name} mean"] = plane.mean((1, 2))
        found[f"{name} std"] = plane.std((1, 2))
    gray = pixels.mean(1)
    found["sharpness"] = gray.diff(dim=2).abs().mean((1, 2)) + gray.diff(dim=1).abs().mean((1, 2))
    hue, saturation = hue_and_saturation(views)
    found["saturation mean"] = saturation.mean((1, 2))
    # One pixel a view: a test takes its samples for independent.
    y, x = torch.randint(SIZE, (2, len(views)), generator=torch.Generator().manual_seed(9))
    row = torch.arange(len(views))
    coloured = saturation[row, y, x] > 0.1
    return found, hue[row, y, x][coloured], saturation[row, y, x]


def hue_and_saturation(views):
    """HSV's hue in [0, 1) and saturation in [0, 1], (B, S, S) each."""
    high, low = views.amax(1).double(), views.amin(1).double()
    chroma = high - low
    red, green, blue = (views.double() / chroma.clamp(min=1)[:, None]).unbind(1)
    hue = torch.where(views[:, 1] == high, 2 + blue - red, 4 + red - green)
    hue = torch.where(views[:, 0] == high, green - blue, hue)
    return (hue / 6) % 1, chroma / high.clamp(min=1)


def same_histograms(a, b, bins, reach):
    """p-value of the chi-square test that two samples have one distribution."""
    counts = np.stack([np.histogram(one.numpy(), bins, reach)[0] for one in (a, b)])
    counts = counts[:, counts.sum(0) >= 10]
    return stats.chi2_contingency(counts).pvalue


def same_rates(a, b):
    """p-value of the chi-square test that two samples of bool are as often true."""
    counts = [[int(one.sum()), int((~one).sum())] for one in (a, b)]
    return stats.chi2_contingency(counts).pvalue if np.sum(counts, 0).all() else 1.0


def p_values(images, config, reference, *, seeds=(1, 2)):
    """p-values by name: our views by ``config`` are distributed as theirs by ``reference``."""
    count = len(images)
    drawn = draw_parameters(count, SIZE, SIZE, config, torch.Generator().manual_seed(seeds[0]))
    one, two = geometry(drawn.box), geometry(their_boxes(count, reference, seeds[1]))
    found = {f"{name} KS": stats.ks_2samp(one[name], two[name]).pvalue for name in one}
    for name in one:
        reach = min(one[name].min(), two[name].min()), max(one[name].max(), two[name].max())
        found[f"{name} chi2"] = same_histograms(one[name], two[name], 20, tuple(map(float, reach)))
    still = {"jitter_probability": 0.0, "grayscale": 0.0, "blur": 0.0, "solarize": 0.0}
    made = (
        ours(ramps(count), replace(config, **still), seeds[0]),
        theirs(ramps(count), replace(reference, **still), seeds[1]),
    )
    found["flip chi2"] = same_rates(*map(flipped, made))

    views = ours(images, config, seeds[0] + 10), theirs(images, reference, seeds[1] + 10)
    (one, hue, saturation), (two, hues, saturations) = map(appearance, views)
    found |= {f"{name} KS": stats.ks_2samp(one[name], two[name]).pvalue for name in one}
    found["hue chi2"] = same_histograms(hue, hues, 24, (0.0, 1.0))
    found["saturation chi2"] = same_histograms(saturation, saturations, 20, (0.0, 1.0))
    found["saturation KS"] = stats.ks_2samp(saturation, saturations).pvalue
    gray = [(view[:, 1:] == view[:, :1]).flatten(1).all(1) for view in views]
    found["grayscale chi2"] = same_rates(*gray)
    return found


@pytest.fixture(scope="module")
def images():
    """2,000 embedded images, reddish: colours of all hues would look alike at any turn."""
    made = make_synthetic(SyntheticConfig(train=2000), "train", seed=0, image_size=SIZE).images
    return (made * torch.tensor([1.0, 0.7, 0.4])[:, None, None]).to(torch.uint8)


@pytest.fixture(scope="module")
def real():
    """20,000 images of CIFAR-10."""
    if "ICLMSR_CIFAR10" not in os.environ:
        pytest.skip("set ICLMSR_CIFAR10 to a folder or archive of CIFAR-10")
    root = Path(os.environ["ICLMSR_CIFAR10"])
    return load(DataConfig(root=root, limit=20_000), "pretrain").images


def shown(found):
    """p-values, the smallest first."""
    return "\n".join(f"{p:9.3g}  {name}" for name, p in sorted(found.items(), key=lambda x: x[1]))


@pytest.mark.parametrize("name", CONFIGS)
def test_views_are_distributed_as_torchvisions(images, name):
    found = p_values(images, CONFIGS[name], CONFIGS[name])
    assert min(found.values()) > LEVEL, shown(found)


WRONG = {
    "area KS": {"crop_scale": (0.3, 1.0)},
    "ratio KS": {"crop_ratio": (0.8, 1.25)},
    "flip chi2": {"flip": 0.6},
    "grayscale chi2": {"grayscale": 0.2},
    "hue chi2": {"jitter": (0.4, 0.4, 0.4, 0.2)},
    "saturation mean KS": {"jitter": (0.4, 0.4, 0.8, 0.1)},
    "green mean KS": {"jitter": (1.0, 0.4, 0.4, 0.1)},
    "blue std KS": {"jitter": (0.4, 1.0, 0.4, 0.1)},
    "sharpness KS": {"blur": 0.2},
    "red mean KS": {"solarize": 0.2},
}


@pytest.mark.parametrize("statistic", WRONG)
def test_wrong_parameters_are_rejected(images, statistic):
    found = p_values(images, replace(PROTOCOL, **WRONG[statistic]), PROTOCOL)
    assert found[statistic] < POWER, shown(found)


@pytest.mark.long
@pytest.mark.parametrize("name", CONFIGS)
def test_views_of_real_images_are_distributed_as_torchvisions(real, name):
    found = p_values(real, CONFIGS[name], CONFIGS[name])
    print(f"{name}, {len(real):,} images\n{shown(found)}")
    assert min(found.values()) > LEVEL, shown(found)


SLIGHTLY_WRONG = {
    "area KS": {"crop_scale": (0.22, 1.0)},
    "flip chi2": {"flip": 0.54},
    "grayscale chi2": {"grayscale": 0.12},
    "hue chi2": {"jitter": (0.4, 0.4, 0.4, 0.14)},
    "saturation mean KS": {"jitter": (0.4, 0.4, 0.7, 0.1)},
    "sharpness KS": {"interpolation": "bilinear"},
}


@pytest.mark.long
@pytest.mark.parametrize("statistic", SLIGHTLY_WRONG)
def test_slightly_wrong_parameters_are_rejected_on_real_images(real, statistic):
    found = p_values(real, replace(PROTOCOL, **SLIGHTLY_WRONG[statistic]), PROTOCOL)
    print(f"{statistic} of {SLIGHTLY_WRONG[statistic]}: {found[statistic]:.2g}")
    assert found[statistic] < POWER, shown(found)


def test_the_blur_is_torchvisions_of_bytes_within_a_grey_level_away_from_the_edges(images):
    config = ViewConfig(
        crop_scale=(1.0, 1.0), flip=0.0, jitter_probability=0.0, grayscale=0.0, blur=1.0
    )
    parameters = draw_parameters(32, SIZE, SIZE, config, torch.Generator())
    parameters = parameters._replace(box=torch.tensor([0, 0, SIZE, SIZE]).repeat(32, 1))
    views = make_views(images[:32], parameters, config, **NOTHING) * 255
    sigmas = parameters.sigma.tolist()
    for view, image, sigma in zip(views, images, sigmas, strict=False):
        expected = F.gaussian_blur(image, [17, 17], [sigma, sigma])
        inside = slice(8, -8)  # torchvision reflects edges, we repeat them
        assert (view - expected)[:, inside, inside].abs().max() <= 1.001
