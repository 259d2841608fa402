# SPDX-License-Identifier: Apache-2.0
"""The back-door adjustment (Eq. 1), and discrete models in which both its sides are known."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from iclmsr.causal.graph import CausalGraph, Nodes
from iclmsr.errors import IclmsrError


def backdoor_adjustment(p_y_given_xz: Tensor, p_z: Tensor) -> Tensor:
    """P(Y | do(X)) = sum_t P(Y | X, Z^t) P(Z^t), differentiable in both arguments.

    Args:
        p_y_given_xz: (..., n) probabilities in [0, 1], the n strata of Z last; often (Y, X, n).
        p_z: (n,) probabilities of the strata, which sum to 1.

    Returns:
        (...) probabilities in [0, 1].

    Raises:
        IclmsrError: ``p_z`` has not one entry for each stratum.

    Source: Qiang et al. 2022 (arXiv 2206.14702), Eq. 1. Departure: none.

    >>> backdoor_adjustment(torch.tensor([0.5, 1.0]), torch.tensor([0.25, 0.75])).item()
    0.875
    """
    if p_z.ndim != 1 or p_y_given_xz.shape[-1:] != p_z.shape:
        raise IclmsrError(
            f"p_z must have shape (n,) for p_y_given_xz of shape (..., n), "
            f"got {tuple(p_z.shape)} for {tuple(p_y_given_xz.shape)}"
        )
    return (p_y_given_xz * p_z).sum(-1)


@dataclass(frozen=True, eq=False)
class DiscreteModel:
    """A causal graph of discrete variables with the probabilities that go with it.

    Attributes:
        graph: The causal graph.
        tables: For each node P(node | parents), shape (cards of graph.parents(node), card of
            node), rows in [0, 1] that sum to 1 within 1e-6. Held as float64.

    Raises:
        IclmsrError: A table is missing or too many, or has the wrong shape, or a bad row.

    Source: Pearl 2009, section 1.3 (truncated factorization). Departure: none.

    >>> coin = DiscreteModel(CausalGraph([], ["Y"]), {"Y": torch.tensor([0.25, 0.75])})
    >>> coin.probability("Y").tolist()
    [0.25, 0.75]
    """

    graph: CausalGraph
    tables: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        if set(self.tables) != set(self.graph.nodes):
            odd = sorted(set(self.tables) ^ set(self.graph.nodes))
            raise IclmsrError(f"each node needs one table, got a mismatch in {odd}")
        tables = {node: self.tables[node].double() for node in self.graph.nodes}
        object.__setattr__(self, "tables", tables)
        for node, table in tables.items():
            shape = tuple(self.cards[name] for name in (*self.graph.parents(node), node))
            if table.shape != shape:
                raise IclmsrError(
                    f"table of {node!r} must have shape {shape} (parents "
                    f"{self.graph.parents(node)}, then the node), got {tuple(table.shape)}"
                )
            sums = table.sum(-1)
            if not (table.min() >= 0 and bool(((sums - 1).abs() <= 1e-6).all())):
                raise IclmsrError(
                    f"rows of the table of {node!r} must be >= 0 and sum to 1, got a smallest "
                    f"entry of {table.min():.6g} and sums {sums.min():.6g} to {sums.max():.6g}"
                )

    @property
    def cards(self) -> dict[str, int]:
        """How many values each node has."""
        return {node: table.shape[-1] for node, table in self.tables.items()}

    def sample(self, count: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Draws ``count`` independent cases: for each node its values, (count,) int64."""
        drawn: dict[str, Tensor] = {}
        for node in self.graph.nodes:
            cumulative = self.tables[node].cumsum(-1)[..., :-1]
            causes = tuple(drawn[parent] for parent in self.graph.parents(node))
            thresholds = cumulative[causes] if causes else cumulative
            uniform = torch.rand(count, 1, generator=generator, dtype=torch.float64)
            drawn[node] = (uniform >= thresholds).sum(-1)
        return drawn

    def _checked(self, values: Mapping[str, int]) -> Mapping[str, int]:
        """The values themselves, refusing unknown nodes and values that a node has not."""
        self.graph._known(values)
        for node, value in values.items():
            if not 0 <= value < self.cards[node]:
                raise IclmsrError(f"{node!r} takes values 0..{self.cards[node] - 1}, got {value}")
        return values

    def do(self, values: Mapping[str, int]) -> "DiscreteModel":
        """The model after an intervention that sets each node to its value."""
        forced = {
            node: torch.arange(self.cards[node]).eq(value).double()
            for node, value in self._checked(values).items()
        }
        return DiscreteModel(self.graph.do(forced), {**self.tables, **forced})

    def joint(self) -> Tensor:
        """The exact joint distribution, one axis for each of ``graph.nodes`` in their order."""
        axis = {node: position for position, node in enumerate(self.graph.nodes)}
        operands: list[Tensor | list[int]] = []
        for node, table in self.tables.items():
            operands += [table, [axis[name] for name in (*self.graph.parents(node), node)]]
        return torch.einsum(*operands, list(axis.values()))

    def probability(self, outcome: str, given: Mapping[str, int] | None = None) -> Tensor:
        """The exact P(outcome | given), (card of outcome,).

        Raises:
            IclmsrError: Unknown node or value, outcome in ``given``, or a ``given`` that has
                probability 0.
        """
        given = self._checked(given or {})
        if outcome in self.graph._known(outcome).intersection(given):
            raise IclmsrError(f"outcome {outcome!r} is itself given: leave it out of given")
        joint = self.joint()
        for axis, node in enumerate(self.graph.nodes):
            if node in given:
                joint = joint.narrow(axis, given[node], 1)
            if node != outcome:
                joint = joint.sum(axis, keepdim=True)
        total = joint.sum()
        if total == 0:
            raise IclmsrError(f"the condition {dict(given)} has probability 0: choose another")
        return joint.flatten() / total


