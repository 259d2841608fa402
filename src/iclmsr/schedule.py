# SPDX-License-Identifier: Apache-2.0
"""Which update comes when, and how far a run is."""

import math
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from iclmsr.config import PretrainConfig


class Update(NamedTuple):
    """One update of an epoch's plan: of ``theta`` (stage 1), ``psi`` (stage 2), or ``both``."""

    kind: Literal["theta", "psi", "both"]
    batch: int


def plan(config: PretrainConfig, batches: int, epoch: int) -> list[Update]:
    """The updates of one epoch in order.

    Args:
        config: The run.
        batches: Batches in an epoch.
        epoch: Index of the epoch.

    Returns:
        Schedule ``epoch``: stage 1 over all batches, then stage 2 over the first
        ``ceil(fraction * batches)`` of the epoch's random order. ``interleaved``: every
        ``every_steps``-th step of stage 1 is one of both stages, on the same batch. Stage 1 alone
        where psi is not learnt by stage 2.

    Source: ICL-MSR, two stages per epoch. Departure: the fraction and the interleaving.

    >>> from iclmsr.config import MSRConfig
    >>> msr = MSRConfig(enabled=True, schedule="epoch", fraction=0.5)
    >>> [tuple(update) for update in plan(PretrainConfig(msr=msr), 2, 0)]
    [('theta', 0), ('theta', 1), ('psi', 0)]
    """
    msr = config.msr
    theta = [Update("theta", batch) for batch in range(batches)]
    if not msr.enabled or msr.learnt != "stage-2" or epoch < msr.start_epoch:
        return theta
    if msr.schedule == "epoch":
        return theta + [Update("psi", batch) for batch in range(math.ceil(msr.fraction * batches))]
    return [
        Update("theta" if (batch + 1) % msr.every_steps else "both", batch)
        for batch in range(batches)
    ]


def batches_of(config: PretrainConfig, batches: int, update: Update) -> list[int]:
    """The batches of the epoch that an update sees.

    Args:
        config: The run.
        batches: Batches in an epoch.
        update: The update.

    Returns:
        Its own, and for a stage 2 with ``outer_batch`` "fresh" the next one.

    Source: ICL-MSR, stage 2 on the epoch's own batches. Departure: "fresh".

    >>> batches_of(PretrainConfig(), 3, Update("both", 2))
    [2]
    """
    if update.kind == "theta" or config.msr.outer_batch == "same":
        return [update.batch]
    return [update.batch, (update.batch + 1) % batches]


@dataclass
class Position:
    """How far a run is, and what it will say of the epoch that is under way.

    Attributes:
        epoch: Epochs done.
        item: Updates of the current epoch's plan done.
        step: Steps of theta done in the run.
        updates: Updates of either kind done in the run.
        sums: For each loss its sum over the epoch so far and how many were added.
        health: Of the epoch's last step of theta, once it is done.
        metrics_size: Bytes of metrics.jsonl that belong to what is done.
        ranks: How many there were when the current epoch began: its order stays as it was.
        weights_size: Bytes of weights.jsonl that belong to what is done.
        replaced: Images that metrics.jsonl says do not decode, by their place in the set, sorted.
    """

    epoch: int = 0
    item: int = 0
    step: int = 0
    updates: int = 0
    sums: dict[str, list[float]] = field(default_factory=dict)
    health: dict[str, float] = field(default_factory=dict)
    metrics_size: int = 0
    ranks: int = 1
    weights_size: int = 0
    replaced: list[int] = field(default_factory=list)

    def add(self, losses: dict[str, float]) -> None:
        """Counts one update's losses."""
        for name, value in losses.items():
            entry = self.sums.setdefault(name, [0.0, 0])
            entry[0] += value
            entry[1] += 1

    def means(self) -> dict[str, float]:
        """Mean of each loss over the epoch so far, in nats."""
        return {name: total / count for name, (total, count) in self.sums.items()}
