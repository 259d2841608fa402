# SPDX-License-Identifier: Apache-2.0
import math
import sys

import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from iclmsr.errors import IclmsrError
from iclmsr.evaluate.features import Features
from iclmsr.evaluate.knn import knn, knn_votes
from iclmsr.seeds import generator


def gaussian(count: int, classes: int, *, name: str, width: int = 12) -> Features:
    source = generator(0, "gaussian", name)
    features = torch.randn(count, width, generator=source)
    return Features(features, torch.randint(classes, (count,), generator=source))


def grid(count: int, classes: int, *, name: str, width: int = 3) -> Features:
    """Points of {0, 1, 2}^width: most of them many times, so that distances tie all the time."""
    source = generator(0, "grid", name)
    features = torch.randint(3, (count, width), generator=source).float()
    return Features(features, torch.randint(classes, (count,), generator=source))


def naive_votes(train: Features, test: Features, k: int) -> torch.Tensor:
    """One pair at a time, neighbours sorted by (distance, index)."""
    classes = int(max(train.labels.max(), test.labels.max())) + 1
    votes = torch.zeros(len(test.features), classes, dtype=torch.int64)
    for row, x in enumerate(test.features.double()):
        distance = [(x - y).square().sum().item() for y in train.features.double()]
        for index in sorted(range(len(distance)), key=lambda i: (distance[i], i))[:k]:
            votes[row, train.labels[index]] += 1
    return votes