def estimate_backdoor(
    samples: Mapping[str, Tensor],
    treatment: str,
    outcome: str,
    adjustment: Nodes,
    cards: Mapping[str, int],
) -> Tensor:
    """P(outcome | do(treatment)) from observations alone, by Eq. 1 on empirical frequencies.

    The estimate is right only if the adjustment set satisfies the back-door criterion; with an
    empty set it is the empirical P(outcome | treatment).

    Args:
        samples: For each node its observed values, (count,) int64.
        treatment: X.
        outcome: Y.
        adjustment: The nodes Z; each combination of their values is one stratum.
        cards: How many values each of these nodes has.

    Returns:
        (card of outcome, card of treatment) float64, columns that sum to 1.

    Raises:
        IclmsrError: No sample at all, a value outside its card, or a stratum that occurs without
            one of the treatment's values, so that P(Y | X, Z) cannot be estimated.

    Source: Qiang et al. 2022 (arXiv 2206.14702), Eq. 1. Departure: none.

    >>> z = x = torch.tensor([0, 0, 1, 1])
    >>> x, y = torch.tensor([0, 1, 0, 1]), torch.tensor([0, 1, 1, 1])
    >>> cards = {"X": 2, "Y": 2, "Z": 2}
    >>> estimate_backdoor({"X": x, "Y": y, "Z": z}, "X", "Y", "Z", cards).tolist()
    [[0.5, 0.0], [0.5, 1.0]]
    """
    strata = [adjustment] if isinstance(adjustment, str) else list(adjustment)
    cell = torch.zeros_like(samples[outcome])
    for node in (outcome, treatment, *strata):
        values = samples[node]
        if not len(values) or values.min() < 0 or values.max() >= cards[node]:
            found = f"{values.min()}..{values.max()}" if len(values) else "no sample"
            raise IclmsrError(f"samples of {node!r} must be in 0..{cards[node] - 1}, got {found}")
        cell = cell * cards[node] + values
    shape = cards[outcome], cards[treatment], math.prod(cards[node] for node in strata)
    counts = torch.bincount(cell, minlength=math.prod(shape)).reshape(shape).double()  # (Y, X, n)
    seen = counts.sum(0)  # (X, n)
    occurs = seen.sum(0) > 0  # (n,)
    for x, t in ((seen == 0) & occurs).nonzero().tolist():
        sizes = [cards[node] for node in strata]
        place = torch.unravel_index(torch.tensor(t), sizes) if sizes else ()
        stratum = ", ".join(f"{n}={int(v)}" for n, v in zip(strata, place, strict=True))
        raise IclmsrError(
            f"no sample has {treatment}={x} with {stratum or 'any value of the rest'}: "
            f"P(Y | X, Z) has no estimate there, draw more samples or merge strata"
        )
    return backdoor_adjustment((counts / seen)[..., occurs], (seen.sum(0) / len(cell))[occurs])
