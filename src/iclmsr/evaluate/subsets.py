# SPDX-License-Identifier: Apache-2.0
"""Parts of a labelled set in which each class has its share."""

import torch
from torch import Tensor

from iclmsr.seeds import generator


def stratified(labels: Tensor, share: float, *, seed: int, purpose: str, draw: int = 0) -> Tensor:
    """Images drawn at random, the same share of every class and at least one.

    Args:
        labels: (N,) int64 >= 0.
        share: In (0, 1]; of n images of a class round(share * n) are drawn.
        seed: Any integer.
        purpose: What they are drawn for; other purposes see other numbers.
        draw: Which of several draws.

    Returns:
        Their places (M,), ascending.

    Source: none. Departure: none.

    >>> labels = torch.tensor([0] * 10 + [1] * 20 + [2])
    >>> labels[stratified(labels, 0.1, seed=0, purpose="few-labels")].tolist()
    [0, 1, 1, 2]
    """
    source = generator(seed, purpose, "draw", draw)
    chosen = []
    for label in labels.bincount().nonzero()[:, 0].tolist():
        places = (labels == label).nonzero()[:, 0]
        count = max(1, round(share * len(places)))
        order = torch.randperm(len(places), generator=source)
        chosen.append(places[order[:count].to(places.device)])
    return torch.cat(chosen).sort().values


def held_out(labels: Tensor, share: float, *, seed: int, purpose: str) -> tuple[Tensor, Tensor]:
    """Two parts of a set: one to learn from with every class in it, one to choose on.

    Args:
        labels: (N,) int64 >= 0.
        share: Of each class's images that is held out, in (0, 1); at least one, but not the
            only one that a class has.
        seed: Any integer.
        purpose: What they are drawn for.

    Returns:
        Places (N - M,) to learn from and (M,) held out, ascending; M is 0 where every class
        has one image.

    Source: none. Departure: none.

    >>> kept, out = held_out(torch.tensor([0, 0, 1]), 0.2, seed=0, purpose="validation")
    >>> len(kept), len(out)
    (2, 1)
    """
    out = stratified(labels, share, seed=seed, purpose=purpose)
    counts = labels.bincount()
    taken = labels[out].bincount(minlength=len(counts))
    emptied = ((taken == counts) & (counts > 0)).nonzero()[:, 0]
    for label in emptied.tolist():  # the last image of a class stays
        own = (labels[out] == label).nonzero()[:, 0]
        out = out[torch.arange(len(out), device=out.device) != own[-1]]
    kept = torch.ones(len(labels), dtype=torch.bool, device=labels.device)
    kept[out] = False
    return kept.nonzero()[:, 0], out
