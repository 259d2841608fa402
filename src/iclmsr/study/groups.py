# SPDX-License-Identifier: Apache-2.0
"""Groups of images, a group being a class on a kind of background."""

import torch
from torch import Tensor

from iclmsr.seeds import generator


def worst_group(
    correct: Tensor, labels: Tensor, backgrounds: Tensor, *, least: int = 10
) -> dict[str, float | None]:
    """The smallest accuracy of a group, a group being a class on a kind of background.

    Args:
        correct: (N,) bool.
        labels: (N,) int64 classes.
        backgrounds: (N,) int64 kinds of background.
        least: Groups of fewer images are left out, >= 1.

    Returns:
        ``groups``, how many there are, and ``counted``, how many of them have ``least`` images;
        ``accuracy`` of the worst of these, and ``mean`` over them, percent; the worst one's
        ``label``, ``background`` and ``images``. None for all but the two where no group counts.

    Source: Sagawa et al. 2020 (Waterbirds): the minimum over groups. Departure: ``least``.

    >>> right = torch.tensor([True, True, False, True])
    >>> found = worst_group(right, torch.tensor([0, 0, 1, 1]), torch.zeros(4).long(), least=2)
    >>> found["accuracy"], found["mean"], found["label"]
    (50.0, 75.0, 1)
    >>> found["groups"], found["counted"]
    (2, 2)
    """
    pairs, group = _groups(labels, backgrounds)
    sizes = torch.bincount(group, minlength=len(pairs))
    right = torch.bincount(group, correct.double(), minlength=len(pairs))
    kept = (sizes >= least).nonzero()[:, 0]
    counts = {"groups": len(pairs), "counted": len(kept)}
    if not len(kept):
        return {**dict.fromkeys(("accuracy", "mean", "label", "background", "images")), **counts}
    shares = 100 * right[kept] / sizes[kept]
    worst = int(shares.argmin())
    label, background = pairs[kept[worst]].tolist()
    return {
        "accuracy": shares[worst].item(),
        "mean": shares.mean().item(),
        "label": label,
        "background": background,
        "images": int(sizes[kept[worst]]),
        **counts,
    }


def balanced(labels: Tensor, backgrounds: Tensor, *, seed: int = 0) -> Tensor | None:
    """A choice of images that shows every class on every kind of background equally often.

    Args:
        labels: (N,) int64 classes.
        backgrounds: (N,) int64 kinds of background.
        seed: Of the choice.

    Returns:
        (M,) int64 places, N / groups (at least one) of every group: some of a large group, all of
        a small one again and again. None where a class is not on every kind of background.

    Source: Kirichenko et al. 2023, deep feature reweighting (DFR), section 4: the last layer is
    fitted on group-balanced data. Departure: small groups are repeated instead of large ones cut
    to their size; one choice instead of the mean over several.

    >>> labels, backgrounds = torch.tensor([0] * 5 + [1] * 3), torch.tensor([0] * 4 + [1] * 4)
    >>> balanced(labels, backgrounds) is None
    True
    >>> backgrounds[5] = 0
    >>> chosen = balanced(labels, backgrounds)
    >>> (2 * labels + backgrounds)[chosen].tolist()
    [0, 0, 1, 1, 2, 2, 3, 3]
    """
    pairs, group = _groups(labels, backgrounds)
    classes, kinds = (len(torch.unique(own)) for own in (labels, backgrounds))
    if len(pairs) < classes * kinds:
        return None
    draw = generator(seed, "balanced")
    each = max(1, len(labels) // len(pairs))
    chosen = []
    for number in range(len(pairs)):
        own = (group == number).nonzero()[:, 0]
        shuffled = own[torch.randperm(len(own), generator=draw)]
        chosen.append(shuffled[torch.arange(each) % len(own)])
    return torch.cat(chosen)


def _groups(labels: Tensor, backgrounds: Tensor) -> tuple[Tensor, Tensor]:
    """Class and background of the groups that there are, (G, 2), and the group of each, (N,)."""
    pairs, group = torch.unique(torch.stack([labels, backgrounds], 1), dim=0, return_inverse=True)
    return pairs, group
