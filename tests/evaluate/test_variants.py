# SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from iclmsr.evaluate.features import Features
from iclmsr.evaluate.knn import knn
from iclmsr.evaluate.variants import described, uniform, weighted
from iclmsr.seeds import generator


def gaussian(count: int, *, name: str, classes: int = 8) -> Features:
    source = generator(0, "gaussian", name)
    labels = torch.randint(classes, (count,), generator=source)
    centres = torch.randn(classes, 12, generator=generator(0, "centres"))
    return Features(centres[labels] + torch.randn(count, 12, generator=source), labels)


def naive_weighted(train: Features, test: Features, k: int) -> tuple[list[int], list[bool]]:
    """Wu et al. 2018, one image at a time."""
    predicted, among = [], []
    for query, label in zip(test.features.double(), test.labels.tolist(), strict=True):
        cosines = [
            float(query @ row / (query.norm() * row.norm())) for row in train.features.double()
        ]
        votes: dict[int, float] = {}
        for place in sorted(range(len(cosines)), key=lambda i: -cosines[i])[:k]:
            own = int(train.labels[place])
            votes[own] = votes.get(own, 0.0) + math.exp(cosines[place] / 0.07)
        ranked = sorted(votes, key=lambda each: -votes[each])
        predicted.append(ranked[0])
        among.append(label in ranked[:5])
    return predicted, among


@pytest.mark.parametrize("k", [1, 5, 20])
def test_weighted_votes_one_image_at_a_time(k):
    train, test = gaussian(120, name="train"), gaussian(60, name="test")
    (found,) = weighted(train, test, (k,))
    predicted, among = naive_weighted(train, test, k)
    assert found.predicted.tolist() == predicted
    right = [one == other for one, other in zip(predicted, test.labels.tolist(), strict=True)]
    assert found.top1 == pytest.approx(100 * sum(right) / 60)
    assert found.top5 == pytest.approx(100 * sum(among) / 60)


def test_weighted_against_scikit_learn():
    train, test = gaussian(400, name="train"), gaussian(150, name="test")
    peer = KNeighborsClassifier(
        20,
        metric="cosine",
        algorithm="brute",
        weights=lambda far: torch.exp(torch.from_numpy((1 - far) / 0.07)).numpy(),
    ).fit(train.features.double().numpy(), train.labels.numpy())
    (found,) = weighted(train, test, (20,))
    assert found.predicted.tolist() == peer.predict(test.features.double().numpy()).tolist()


def test_length_does_not_count_for_cosines_but_does_for_distances():
    train, test = gaussian(120, name="train"), gaussian(60, name="test")
    scale = torch.rand(120, 1, generator=generator(0, "scale")) + 0.1
    longer = train._replace(features=train.features * scale)
    assert torch.equal(
        weighted(train, test, (5,))[0].predicted, weighted(longer, test, (5,))[0].predicted
    )
    assert not torch.equal(
        uniform(train, test, (5,))[0].predicted, uniform(longer, test, (5,))[0].predicted
    )


def test_plain_votes_are_those_of_knn_for_each_k():
    train, test = gaussian(300, name="train"), gaussian(77, name="test")
    ks = (5, 1, 200)
    for k, found in zip(ks, uniform(train, test, ks), strict=True):
        assert found.k == k
        assert found.top1 == knn(train, test, k=k)["top1"]
        peer = KNeighborsClassifier(k, algorithm="brute").fit(
            train.features.numpy(), train.labels.numpy()
        )
        assert found.predicted.tolist() == peer.predict(test.features.numpy()).tolist()


def test_a_class_without_a_vote_does_not_count():
    train = Features(torch.arange(1.0, 7)[:, None], torch.tensor([0, 0, 1, 1, 2, 3]))
    test = Features(torch.full((2, 1), 0.5), torch.tensor([2, 3]))
    assert uniform(train, test, (5,))[0].top5 == 50
    assert weighted(train, test, (5,))[0].top5 == 50  # all cosines are 1: the smaller index


def test_as_they_stand_in_the_report():
    train, test = gaussian(50, name="train"), gaussian(20, name="test")
    plain, cosine = (
        described(uniform(train, test, (1,)), cosine=False),
        described(weighted(train, test, (1,)), cosine=True),
    )
    assert plain[0]["distance"] == "euclidean"
    assert cosine[0]["temperature"] == 0.07
    assert uniform(train, test, ()) == []
