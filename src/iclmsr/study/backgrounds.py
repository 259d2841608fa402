# SPDX-License-Identifier: Apache-2.0
"""The background challenge: one encoder on every variant of the test images."""

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from iclmsr.config import at_least, encode
from iclmsr.data.composite import composite, inpainted
from iclmsr.data.config import DataConfig
from iclmsr.data.images import ImageSet
from iclmsr.data.sources import has_split, load
from iclmsr.data.variants import Variant, make_variant
from iclmsr.devices import choose_device
from iclmsr.encoders import LoadedEncoder
from iclmsr.errors import IclmsrError
from iclmsr.evaluate.features import Features, extract
from iclmsr.evaluate.knn import knn_votes
from iclmsr.evaluate.linear_probe import LinearClassifier, fit
from iclmsr.evaluate.protocol import LinearProbeConfig
from iclmsr.study.measures import (
    accuracy,
    by_classifier,
    retrieval,
    swap_similarity,
    variance_shares,
    worst_group,
)

VARIANTS: tuple[Variant, ...] = get_args(Variant)


@dataclass(frozen=True)
class BackgroundsConfig:
    """On which images an encoder's background is exchanged, and how it is judged."""

    split: Literal["test", "val"] = "test"
    """What to judge on; val where settings are still chosen."""
    k: int = 5
    """Neighbours that vote, >= 1."""
    grid: int = 24
    """Foregrounds, and backgrounds, in the grid of composites for the shares of variance, >= 2."""
    least: int = 10
    """Images that a group must have to count as the worst, >= 1."""
    batch_size: int = 512
    """Images in a batch while features are extracted, >= 1."""
    device: str = "auto"
    """cpu, cuda, cuda:1, ...; auto takes a GPU where there is one."""
    data: DataConfig = field(default_factory=DataConfig)
    linear_probe: LinearProbeConfig = field(default_factory=LinearProbeConfig)

    def __post_init__(self) -> None:
        for name, least in (("k", 1), ("grid", 2), ("least", 1), ("batch_size", 1)):
            at_least(self, "", name, least)
        if self.data.variant != "original":
            raise IclmsrError(
                f"the challenge makes every variant itself: leave out --data.variant "
                f"{self.data.variant}"
            )


class Judge:
    """Classifiers that learnt from the features of the training images.

    Args:
        encoder: Whose features.
        train: What they learn from; the images as they are, or a variant.
        config: How.
    """

    def __init__(self, encoder: LoadedEncoder, train: ImageSet, config: BackgroundsConfig) -> None:
        self.encoder, self.config = encoder, config
        self.train = self.features(train)
        self.classes = len(train.classes)
        self.linear = fit(self.train, config.linear_probe, classes=self.classes)

    def features(self, images: ImageSet) -> Features:
        """The encoder's features of images."""
        return extract(
            self.encoder.network,
            images,
            mean=self.encoder.mean,
            std=self.encoder.std,
            batch_size=self.config.batch_size,
            device=choose_device(self.config.device),
        )

    def correct(self, test: Features) -> dict[str, Tensor]:
        """By classifier, (N,) bool: whether each image of a test set is put in its class."""
        votes = knn_votes(self.train, test, k=self.config.k)
        return {
            "linear": _right(self.linear, test),
            "knn": votes.argmax(1) == test.labels,
        }


