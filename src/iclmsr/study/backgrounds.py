# SPDX-License-Identifier: Apache-2.0
"""The background challenge: one encoder on every variant of the test images."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

from torch import Tensor

from iclmsr.config import at_least, encode
from iclmsr.data.config import DataConfig
from iclmsr.data.found import has_split
from iclmsr.data.images import ImageSet
from iclmsr.data.sources import load
from iclmsr.data.variants import Variant, make_variant
from iclmsr.devices import choose_device
from iclmsr.encoders import LoadedEncoder
from iclmsr.errors import IclmsrError
from iclmsr.evaluate.features import Features, extract
from iclmsr.evaluate.knn import knn_votes
from iclmsr.evaluate.linear_probe import LinearClassifier, fit
from iclmsr.evaluate.protocol import LinearProbeConfig
from iclmsr.study.composites import composite_grid
from iclmsr.study.groups import balanced, worst_group
from iclmsr.study.measures import accuracy, by_classifier, interaction
from iclmsr.study.sensitivity import retrieval, swap_sensitivity, swap_similarity, variance_shares

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


def needed_images(config: BackgroundsConfig) -> tuple[ImageSet, ImageSet]:
    """The images that an encoder's judges learn from, and those that it is judged on.

    Args:
        config: Data and split.

    Returns:
        The split ``train`` and that of the config, both with labels and masks.

    Raises:
        IclmsrError: There are no such images, or no labels or masks of them.
    """
    found = []
    for split in ("train", config.split):
        images = load(config.data, split)
        if images.masks is None:
            raise IclmsrError(
                f"a background study needs foreground masks of the {split} images in "
                f"{config.data.root}: pass --data.masks PATH; `iclmsr masks` makes some"
            )
        if (images.labels < 0).any():
            raise IclmsrError(
                f"a background study needs a class for each of the {split} images in "
                f"{config.data.root}: leave out --data.no-labels, or put them in folders by class"
            )
        found.append(images)
    train, test = found
    return train, test


def challenge(encoder: LoadedEncoder, config: BackgroundsConfig) -> dict[str, Any]:
    """Judges an encoder on all variants of the test images.

    Args:
        encoder: Any.
        config: Data with masks, and how.

    Groups of test images, a group being a class on a kind of background, are those of the split
    ``test-swapped`` where there is one; else of the test images as they are, where their
    backgrounds are known; else of ``mixed_rand``, where the donor's class is taken for the kind.

    Returns:
        ``results``: by variant and classifier (``linear``, ``knn``), top-1 in percent; also
        ``swapped``, where the data have such a split. ``measures``: by name, a number or one of
        each classifier, or None where it is not defined:

        * those of :func:`iclmsr.study.measures.by_classifier`;
        * ``foreground_probe_original`` and ``foreground_probe_only_fg``, accuracies in percent of
          classifiers that learnt from foregrounds alone, and ``probe_interaction``, points
          (:func:`iclmsr.study.measures.interaction`);
        * ``worst_group`` (:func:`iclmsr.study.groups.worst_group`);
        * where training and test images have the same kinds of background,
          ``background_decodability``, percent, beside ``background_chance``; and
          ``worst_group_dfr`` and ``group_mean_dfr``, percent, of a linear probe that learnt from
          :func:`iclmsr.study.groups.balanced` training images, where these can be chosen;
        * those of :mod:`iclmsr.study.sensitivity`.

        ``groups``, the images whose groups these are: ``test-swapped``, ``test`` or
        ``mixed_rand``. ``config``, ``encoder`` and ``sha256``.

    Raises:
        IclmsrError: No masks, no labels, or images that do not exist.

    Source: Xiao et al. 2020; Sagawa et al. 2020. Departure: measures of embeddings are ours.
    """
    train, test = needed_images(config)
    judge = Judge(encoder, train, config)
    shown = {
        name: make_variant(test, name, filler=config.data.filler, seed=config.data.seed)
        for name in VARIANTS
    }
    features = {name: judge.features(images) for name, images in shown.items()}
    correct = {name: judge.correct(known) for name, known in features.items()}
    swapped = _swapped(judge)
    groups = _groups(judge, swapped, test, shown["mixed_rand"], features)
    right = judge.correct(groups.features)
    results = {
        str(name): {kind: accuracy(hits) for kind, hits in known.items()}
        for name, known in correct.items()
    }
    if swapped is not None:
        seen = judge.correct(swapped.features)
        results["swapped"] = {kind: accuracy(hits) for kind, hits in seen.items()}
    turned = {kind: {str(name): known[kind] for name, known in correct.items()} for kind in right}
    measures: dict[str, Any] = dict(by_classifier(turned))
    measures |= _foreground_probe(judge, train, features, results)
    measures["worst_group"] = {kind: _worst(hits, groups, config) for kind, hits in right.items()}
    if train.backgrounds is not None and train.background_names == groups.images.background_names:
        measures |= _known_kinds(judge, train, groups)
    measures |= swap_similarity(features["original"].features, features["mixed_rand"].features)
    composites = composite_grid(test, config.grid)
    side = math.isqrt(len(composites))
    grid = judge.features(composites).features.view(side, side, -1)
    measures |= swap_sensitivity(grid) | variance_shares(grid) | retrieval(grid)
    return {
        "study": "backgrounds",
        "encoder": encoder.name,
        "sha256": encoder.sha256,
        "config": encode(config),
        "classes": list(train.classes),
        "images": {"train": len(train), config.split: len(test)}
        | ({} if swapped is None else {swapped.name: len(swapped.images)}),
        "groups": groups.name,
        "results": results,
        "measures": measures,
    }


def _right(classifier: LinearClassifier, test: Features) -> Tensor:
    """Whether the class with the highest score, the smaller one of equals, is the right one."""
    return classifier.scores(test.features).argmax(1) == test.labels


class _Seen(NamedTuple):
    """Images, what they are called, and the encoder's features of them."""

    name: str
    images: ImageSet
    features: Features


