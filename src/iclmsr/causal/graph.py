# SPDX-License-Identifier: Apache-2.0
"""Causal graphs, d-separation and the back-door criterion."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import networkx as nx

from iclmsr.errors import IclmsrError, nearest

Nodes = str | Iterable[str]

SEMANTICS = "X_s"
POSITIVE = "X_i^{3-j}"
ANCHOR = "Y(X_i^{3-j})"


@dataclass(frozen=True)
class CausalGraph:
    """A directed acyclic graph whose edges run from cause to effect.

    Attributes:
        edges: Pairs (cause, effect); their order is the order of :meth:`parents`.
        nodes: All nodes in topological order. Those named in ``edges`` need not be given.

    Raises:
        IclmsrError: The edges form a cycle.

    Source: Pearl 2009, *Causality*, chapters 1 and 3. Departure: none.

    >>> fork = CausalGraph([("Z", "X"), ("Z", "Y")])
    >>> fork.d_separated("X", "Y"), fork.d_separated("X", "Y", given="Z")
    (False, True)
    """

    edges: Sequence[tuple[str, str]]
    nodes: Sequence[str] = ()
    _graph: nx.DiGraph = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        edges = tuple(dict.fromkeys((cause, effect) for cause, effect in self.edges))
        graph = nx.DiGraph()
        graph.add_nodes_from(self.nodes)
        graph.add_edges_from(edges)
        if not nx.is_directed_acyclic_graph(graph):
            cycle = nx.find_cycle(graph)
            loop = " -> ".join([cause for cause, _ in cycle] + [cycle[0][0]])
            raise IclmsrError(f"a causal graph has no cycle, got {loop}: remove an edge")
        # As near to the given order as can be, so that an intervention does not move any node.
        order = nx.lexicographical_topological_sort(graph, key=list(graph).index)
        object.__setattr__(self, "edges", edges)
        object.__setattr__(self, "nodes", tuple(order))
        object.__setattr__(self, "_graph", nx.freeze(graph))

    def _known(self, nodes: Nodes) -> set[str]:
        """The nodes as a set, refusing strangers."""
        named = {nodes} if isinstance(nodes, str) else set(nodes)
        strangers = sorted(named.difference(self.nodes))
        if strangers:
            hint = nearest(strangers[0], self.nodes)
            raise IclmsrError(f"no node {strangers[0]!r} in the graph: {hint}")
        return named

    def parents(self, node: str) -> tuple[str, ...]:
        """The direct causes of a node, in the order of the edges."""
        self._known(node)
        return tuple(cause for cause, effect in self.edges if effect == node)

    def d_separated(self, x: Nodes, y: Nodes, given: Nodes = ()) -> bool:
        """Whether ``given`` blocks every path between x and y, each a node or several.

        Raises:
            IclmsrError: An unknown node, or one that is in two of the three sets.
        """
        sets = self._known(x), self._known(y), self._known(given)
        twice = (sets[0] & sets[1]) | (sets[0] & sets[2]) | (sets[1] & sets[2])
        if twice:
            raise IclmsrError(f"d-separation needs three disjoint sets, got {sorted(twice)} twice")
        return bool(nx.is_d_separator(self._graph, *sets))

    def backdoor_paths(self, treatment: str, outcome: str) -> list[list[str]]:
        """The paths from treatment to outcome that begin with an arrow into the treatment."""
        self._known((treatment, outcome))
        paths = nx.all_simple_paths(self._graph.to_undirected(), treatment, outcome)
        causes = self.parents(treatment)
        return [list(path) for path in paths if path[1:] and path[1] in causes]

    def causal_paths(self, treatment: str, outcome: str) -> list[list[str]]:
        """The directed paths from treatment to outcome, along which the treatment acts."""
        self._known((treatment, outcome))
        return [list(path) for path in nx.all_simple_paths(self._graph, treatment, outcome)]

    def satisfies_backdoor(self, treatment: str, outcome: str, adjustment: Nodes) -> bool:
        """Whether the adjustment set identifies P(outcome | do(treatment)) by Eq. 1.

        It does when it holds no descendant of the treatment and blocks every back-door path.

        Raises:
            IclmsrError: An unknown node, or treatment or outcome in the adjustment set.

        Source: Pearl 2009, definition 3.3.1. Departure: none.

        >>> INSTANCE_DISCRIMINATION.satisfies_backdoor(POSITIVE, ANCHOR, {SEMANTICS})
        True
        >>> INSTANCE_DISCRIMINATION.satisfies_backdoor(POSITIVE, ANCHOR, ())
        False
        """
        kept = [edge for edge in self.edges if edge[0] != treatment]
        blocked = CausalGraph(kept, self.nodes).d_separated(treatment, outcome, adjustment)
        return blocked and not self._known(adjustment) & nx.descendants(self._graph, treatment)

    def do(self, nodes: Nodes) -> "CausalGraph":
        """The graph after an intervention on a node or several: nothing causes them any more."""
        cut = self._known(nodes)
        return CausalGraph([edge for edge in self.edges if edge[1] not in cut], self.nodes)


INSTANCE_DISCRIMINATION = CausalGraph(
    [(SEMANTICS, POSITIVE), (SEMANTICS, ANCHOR), (POSITIVE, ANCHOR)]
)
"""ICL-MSR's graph: the semantic information confounds a positive sample and its anchor.

Source: Qiang et al. 2022 (arXiv 2206.14702), section 3. Departure: none.
"""
