# SPDX-License-Identifier: Apache-2.0
"""Features, computed once and judged by every classifier."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from iclmsr.data.feed import feed_of
from iclmsr.data.file_set import FileSet
from iclmsr.data.images import ImageSet
from iclmsr.errors import Diverged, IclmsrError


class Features(NamedTuple):
    """What the classifiers see of a set of images.

    Attributes:
        features: (N, F) float32, not normalized.
        labels: (N,) int64 in [0, C).
    """

    features: Tensor
    labels: Tensor


def extract(
    encoder: nn.Module,
    images: ImageSet | FileSet,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    batch_size: int = 512,
    device: torch.device | str = "cpu",
    workers: int | None = None,
) -> Features:
    """The encoder's features of images without augmentation, in evaluation mode and float32.

    The encoder leaves as it came: every module in its mode, on its device. Beside the result,
    memory holds one batch at a time.

    Args:
        encoder: f: (B, 3, H, W) -> (B, F), float32.
        images: N >= 1 images that all have a label.
        mean: Of the three channels, in units of the pixel range [0, 1].
        std: The same, > 0.
        batch_size: Images that the encoder sees at a time, >= 1.
        device: Where the encoder runs; it is moved there and back.
        workers: Processes that decode what is left in files, see
            :func:`iclmsr.data.feed.feed_of`.

    Returns:
        Features (N, F) on the CPU; of files that others took the place of, there are none.

    Raises:
        IclmsrError: No image, an image without label, ``batch_size`` < 1, or an encoder whose
            output is not (B, F).

    Source: W-MSE's public code. Departure: none.

    >>> one = ImageSet(torch.full((1, 3, 1, 1), 255, dtype=torch.uint8), torch.tensor([0]), ("a",))
    >>> extract(nn.Flatten(), one, mean=(0.5,) * 3, std=(0.25,) * 3).features.tolist()
    [[2.0, 2.0, 2.0]]
    """
    _check_labelled(images)
    if batch_size < 1:
        raise IclmsrError(f"batch size must be >= 1, got {batch_size}")
    device = torch.device(device)
    home = next((parameter.device for parameter in encoder.parameters()), device)
    modes = [(module, module.training) for module in encoder.modules()]
    encoder.eval().to(device)
    features = torch.empty(0)
    try:
        with (
            torch.no_grad(),
            torch.autocast(device.type, enabled=False),
            feed_of(images, torch.device("cpu"), workers) as feed,
        ):
            batches = torch.arange(len(images)).split(batch_size)  # type: ignore[no-untyped-call]
            feed.expect(batches)
            for index in batches:
                output = encoder(_normalized(feed.fetch(index).to(device), mean, std))
                if output.ndim != 2:
                    raise IclmsrError(f"an encoder must give (B, F), got {tuple(output.shape)}")
                if not len(features):
                    features = torch.empty(len(images), output.shape[1])
                features[index] = output.cpu()
    finally:
        encoder.to(home)
        for module, training in modes:
            module.training = training
    if isinstance(images, FileSet) and images.instead:
        kept = torch.ones(len(images), dtype=torch.bool)
        kept[list(images.instead)] = False
        return Features(features[kept], images.labels[kept])
    return Features(features, images.labels)


def pixels(images: ImageSet, *, mean: Sequence[float], std: Sequence[float]) -> Features:
    """The normalized pixels themselves, (N, 3 H W): the baseline without any encoder.

    Args:
        images: N >= 1 images that all have a label.
        mean: Of the three channels, in units of the pixel range [0, 1].
        std: The same, > 0.

    Raises:
        IclmsrError: No image, or an image without label.

    Source: none, the usual baseline. Departure: none.

    >>> one = ImageSet(torch.zeros(1, 3, 1, 1, dtype=torch.uint8), torch.tensor([0]), ("a",))
    >>> pixels(one, mean=(0.5,) * 3, std=(0.25,) * 3).features.tolist()
    [[-2.0, -2.0, -2.0]]
    """
    _check_labelled(images)
    return Features(_normalized(images.images, mean, std).flatten(1), images.labels)


def class_count(train: Features, test: Features) -> int:
    """C, one more than the largest label of both sets, after a look at whether they fit together.

    Raises:
        IclmsrError: An empty set, features of two widths, labels that do not go with them, or a
            negative label. :class:`Diverged` for a feature that is NaN or infinite.

    Source: none. Departure: none.

    >>> train = Features(torch.zeros(2, 3), torch.tensor([0, 1]))
    >>> class_count(train, train._replace(labels=torch.tensor([4, 0])))
    5
    """
    for name, (features, labels) in (("train", train), ("test", test)):
        if features.ndim != 2 or not len(features) or labels.shape != features.shape[:1]:
            raise IclmsrError(
                f"{name} needs features (N, F) and labels (N,) with N >= 1, "
                f"got {tuple(features.shape)} and {tuple(labels.shape)}"
            )
        if labels.min() < 0:
            raise IclmsrError(f"{name} labels must be >= 0, got {labels.min()}")
        if not torch.stack(torch.aminmax(features)).isfinite().all():
            broken = int((~features.isfinite()).any(1).sum())
            raise Diverged(
                f"{broken} of {len(features)} {name} features hold NaN or infinity: "
                "the encoder has diverged"
            )
    if train.features.shape[1] != test.features.shape[1]:
        raise IclmsrError(
            f"train and test features need one width F, got {train.features.shape[1]} "
            f"and {test.features.shape[1]}"
        )
    return int(max(train.labels.max(), test.labels.max())) + 1


def _check_labelled(images: ImageSet | FileSet) -> None:
    """Raises unless there are images and each has a label."""
    missing = int((images.labels < 0).sum())
    if missing or not len(images):
        raise IclmsrError(
            f"evaluation needs labelled images, got {missing} of {len(images)} without label"
        )


def _normalized(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Bytes (B, 3, H, W) as float32: divided by 255, less the mean, over the deviation."""
    shift, scale = (
        torch.tensor(value, device=images.device).view(3, 1, 1) for value in (mean, std)
    )
    return images.float().div_(255).sub_(shift).div_(scale)
