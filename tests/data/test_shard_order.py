# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from iclmsr.data.batches import Epoch
from iclmsr.data.shard_order import shard_order, shares
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


def naive(shards, window, generator):
    """One rank's order, as runs that were stopped before there were shares go on in it."""
    place = torch.randperm(int(shards.max()) + 1, generator=generator).tolist()
    mixed = torch.randperm(len(shards), generator=generator).tolist()
    return sorted(mixed, key=lambda image: place[int(shards[image])] // window)


@pytest.mark.parametrize("window", [1, 3, 100])
def test_one_rank_has_the_order_that_it_always_had(window):
    expected = naive(SHARDS, window, generator(0, "order", 0))
    assert order(window).tolist() == expected
    cut = shard_order(SHARDS, window=window, generator=generator(0, "order", 0), batch_size=48)
    assert cut.tolist() == expected


EVEN = torch.arange(960) * 7 % 960 // 80  # 12 shards of 80


@pytest.mark.parametrize("ranks", [2, 3, 4])
@pytest.mark.parametrize("shards", [SHARDS, EVEN], ids=["uneven", "even"])
def test_each_rank_needs_its_own_shards_and_few_at_a_time(shards, ranks):
    size, window, needed = 24, 2, []
    for epoch in range(2):
        found = shard_order(
            shards,
            window=window,
            generator=generator(0, "order", epoch),
            ranks=ranks,
            batch_size=size,
        )
        assert found.sort().values.tolist() == list(range(len(shards)))
        batches = found[: len(shards) // size * size].view(-1, ranks, size // ranks)
        whose = shares(shards, ranks)[batches]
        assert (whose == torch.arange(ranks)[None, :, None]).all()
        for rank in range(ranks):
            seen = shards[batches[:, rank].flatten()]
            spans = [(seen == shard).nonzero() for shard in seen.unique()]
            for position in range(len(seen)):
                assert sum(bool(s[0] <= position <= s[-1]) for s in spans) <= window
            needed.append(set(seen.tolist()))
    once, again = needed[:ranks], needed[ranks:]
    most = 12 + (ranks - 1 if shards is SHARDS else 0)
    assert sum(map(len, once)) <= most
    for rank in range(ranks):
        all_of_it = set(shards[shares(shards, ranks) == rank].tolist())
        assert once[rank] | again[rank] <= all_of_it
    assert sum(len(set(shards[shares(shards, ranks) == r].tolist())) for r in range(ranks)) <= most


@pytest.mark.parametrize("ranks", [1, 2, 5, 7])
def test_shares_are_of_one_size(ranks):
    counts = shares(SHARDS, ranks).bincount(minlength=ranks)
    assert counts.max() - counts.min() <= 1
    assert counts.sum() == 1000


def test_neighbouring_shards_go_to_different_ranks():
    """Shards are often in the order of the classes: each rank is to see all of those."""
    assert shares(torch.arange(6), 3).tolist() == [0, 1, 2, 0, 1, 2]
    assert shares(torch.tensor([4, 4, 9, 9]), 2).tolist() == [0, 0, 1, 1]
    assert shares(torch.tensor([3]), 2).tolist() == [0]