def _swapped(judge: Judge) -> _Seen | None:
    """The split whose backgrounds say nothing about the class, if there is one."""
    split = f"{judge.config.split}-swapped"
    if not has_split(judge.config.data, split):
        return None
    images = load(judge.config.data, split)
    return _Seen(split, images, judge.features(images))


def _groups(
    judge: Judge,
    swapped: _Seen | None,
    test: ImageSet,
    mixed: ImageSet,
    features: Mapping[Variant, Features],
) -> _Seen:
    """Test images of every class on every kind of background, as far as there are such."""
    if swapped is not None and swapped.images.backgrounds is not None:
        return swapped
    if test.backgrounds is not None:
        return _Seen(judge.config.split, test, features["original"])
    return _Seen("mixed_rand", mixed, features["mixed_rand"])


def _foreground_probe(
    judge: Judge,
    train: ImageSet,
    features: Mapping[Variant, Features],
    results: Mapping[str, Mapping[str, float]],
) -> dict[str, dict[str, float]]:
    """The other half of the 2 x 2 table: classifiers of the features of foregrounds alone."""
    config = judge.config
    alone = make_variant(train, "only_fg", filler=config.data.filler, seed=config.data.seed)
    other = Judge(judge.encoder, alone, config)
    found: dict[str, dict[str, float]] = {
        f"foreground_probe_{name}": {
            kind: accuracy(hits) for kind, hits in other.correct(features[name]).items()
        }
        for name in ("original", "only_fg")
    }
    found["probe_interaction"] = {
        kind: interaction(
            results["original"][kind],
            results["only_fg"][kind],
            found["foreground_probe_original"][kind],
            found["foreground_probe_only_fg"][kind],
        )
        for kind in results["original"]
    }
    return found


def _worst(hits: Tensor, groups: _Seen, config: BackgroundsConfig) -> dict[str, float | None]:
    """The worst of some images' groups."""
    assert groups.images.backgrounds is not None
    return worst_group(hits, groups.images.labels, groups.images.backgrounds, least=config.least)


def _known_kinds(judge: Judge, train: ImageSet, groups: _Seen) -> dict[str, Any]:
    """What the training images' kinds of background are needed for."""
    assert train.backgrounds is not None
    assert groups.images.backgrounds is not None
    probe = judge.config.linear_probe
    asked = Features(groups.features.features, groups.images.backgrounds)
    kinds = int(max(train.backgrounds.max(), asked.labels.max())) + 1
    teller = fit(Features(judge.train.features, train.backgrounds), probe, classes=kinds)
    found: dict[str, Any] = {
        "background_decodability": accuracy(_right(teller, asked)),
        "background_chance": 100 / kinds,
    }
    chosen = balanced(train.labels, train.backgrounds, seed=judge.config.data.seed)
    if chosen is not None:
        even = Features(judge.train.features[chosen], train.labels[chosen])
        head = fit(even, probe, classes=judge.classes)
        worst = _worst(_right(head, groups.features), groups, judge.config)
        found["worst_group_dfr"] = {"linear": worst["accuracy"]}
        found["group_mean_dfr"] = {"linear": worst["mean"]}
    return found