def challenge(encoder: LoadedEncoder, config: BackgroundsConfig) -> dict[str, Any]:
    """Judges an encoder on all variants of the test images.

    Args:
        encoder: Any.
        config: Data with masks, and how.

    Returns:
        ``results``: by variant and classifier (``linear``, ``knn``), top-1 in percent; also
        ``swapped``, where the data have such a split. ``measures``: by name, a number or one of
        each classifier: ``bg_gap``, ``foreground_drop``, ``background_only`` in points
        (:func:`by_classifier`), ``worst_group``, ``background_decodability`` with its
        ``background_chance`` in percent, ``swap_cosine``, ``random_cosine``, the shares of
        variance in [0, 1], and what nearest neighbours share in percent. ``config``, ``encoder``
        and ``sha256``.

    Raises:
        IclmsrError: No masks, no labels, or images that do not exist.

    Source: Xiao et al. 2020; Sagawa et al. 2020. Departure: measures of embeddings are ours.
    """
    train, test = load(config.data, "train"), load(config.data, config.split)
    if test.masks is None:
        raise IclmsrError(
            f"the challenge needs foreground masks of the images in {config.data.root}: pass "
            "--data.masks PATH; `iclmsr masks` makes some"
        )
    judge = Judge(encoder, train, config)
    shown = {
        name: make_variant(test, name, filler=config.data.filler, seed=config.data.seed)
        for name in VARIANTS
    }
    features = {name: judge.features(images) for name, images in shown.items()}
    correct = {name: judge.correct(known) for name, known in features.items()}
    swapped, seen = _swapped(judge, shown["mixed_rand"], features["mixed_rand"])
    right = judge.correct(seen)
    results = {
        str(name): {kind: accuracy(hits) for kind, hits in known.items()}
        for name, known in (*correct.items(), ("swapped", right))
    }
    turned = {kind: {str(name): known[kind] for name, known in correct.items()} for kind in right}
    measures: dict[str, Any] = dict(by_classifier(turned))
    assert swapped.backgrounds is not None
    groups = {
        kind: worst_group(hits, swapped.labels, swapped.backgrounds, least=config.least)
        for kind, hits in right.items()
    }
    measures["worst_group"] = {kind: known for kind, known in groups.items() if known is not None}
    if train.backgrounds is not None:
        measures |= _decodability(judge, train, Features(seen.features, swapped.backgrounds))
    measures |= swap_similarity(features["original"].features, features["mixed_rand"].features)
    composites = _grid(test, config.grid)
    side = int(len(composites) ** 0.5)
    grid = judge.features(composites).features.view(side, side, -1)
    measures |= variance_shares(grid) | retrieval(grid)
    return {
        "study": "backgrounds",
        "encoder": encoder.name,
        "sha256": encoder.sha256,
        "config": encode(config),
        "classes": list(train.classes),
        "images": {"train": len(train), config.split: len(test), "swapped": len(swapped)},
        "results": results,
        "measures": measures,
    }


def _right(classifier: LinearClassifier, test: Features) -> Tensor:
    """Whether the class with the highest score, the smaller one of equals, is the right one."""
    return classifier.scores(test.features).argmax(1) == test.labels


def _swapped(judge: Judge, mixed: ImageSet, features: Features) -> tuple[ImageSet, Features]:
    """Test images whose background says nothing: the split made for it, else ``mixed_rand``."""
    split = f"{judge.config.split}-swapped"
    if not has_split(judge.config.data, split):
        return mixed, features
    images = load(judge.config.data, split)
    if images.backgrounds is None:
        return mixed, features
    return images, judge.features(images)


def _decodability(judge: Judge, train: ImageSet, swapped: Features) -> dict[str, float]:
    """How well a linear classifier of the features tells the kind of background, percent."""
    assert train.backgrounds is not None
    kinds = int(max(train.backgrounds.max(), swapped.labels.max())) + 1
    known = Features(judge.train.features, train.backgrounds)
    classifier = fit(known, judge.config.linear_probe, classes=kinds)
    return {
        "background_decodability": accuracy(_right(classifier, swapped)),
        "background_chance": 100 / kinds,
    }


def _grid(images: ImageSet, side: int) -> ImageSet:
    """Every one of ``side`` foregrounds on every one of ``side`` backgrounds, row by row."""
    assert images.masks is not None
    chosen = _spread(images.labels, min(side, len(images) // 2))
    some, other = images.take(chosen[0]), images.take(chosen[1])
    assert some.masks is not None
    assert other.masks is not None
    behind = inpainted(other.images, other.masks)
    count = len(some)
    row = torch.arange(count).repeat_interleave(count)
    column = torch.arange(count).repeat(count)
    pixels = composite(some.images[row], some.masks[row], behind[column])
    return ImageSet(pixels, some.labels[row], images.classes)


def _spread(labels: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Two disjoint choices of ``count`` images, classes as equal in number as possible."""
    rank = torch.zeros_like(labels)
    for label in range(int(labels.max()) + 1):
        own = labels == label
        rank[own] = torch.arange(int(own.sum()))
    order = (rank * (int(labels.max()) + 1) + labels).argsort()
    return order[:count], order[count : 2 * count]
