# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace
from itertools import permutations

import pytest
import torch

from iclmsr.config import PretrainConfig
from iclmsr.data.backdrops import GRAY, REMOVED, draw_donors, exchanged, fingerprint
from iclmsr.data.batches import Epoch
from iclmsr.data.composite import composite, inpainted
from iclmsr.data.feed import Masked, feed_of
from iclmsr.data.sources import DataConfig
from iclmsr.data.synthetic import SyntheticConfig, make_synthetic
from iclmsr.data.views import ViewConfig
from iclmsr.errors import IclmsrError
from iclmsr.methods.simclr import SimCLRConfig
from iclmsr.networks import EncoderConfig
from iclmsr.pretrain import pretrain, resume

CPU = torch.device("cpu")
PLAIN = ViewConfig(
    size=16, crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), flip=0.0, jitter_probability=0.0,
    grayscale=0.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def images():
    return make_synthetic(SyntheticConfig(train=40), "train", seed=0, image_size=16)


def donors(kind, probability=1.0, view=0, count=1000, epoch=0):
    order = torch.randperm(count, generator=torch.Generator().manual_seed(5))
    drawn = draw_donors([kind] * (view + 1), probability, order, seed=0, epoch=epoch)
    return order, drawn[view]


def test_kept_backgrounds_are_an_images_own():
    assert torch.equal(donors("keep")[1], torch.arange(1000))


@pytest.mark.parametrize(("kind", "changed"), [("remove", REMOVED), ("random", None)])
def test_so_many_backgrounds_are_changed(kind, changed):
    """Binomial: 6,000 of 20,000 +- 5 standard deviations of 65."""
    found = donors(kind, 0.3, count=20_000)[1]
    other = found != torch.arange(20_000)
    assert 5_675 < int(other.sum()) < 6_325
    if changed is not None:
        assert (found[other] == changed).all()
    else:
        assert len(found[other].unique()) > 150


@pytest.mark.parametrize(
    ("kinds", "size"),
    [
        (["swaps", "swaps"], 2),
        (["swaps", "swaps", "swaps"], 3),
        (["swaps", "keep"], 2),
        (["keep", "swaps", "swaps"], 3),
    ],
)
def test_every_anchor_has_a_hard_negative_in_every_other_view(kinds, size):
    """In a batch of 12: a positive never shares the anchor's background, one negative does."""
    order = torch.randperm(40, generator=torch.Generator().manual_seed(5))
    donors = draw_donors(kinds, 1.0, order, seed=0, epoch=0)
    batch = order[12:24].tolist()
    for (anchor, own), (view, other) in permutations(enumerate(donors), 2):
        for image in batch:
            shared = [k for k in batch if other[k] == own[image]]
            assert len(shared) == 1
            assert shared[0] != image
            assert abs(batch.index(shared[0]) - batch.index(image)) < size
        if "keep" in (kinds[anchor], kinds[view]):
            kept = own if kinds[anchor] == "keep" else other
            assert torch.equal(kept, torch.arange(40))
    left = order[40 - 40 % size :]
    assert all(torch.equal(own[left], left) for own in donors)


def test_a_group_is_swapped_in_all_views_or_in_none():
    """Binomial: 150 of 500 pairs +- 5 standard deviations of 10."""
    order = torch.randperm(1000, generator=torch.Generator().manual_seed(5))
    one, other = draw_donors(["swaps", "swaps"], 0.3, order, seed=0, epoch=0)
    assert torch.equal(one, torch.arange(1000))
    swapped = (other != one)[order].view(500, 2)
    assert torch.equal(swapped[:, 0], swapped[:, 1])
    assert 98 < int(swapped[:, 0].sum()) < 202
    again = draw_donors(["swaps", "swaps"], 0.3, order, seed=0, epoch=0)[1]
    assert torch.equal(again, other)
    assert not torch.equal(draw_donors(["swaps", "swaps"], 0.3, order, seed=0, epoch=1)[1], other)


