# SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch
from sklearn.metrics import confusion_matrix, recall_score

from iclmsr.errors import IclmsrError
from iclmsr.evaluate.accuracy import confusion, per_class, topk_accuracy
from iclmsr.seeds import generator


def test_equals_a_stable_sort():
    source = generator(0, "accuracy")
    scores = torch.randint(6, (300, 8), generator=source).double()  # many ties
    labels = torch.randint(8, (300,), generator=source)
    order = scores.sort(dim=1, descending=True, stable=True).indices  # ties: smaller class first
    for k in range(1, 10):
        expected = 100 * (order[:, :k] == labels[:, None]).any(1).double().mean().item()
        assert topk_accuracy(scores, labels, k) == pytest.approx(expected, abs=1e-12)


def test_ties_go_to_the_smaller_class():
    scores = torch.zeros(3, 3)
    assert topk_accuracy(scores, torch.tensor([0, 0, 0]), 1) == 100
    assert topk_accuracy(scores, torch.tensor([1, 1, 1]), 1) == 0
    assert topk_accuracy(scores, torch.tensor([0, 1, 2]), 2) == pytest.approx(200 / 3)


def test_fewer_classes_than_k():
    assert topk_accuracy(torch.tensor([[-1.0, -2.0, -math.inf]]), torch.tensor([2]), 5) == 100


def test_a_class_without_a_vote_is_never_right():
    votes = torch.tensor([[0, 5, 0], [0, 4, 1]])
    assert topk_accuracy(votes, torch.tensor([0, 2]), 3) == 50
    assert topk_accuracy(votes.float(), torch.tensor([0, 2]), 3) == 100


def test_nan_is_never_right():
    scores = torch.tensor([[math.nan, 1.0], [math.nan, 1.0]])
    assert topk_accuracy(scores, torch.tensor([0, 0]), 1) == 0
    assert topk_accuracy(scores, torch.tensor([0, 0]), 5) == 0


@pytest.mark.parametrize(
    ("scores", "labels", "k", "message"),
    [
        (torch.zeros(2, 3), torch.zeros(3, dtype=torch.int64), 1, r"got \(2, 3\) and \(3,\)"),
        (torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), 1, r"got \(0, 3\)"),
        (torch.zeros(3), torch.zeros(3, dtype=torch.int64), 1, r"got \(3,\)"),
        (torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64), 0, "must be >= 1, got 0"),
    ],
)
def test_errors(scores, labels, k, message):
    with pytest.raises(IclmsrError, match=message):
        topk_accuracy(scores, labels, k)


def test_confusion_and_classes_against_scikit_learn():
    source = generator(0, "confusion")
    labels, predicted = (torch.randint(6, (400,), generator=source) for _ in range(2))
    labels[labels == 4] = 0  # a class without images
    matrix = confusion(predicted, labels, 6)
    expected = confusion_matrix(labels.numpy(), predicted.numpy(), labels=range(6))
    assert matrix.tolist() == expected.tolist()
    shares = per_class(matrix)
    assert shares[4] is None
    recall = recall_score(labels, predicted, labels=[0, 1, 2, 3, 5], average=None)
    assert [share for share in shares if share is not None] == pytest.approx(list(100 * recall))
