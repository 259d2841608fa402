# SPDX-License-Identifier: Apache-2.0
"""A look at the encoder while it is trained, by the classifiers of evaluation on few images."""

import time
from dataclasses import dataclass, replace

import torch
from torch import nn

from iclmsr.data.images import ImageSet
from iclmsr.data.sources import DataConfig, load
from iclmsr.errors import IclmsrError
from iclmsr.evaluate.accuracy import topk_accuracy
from iclmsr.evaluate.features import class_count, extract
from iclmsr.evaluate.knn import knn
from iclmsr.evaluate.logistic import fit_logistic
from iclmsr.evaluate.subsets import held_out

SHARE = 0.02
"""Of the time that pretraining takes: more is worth a warning."""
_HELD_OUT = 0.25
_PENALTY = 1e-2


@dataclass(frozen=True)
class Glance:
    """What an encoder does for a few images.

    Attributes:
        knn_top1: 5-nn accuracy, percent.
        linear_top1: Accuracy of logistic regression, percent.
        seconds: What it took.
    """

    knn_top1: float
    linear_top1: float
    seconds: float


class Online:
    """Judges encoders on a fixed part of the labelled training images; test images stay unseen.

    Three quarters are learnt from, the rest are asked about; drawn by class from ``data.seed``.
    Nothing that training depends on is touched: no random number is drawn, and the encoder
    leaves as it came.

    Args:
        data: Of the run.
        images: How many, >= 2; ``data.limit`` if that is less.
        device: Where the encoder is.

    Raises:
        IclmsrError: The training images have no labels, or are too few to hold any out.
    """

    def __init__(self, data: DataConfig, images: int, device: torch.device) -> None:
        self.mean, self.std, self.device = data.mean, data.std, device
        known = _labelled(data, images)
        parts = held_out(known.labels, _HELD_OUT, seed=data.seed, purpose="online")
        if not len(parts[1]):
            raise IclmsrError(
                f"online evaluation holds out some of {len(known)} images, but no class has two: "
                "raise online.images"
            )
        self.known, self.asked = (known.take(part) for part in parts)

    def __call__(self, encoder: nn.Module) -> Glance:
        """Judges an encoder f: (B, 3, H, W) -> (B, F)."""
        began = time.monotonic()
        train, test = (
            extract(encoder, images, mean=self.mean, std=self.std, device=self.device)
            for images in (self.known, self.asked)
        )
        classes = class_count(train, test)
        scale = max(float(train.features.var(0, correction=0).mean()), 1e-12)
        found = fit_logistic(train, penalty=_PENALTY * scale, classes=classes, tolerance=1e-4)
        scores = test.features.double() @ found.classifier.weight.T + found.classifier.bias
        return Glance(
            knn(train, test, k=min(5, len(train.labels)))["top1"],
            topk_accuracy(scores, test.labels, 1),
            time.monotonic() - began,
        )


def _labelled(data: DataConfig, count: int) -> ImageSet:
    """So many training images, in memory, as evaluation sees them."""
    limit = count if data.limit is None else min(count, data.limit)
    images = load(replace(data, limit=limit, masks=None), "train")
    if (images.labels < 0).any():
        raise IclmsrError("online evaluation needs labelled images: leave out online.every-epochs")
    return images
