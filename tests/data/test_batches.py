# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from iclmsr.data.batches import Epoch
from iclmsr.data.views import ViewConfig

IMAGES = torch.randint(
    0, 256, (21, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)
PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def epoch(batch_size=5, number=0, seed=0, config=None):
    return Epoch(
        IMAGES,
        config or ViewConfig(size=16),
        view_count=2,
        batch_size=batch_size,
        seed=seed,
        epoch=number,
        **PLAIN,
    )


def test_an_incomplete_last_batch_is_left_out():
    assert len(epoch()) == 4
    views = epoch().views(3)
    assert [view.shape for view in views] == [(5, 3, 16, 16)] * 2
    assert not torch.equal(*views)


def test_each_image_comes_once_and_in_another_order_every_epoch():
    untouched = ViewConfig(
        size=16,
        crop_scale=(1.0, 1.0),
        crop_ratio=(1.0, 1.0),
        flip=0.0,
        jitter_probability=0.0,
        grayscale=0.0,
    )
    seen = torch.cat([epoch(7, config=untouched).views(batch)[0] for batch in range(3)])
    order = epoch(7).order
    assert sorted(order.tolist()) == list(range(21))
    assert torch.allclose(seen, IMAGES[order].float() / 255, atol=1e-5)
    assert not torch.equal(order, epoch(7, number=1).order)
    assert not torch.equal(order, epoch(7, seed=1).order)


@pytest.mark.parametrize(
    "config",
    [
        ViewConfig(size=16),
        ViewConfig(size=16, blur=0.5),
        ViewConfig(size=16, blur=0.5, solarize=0.5, crop_first=True, weak=(1,)),
    ],
)
def test_views_do_not_depend_on_the_split_into_batches_nor_on_what_was_made_before(config):
    whole, parts = epoch(20, config=config), epoch(5, config=config)
    parts.views(2)
    for view in range(2):
        split = torch.cat([parts.views(batch)[view] for batch in range(4)])
        assert torch.equal(whole.views(0)[view], split)


def test_views_differ_between_epochs():
    """The same image gets another crop: compare by place in the data set, not in the order."""
    first, second = epoch().parameters[0], epoch(number=1).parameters[0]
    assert not torch.equal(first.box, second.box)
    assert torch.equal(first.box, epoch().parameters[0].box)


@pytest.mark.parametrize("crop_first", [False, True])
def test_a_weak_view_is_the_crop_and_the_other_does_not_notice(crop_first):
    strong = {"size": 16, "blur": 0.5, "grayscale": 0.5, "crop_first": crop_first}
    plain = epoch(20, config=ViewConfig(**strong)).views(0)
    mixed = epoch(20, config=ViewConfig(**strong, weak=(1,)))
    views, drawn = mixed.views(0), mixed.parameters[1]
    assert torch.equal(views[0], plain[0])
    assert not torch.allclose(views[1], plain[1], atol=0.1)
    for view, image in zip(views[1], mixed.order[:20].tolist(), strict=True):
        box, mode = drawn.box[image].tolist(), InterpolationMode.BICUBIC
        pixels = IMAGES[image].float() / 255
        # Columns first with a clip between, as Pillow; torchvision has no name for that on floats.
        cut = F.resize(F.crop(pixels, *box), [box[2], 16], mode, antialias=True).clamp(0, 1)
        expected = F.resize(cut, [16, 16], mode, antialias=True).clamp(0, 1)
        expected = F.hflip(expected) if drawn.flip[image] else expected
        torch.testing.assert_close(view, expected, atol=1e-6, rtol=0)


def test_a_weak_view_has_the_crops_that_it_would_have_if_it_were_not():
    plain, mixed = (epoch(config=ViewConfig(size=16, weak=weak)) for weak in ((), (0,)))
    assert torch.equal(plain.parameters[0].box, mixed.parameters[0].box)
    assert torch.equal(plain.parameters[0].flip, mixed.parameters[0].flip)
    assert plain.parameters[0].jitter.any()
    assert not mixed.parameters[0].jitter.any()


def test_views_have_a_blur_and_a_solarization_of_their_own():
    pair = ViewConfig(size=16, blur=(1.0, 0.1), solarize=(0.0, 0.2))
    found = epoch(20, config=pair)
    for view in range(2):
        alone = ViewConfig(size=16, blur=pair.blur[view], solarize=pair.solarize[view])
        assert torch.equal(found.views(0)[view], epoch(20, config=alone).views(0)[view])
    assert found.parameters[0].blur.all()
    assert not found.parameters[0].solarize.any()
    assert 0 < found.parameters[1].solarize.sum() < 21
