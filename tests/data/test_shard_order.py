# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from iclmsr.data.batches import Epoch
from iclmsr.data.shard_order import shard_order
from iclmsr.data.views import ViewConfig
from iclmsr.errors import IclmsrError
from iclmsr.seeds import generator

SHARDS = torch.arange(1000) * 7 % 1000 // 90  # 12 shards, the last of 10 images, mixed up


def order(window, epoch=0):
    return shard_order(SHARDS, window=window, generator=generator(0, "order", epoch))


@pytest.mark.parametrize("window", [1, 3, 5, 11, 12, 100])
def test_each_image_comes_once_and_few_shards_are_needed_at_a_time(window):
    found = order(window)
    assert found.sort().values.tolist() == list(range(1000))
    seen = SHARDS[found]
    spans = [(seen == shard).nonzero() for shard in range(12)]
    for position in range(1000):
        needed = sum(bool(span[0] <= position <= span[-1]) for span in spans)
        assert needed <= window


def test_it_follows_from_the_seed_alone():
    assert torch.equal(order(3), order(3))
    assert not torch.equal(order(3), order(3, epoch=1))
    assert not torch.equal(SHARDS[order(1)], SHARDS[order(1, epoch=1)])  # shards are shuffled too


def test_the_images_of_a_window_are_mixed():
    """Each third of a window of 4 shards of 100 images has some of all 4."""
    shards = torch.arange(400) // 100
    found = shards[shard_order(shards, window=4, generator=generator(0, "x"))]
    for part in found.split(134):
        assert part.bincount(minlength=4).min() > 15


def test_a_window_of_all_shards_is_a_plain_random_order():
    """Where an image comes has the same mean for each of them."""
    shards = torch.tensor([0, 0, 0, 1, 2, 2])
    places = torch.stack(
        [
            shard_order(shards, window=3, generator=generator(0, epoch)).argsort()
            for epoch in range(3000)
        ]
    ).double()
    error = (35 / 12 / 3000) ** 0.5  # of the mean of a uniform number in 0..5
    assert (places.mean(0) - 2.5).abs().max() < 4 * error


def test_other_numbers_of_shards():
    assert shard_order(torch.tensor([7, 3, 7]), window=1, generator=generator(0)).tolist() in (
        [[1, 0, 2], [1, 2, 0], [0, 2, 1], [2, 0, 1]]
    )
    empty = torch.empty(0, dtype=torch.int64)
    assert shard_order(empty, window=1, generator=generator(0)).tolist() == []
    with pytest.raises(IclmsrError, match="window of shards must be >= 1, got 0"):
        order(0)


def test_an_epoch_in_this_order():
    images = torch.arange(1000, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 8, 8)
    epoch = Epoch(
        images,
        ViewConfig(size=8),
        view_count=2,
        batch_size=10,
        seed=0,
        epoch=0,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        order=order(3),
    )
    plain = Epoch(
        images,
        ViewConfig(size=8),
        view_count=2,
        batch_size=1000,
        seed=0,
        epoch=0,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    )
    place = plain.order.argsort()[order(3)[10:20]]
    torch.testing.assert_close(epoch.views(1)[0], plain.views(0)[0][place])