def test_draws_differ_between_views_and_epochs_and_repeat():
    assert torch.equal(donors("random")[1], donors("random")[1])
    assert not torch.equal(donors("random")[1], donors("random", view=1)[1])
    assert not torch.equal(donors("random")[1], donors("random", epoch=1)[1])


def test_images_are_put_on_their_donors_backgrounds(images):
    found = Masked(images.images, images.masks)
    index = torch.tensor([3, 7, 9])
    shown = exchanged(found, index, torch.tensor([12, 7, REMOVED]))
    behind = inpainted(images.images, images.masks)
    expected = composite(images.images[3:4], images.masks[3:4], behind[12:13])
    assert torch.equal(shown[0], expected[0])
    assert torch.equal(shown[1], images.images[7])
    far = ~torch.nn.functional.max_pool2d(images.masks[9:10].float(), 7, 1, 3).bool()[0]
    assert (shown[2][:, far] == GRAY).all()
    assert torch.equal(exchanged(found, index, index), images.images[index])


@pytest.mark.parametrize("kind", ["remove", "random", "swaps"])
def test_views_show_the_other_background_and_do_not_depend_on_the_batch(images, kind):
    config = replace(PLAIN, background=kind, background_probability=0.7)
    known = {"view_count": 2, "seed": 0, "epoch": 0, "mean": (0.0,) * 3, "std": (1.0,) * 3}
    feed = feed_of(images, CPU)
    one = Epoch(feed, config, batch_size=8, **known)
    views = one.views(1)
    index, all_of_it = one.order[8:16], Masked(images.images, images.masks)
    changed = []
    for view, donors in zip(views, one.donors, strict=True):
        shown = exchanged(all_of_it, index, donors[index])
        assert torch.allclose(view * 255, shown.float(), atol=1e-3)
        changed.append(not torch.equal(shown, images.images[index]))
    assert changed == [kind != "swaps", True]  # swaps leave the first view of a pair as it is
    small = Epoch(feed, config, batch_size=4, **known)
    assert torch.equal(small.views(2)[1], views[1][:4])


def test_runs_use_it_resume_exactly_and_need_masks(tmp_path):
    config = PretrainConfig(
        epochs=2,
        batch_size=8,
        method=SimCLRConfig(hidden_dim=8, embedding_dim=4),
        encoder=EncoderConfig(width=2),
        data=DataConfig(
            source="synthetic", image_size=16, synthetic=SyntheticConfig(train=24, test=8)
        ),
        views=replace(PLAIN, background="swaps", background_probability=0.5),
    )
    pretrain(config, tmp_path / "whole")
    pretrain(config, tmp_path / "cut")
    newest = max((tmp_path / "cut" / "checkpoints").iterdir(), key=lambda path: path.name)
    newest.unlink()
    resume(tmp_path / "cut")
    whole, cut, other = (tmp_path / name / "encoder.safetensors" for name in ("whole", "cut", "x"))
    assert whole.read_bytes() == cut.read_bytes()
    pretrain(replace(config, views=PLAIN), tmp_path / "x")
    assert other.read_bytes() != whole.read_bytes()
    folder = tmp_path / "images" / "a"
    folder.mkdir(parents=True)
    from PIL import Image

    for name in range(8):
        Image.new("RGB", (16, 16), (name, 0, 0)).save(folder / f"{name}.png")
    bare = replace(config, data=DataConfig(source="folder", root=folder.parent, image_size=16))
    with pytest.raises(IclmsrError, match="needs images with foreground masks"):
        pretrain(bare, tmp_path / "no")


def test_a_weak_view_keeps_its_background():
    config = ViewConfig(background="random", weak=(1,))
    assert [config.for_view(view).background for view in (0, 1)] == ["random", "keep"]


def test_masks_are_part_of_what_the_data_are_known_by_only_where_they_are_used(images):
    other = replace(images, masks=~images.masks)
    assert fingerprint(images, masks=False) == fingerprint(other, masks=False)
    assert fingerprint(images, masks=True) != fingerprint(other, masks=True)
    assert fingerprint(images, masks=True) != fingerprint(images, masks=False)