class Largest(TorchDispatchMode):
    """Remembers the bytes of the largest tensor that any operation made."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        given = {
            leaf.untyped_storage().data_ptr()
            for leaf in tree_leaves(args)
            if isinstance(leaf, torch.Tensor)
        }
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and leaf.untyped_storage().data_ptr() not in given:
                self.bytes = max(self.bytes, leaf.untyped_storage().nbytes())
        return result


@pytest.mark.parametrize("k", [1, 5, 60])
@pytest.mark.parametrize("make", [gaussian, grid])
def test_equals_one_pair_at_a_time(make, k):
    train, test = make(90, 4, name="train"), make(30, 4, name="test")
    votes = knn_votes(train, test, k=k)
    assert votes.dtype == torch.int64
    assert torch.equal(votes, naive_votes(train, test, k))


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("classes", [2, 10])  # with 10 most votes tie
def test_equals_scikit_learn(k, classes):
    train, test = gaussian(2000, classes, name="train"), gaussian(500, classes, name="test")
    peer = KNeighborsClassifier(k, algorithm="brute").fit(
        train.features.numpy(), train.labels.numpy()
    )
    predicted = torch.from_numpy(peer.predict(test.features.numpy()))
    votes = knn_votes(train, test, k=k)
    assert torch.equal(votes.argmax(1), predicted)
    expected = 100 * (predicted == test.labels).double().mean().item()
    assert knn(train, test, k=k)["top1"] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("k", [1, 5])
def test_equals_scikit_learn_where_the_neighbours_are_not_in_doubt(k):
    """On equal k-th distances scikit-learn keeps whichever its heap happens to keep."""
    train, test = grid(60, 3, name="train", width=5), grid(400, 3, name="test", width=5)
    squares = torch.cdist(test.features.double(), train.features.double()).square().round()
    ranked = squares.sort(1).values
    clear = ranked[:, k - 1] < ranked[:, k]
    assert clear.sum() > 50
    peer = KNeighborsClassifier(k, algorithm="brute").fit(
        train.features.numpy(), train.labels.numpy()
    )
    predicted = torch.from_numpy(peer.predict(test.features.numpy()))
    assert torch.equal(knn_votes(train, test, k=k).argmax(1)[clear], predicted[clear])


def test_vote_ties_go_to_the_smallest_class():
    train = Features(torch.arange(5.0)[:, None], torch.tensor([3, 1, 3, 1, 2]))
    assert knn_votes(train, Features(torch.zeros(1, 1), torch.tensor([0]))).tolist() == [
        [0, 2, 1, 2]
    ]
    for label, top1 in ((1, 100), (3, 0)):
        assert knn(train, Features(torch.zeros(1, 1), torch.tensor([label]))) == {"top1": top1}


def test_equal_distances_go_to_the_smaller_index():
    """More equal rows than there are candidates: only a comparison with all rows is right."""
    row = torch.randn(1, 40, generator=generator(0, "row"))
    train = Features(row.repeat(70, 1), torch.arange(70))
    votes = knn_votes(train, Features(row + 0.1, torch.tensor([0])), k=5)
    assert votes[0].nonzero()[:, 0].tolist() == [0, 1, 2, 3, 4]
    mirrored = Features(torch.tensor([[1.0], [-1.0], [1.0]]), torch.tensor([2, 0, 1]))
    assert knn_votes(mirrored, Features(torch.zeros(1, 1), torch.tensor([0])), k=1).argmax() == 2


def test_images_that_are_in_the_training_set_find_themselves():
    train = gaussian(300, 300, name="train", width=64)._replace(labels=torch.arange(300))
    assert knn(train, train, k=1) == {"top1": 100.0}


def test_large_constant_features_do_not_drown_small_ones():
    """Products of the constant columns round by more than all the distances there are."""
    train, test = gaussian(90, 4, name="train", width=20), gaussian(30, 4, name="test", width=20)
    constant = nn.ConstantPad1d((20, 0), 1e6)
    train, test = (each._replace(features=constant(1e-3 * each.features)) for each in (train, test))
    assert torch.equal(knn_votes(train, test), naive_votes(train, test, 5))


def test_equal_rows_far_from_the_origin():
    """There the matrix product rounds so much that equal rows look differently far."""
    few, test = gaussian(10, 4, name="train", width=40), gaussian(25, 4, name="test", width=40)
    order = torch.randperm(300, generator=generator(0, "order"))
    features = few.features.repeat(30, 1)[order] + 1e4
    train = Features(features, torch.arange(300))
    test = test._replace(features=test.features + 1e4)
    assert torch.equal(knn_votes(train, test), naive_votes(train, test, 5))


def test_ordinary_features_need_no_comparison_with_all_rows(monkeypatch):
    module, compared = sys.modules[knn.__module__], []
    exact = module._distances
    monkeypatch.setattr(module, "_distances", lambda x, y: compared.append(y.shape) or exact(x, y))
    train, test = gaussian(2000, 5, name="train", width=64), gaussian(200, 5, name="test", width=64)
    knn_votes(train, test)
    assert compared == [(200, 16, 64)]


@pytest.mark.parametrize("make", [gaussian, grid])
def test_chunks_do_not_change_the_votes(make):
    train, test = make(150, 5, name="train"), make(20, 5, name="test")
    whole = knn_votes(train, test)
    for chunk_bytes in (1, 2000, 9000, 40_000):
        assert torch.equal(knn_votes(train, test, chunk_bytes=chunk_bytes), whole)


@pytest.mark.parametrize("make", [gaussian, grid])  # without and with doubtful rows
@pytest.mark.parametrize("chunk_bytes", [10_000, 40_000])
def test_memory_stays_within_the_chunk(make, chunk_bytes):
    train, test = make(1000, 5, name="train"), make(60, 5, name="test")
    with Largest() as largest:
        knn_votes(train, test, chunk_bytes=chunk_bytes)
    assert chunk_bytes / 4 < largest.bytes <= chunk_bytes


def test_no_hidden_state():
    train, test = gaussian(90, 4, name="train"), gaussian(30, 4, name="test")
    before = [tensor.clone() for tensor in (*train, *test)]
    state = torch.get_rng_state()
    assert knn(train, test) == knn(train, test)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(before, (*train, *test), strict=True))


def test_errors():
    train, test = gaussian(7, 3, name="train"), gaussian(4, 3, name="test")
    for k in (0, -1, 8):
        with pytest.raises(IclmsrError, match=rf"k must be in \[1, 7\], .* got {k}"):
            knn(train, test, k=k)
    assert knn_votes(train, test, k=7).sum(1).tolist() == [7] * 4
    broken = test._replace(features=test.features * math.nan)
    with pytest.raises(IclmsrError, match="4 of 4 test features hold NaN"):
        knn(train, broken)


@pytest.mark.parametrize("make", [gaussian, grid])
@pytest.mark.parametrize("k", [1, 5, 60])
def test_a_first_look_in_bfloat16_changes_no_vote(make, k, monkeypatch):
    module = sys.modules[knn.__module__]
    train, test = make(300, 4, name="train"), make(40, 4, name="test")
    expected = naive_votes(train, test, k)
    looked, real = [], module.find_candidates
    monkeypatch.setattr(module, "half_is_fast", lambda *_: True)
    monkeypatch.setattr(
        module, "find_candidates", lambda *given: looked.append(given[-1]) or real(*given)
    )
    assert torch.equal(knn_votes(train, test, k=k), expected)
    assert looked[0] == torch.bfloat16


def test_rows_that_bfloat16_cannot_tell_apart_are_looked_at_again(monkeypatch):
    module = sys.modules[knn.__module__]
    base = gaussian(1, 1, name="base", width=40).features
    noise = gaussian(400, 4, name="noise", width=40)
    train = noise._replace(features=base + 1e-3 * noise.features)
    test = Features(base + 1e-3 * gaussian(30, 4, name="far", width=40).features, noise.labels[:30])
    monkeypatch.setattr(module, "half_is_fast", lambda *_: True)
    for shift in (0.0, 50.0):  # a common shift costs nothing, as features are centred
        moved = [each._replace(features=each.features + shift) for each in (train, test)]
        assert torch.equal(knn_votes(*moved), naive_votes(*moved, 5))
