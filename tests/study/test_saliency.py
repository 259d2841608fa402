# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import pytest
import torch
from torch import nn

from iclmsr.data.sources import DataConfig, load
from iclmsr.data.synthetic import SyntheticConfig
from iclmsr.data.views import ViewConfig
from iclmsr.encoders import LoadedEncoder
from iclmsr.errors import IclmsrError
from iclmsr.networks import EncoderConfig, initial_encoder
from iclmsr.study.look import save
from iclmsr.study.saliency import energy_on, foreground_focus, saliency_grid, saliency_maps
from iclmsr.study.similarity_maps import gradient_maps, occlusion_maps

STILL = ViewConfig(crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), flip=0, jitter_probability=0)
STILL = replace(STILL, grayscale=0.0)


@pytest.fixture(scope="module")
def twins():
    config = DataConfig("synthetic", synthetic=SyntheticConfig(train=8, test=70))
    return tuple(load(config, split) for split in ("test", "test-swapped"))


def loaded(network):
    return LoadedEncoder(network, "", (0.5,) * 3, (0.25,) * 3, 32, "")


def resnet():
    return loaded(initial_encoder(EncoderConfig(width=4), seed=0).eval())


def test_a_still_view_is_the_image_itself(twins):
    full, _ = twins
    encoder = resnet()
    maps = saliency_maps(encoder, full, STILL, count=2)
    inputs = (full.images / 255 - 0.5) / 0.25
    expected = gradient_maps(encoder.network, inputs, inputs)
    assert torch.allclose(maps, expected, atol=1e-5)


def test_a_map_too_coarse_for_gradients_is_made_by_occlusion(twins):
    few = twins[0].take(torch.arange(2))
    encoder = loaded(initial_encoder(EncoderConfig(stem="small", width=4), seed=0).eval())
    inputs = (few.images / 255 - 0.5) / 0.25
    expected = occlusion_maps(encoder.network, inputs, inputs)
    assert torch.allclose(saliency_maps(encoder, few, STILL, count=1), expected, atol=1e-4)


def test_maps_come_from_the_seed_alone(twins):
    full, _ = twins
    few = full.take(torch.arange(5))
    encoder = resnet()
    maps = saliency_maps(encoder, few, ViewConfig(size=32), seed=3)
    assert maps.shape == (5, 32, 32)
    assert torch.allclose(maps.sum((1, 2)), torch.ones(5), atol=1e-5)
    assert torch.equal(maps, saliency_maps(encoder, few, ViewConfig(size=24, weak=(0,)), seed=3))
    assert not torch.equal(maps, saliency_maps(encoder, few, ViewConfig(size=32), seed=4))


def test_an_encoder_that_sees_the_middle_has_its_energy_there(twins):
    class Middle(nn.Module):
        def forward(self, x):
            return x[:, :, 8:24, 8:24].flatten(1)

    full, _ = twins
    few = full.take(torch.arange(4))
    maps = saliency_maps(loaded(Middle()), few, STILL, count=1)  # no ResNet: by occlusion
    middle = torch.zeros(4, 32, 32, dtype=torch.bool)
    middle[:, 4:28, 4:28] = True  # a square that covers a seen pixel is 8 wide
    assert energy_on(maps, middle).tolist() == pytest.approx([1.0] * 4)
    middle[:] = False
    middle[:, 8:24, 8:24] = True
    assert (energy_on(maps, middle) > 0.6).all()


def test_energy_by_hand():
    maps = torch.tensor([[[1.0, 3.0], [0.0, 4.0]], [[0.0, 0.0], [0.0, 0.0]]])
    masks = torch.tensor([[[True, True], [True, False]], [[True, True], [True, True]]])
    assert energy_on(maps, masks)[0].item() == 0.5
    assert energy_on(maps, masks)[1].isnan()
    assert foreground_focus(maps, masks) == {
        "energy": 50.0,
        "area": 75.0,
        "focus": pytest.approx(2 / 3),
        "blank": 1,
    }
    with pytest.raises(IclmsrError, match="no map has energy"):
        foreground_focus(maps[1:], masks[1:])
    with pytest.raises(IclmsrError, match="no mask a foreground"):
        foreground_focus(maps, torch.zeros_like(masks))


def test_the_grid_shows_images_and_maps(twins, tmp_path):
    full, swapped = twins
    maps = {"plain": (full.masks.float(), torch.ones(70, 32, 32))}
    figure = saliency_grid(full, swapped, maps, [3, 0])
    drawn = figure.axes
    assert [len(axes.images) for axes in drawn] == [1, 2, 1, 2, 1, 2, 1, 2]  # side by side
    first = [axes.images[0].get_array()[0, 0].tolist() for axes in (drawn[0], drawn[4])]
    assert first == [full.images[3, :, 0, 0].tolist(), swapped.images[3, :, 0, 0].tolist()]
    titles = [axes.get_title() for axes in drawn]
    area = 100 * full.masks.float().mean().item()
    assert titles[1] == "plain: 100 %\non foreground"
    assert titles[5] == f"plain: {area:.0f} %\non foreground"
    for name in ("a.png", "b.png"):
        save(saliency_grid(full, swapped, maps, [3]), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_what_cannot_be_shown(twins):
    full, swapped = twins
    with pytest.raises(IclmsrError, match="the images need masks"):
        saliency_grid(full, replace(swapped, masks=None), {}, [0])
    with pytest.raises(IclmsrError, match="at least one encoder and one image"):
        saliency_grid(full, swapped, {}, [0])
    with pytest.raises(IclmsrError, match="count must be >= 1 view, got 0"):
        saliency_maps(resnet(), full, STILL, count=0)
