# SPDX-License-Identifier: Apache-2.0
"""All nearest-neighbour classifiers of an evaluation, from one search for each distance."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from iclmsr.evaluate.accuracy import topk_accuracy
from iclmsr.evaluate.features import Features, class_count
from iclmsr.evaluate.knn import neighbours

TEMPERATURE = 0.07


@dataclass(frozen=True)
class Verdict:
    """What one classifier says of the test images.

    Attributes:
        k: Neighbours.
        predicted: (M,) int64, the first class of each image.
        top1: In percent.
        top5: In percent; a class without a vote does not count.
    """

    k: int
    predicted: Tensor
    top1: float
    top5: float


def uniform(train: Features, test: Features, ks: Sequence[int]) -> list[Verdict]:
    """Majority votes of the k nearest training images by Euclidean distance.

    Args:
        train: (N, F) features and labels; never normalized here.
        test: (M, F) features and labels.
        ks: Numbers of neighbours, each in [1, N].

    Returns:
        One verdict for each k; that of 5 is the protocol's, see :func:`iclmsr.evaluate.knn.knn`.

    Raises:
        IclmsrError: As :func:`iclmsr.evaluate.knn.knn`.

    Source: W-MSE's public code. Departure: as :func:`iclmsr.evaluate.knn.knn_votes`.

    >>> train = Features(torch.arange(5.0)[:, None], torch.tensor([3, 1, 3, 1, 2]))
    >>> test = Features(torch.tensor([[2.1]]), torch.tensor([1]))
    >>> one, five = uniform(train, test, (1, 5))
    >>> print(one.top1, five.top1)
    0.0 100.0
    """
    return _verdicts(train, test, ks, weighted=False)


def weighted(train: Features, test: Features, ks: Sequence[int]) -> list[Verdict]:
    """Votes of the k nearest by cosine, each with weight exp(cosine / 0.07).

    Args:
        train: (N, F) features and labels; normalized here. A row of zeros stays one.
        test: (M, F) features and labels.
        ks: Numbers of neighbours, each in [1, N].

    Raises:
        IclmsrError: As :func:`iclmsr.evaluate.knn.knn`.

    Source: Wu et al. 2018 (arXiv 1805.01978), section 3.4. Departure: none.

    >>> near = torch.tensor([[9.0, 1.0], [0.0, 2.0], [1.0, 2.0]])
    >>> train = Features(near, torch.tensor([0, 1, 1]))
    >>> test = Features(torch.tensor([[1.0, 0.0]]), torch.tensor([0]))
    >>> weighted(train, test, (3,))[0].top1  # exp(0.99 / 0.07) against exp(0.45 / 0.07) + 1
    100.0
    """
    return _verdicts(_normalized(train), _normalized(test), ks, weighted=True)


def _normalized(rows: Features) -> Features:
    """Every row at length 1, but for zeros."""
    return rows._replace(features=F.normalize(rows.features, dim=1))


def _verdicts(
    train: Features, test: Features, ks: Sequence[int], *, weighted: bool
) -> list[Verdict]:
    """One search for the largest k; the first k of its neighbours are those of every other."""
    classes, ks = class_count(train, test), list(ks)
    if not ks:
        return []
    predicted = torch.empty(len(ks), len(test.labels), dtype=torch.int64)
    hits = [[0, 0] for _ in ks]  # images, at top 1 and top 5
    for rows, index, distances in neighbours(train, test, k=max(ks)):
        labels, own = train.labels[index], test.labels[rows]
        cosines = 1 - distances.square() / 2
        # Relative to the nearest: what all weights of a row share changes no order.
        weights = ((cosines - cosines[:, :1]) / TEMPERATURE).exp()
        for place, k in enumerate(ks):
            if weighted:
                votes = torch.zeros(len(own), classes, dtype=torch.float64, device=own.device)
                votes.scatter_add_(1, labels[:, :k], weights[:, :k])
                # A class without a vote is never right, whatever its rank.
                votes = votes.masked_fill(votes == 0, torch.nan)
                predicted[place, rows] = votes.nan_to_num(-1).argmax(1).cpu()
            else:
                votes = torch.zeros(len(own), classes, dtype=torch.int64, device=own.device)
                votes.scatter_add_(1, labels[:, :k], torch.ones_like(labels[:, :k]))
                predicted[place, rows] = votes.argmax(1).cpu()
            for column, top in enumerate((1, 5)):
                hits[place][column] += round(topk_accuracy(votes, own, top) * len(own) / 100)
    return [
        Verdict(k, said, *(100 * right / len(test.labels) for right in found))
        for k, said, found in zip(ks, predicted, hits, strict=True)
    ]


def described(verdicts: Sequence[Verdict], *, cosine: bool) -> list[dict[str, Any]]:
    """Verdicts as they stand in evaluation.json."""
    how = (
        {"distance": "cosine", "weights": "softmax", "temperature": TEMPERATURE}
        if cosine
        else {"distance": "euclidean", "weights": "uniform"}
    )
    return [{"k": one.k, **how, "top1": one.top1, "top5": one.top5} for one in verdicts]
