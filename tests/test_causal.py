# SPDX-License-Identifier: Apache-2.0
import itertools
import math
from dataclasses import FrozenInstanceError

import pytest
import torch

from iclmsr.causal import (
    ANCHOR,
    INSTANCE_DISCRIMINATION,
    POSITIVE,
    SEMANTICS,
    CausalGraph,
    DiscreteModel,
    backdoor_adjustment,
    describe,
    draw,
    estimate_backdoor,
)
from iclmsr.errors import IclmsrError
from iclmsr.seeds import generator

CHAIN = CausalGraph([("X", "M"), ("M", "Y")])
FORK = CausalGraph([("M", "X"), ("M", "Y")])
COLLIDER = CausalGraph([("X", "M"), ("Y", "M"), ("M", "W")])
M_BIAS = CausalGraph([("U1", "X"), ("U1", "M"), ("U2", "M"), ("U2", "Y"), ("X", "Y")])
FRONT_DOOR = CausalGraph([("U", "X"), ("U", "Y"), ("X", "M"), ("M", "Y")])
CONFOUNDED = CausalGraph([("Z", "X"), ("Z", "Y"), ("X", "Y"), ("X", "D"), ("Y", "D")])


def random_model(graph: CausalGraph, cards: dict[str, int], seed: int) -> DiscreteModel:
    """Random tables without a probability near 0."""
    source = generator(seed, "tables")
    tables = {}
    for node in graph.nodes:
        shape = [cards[name] for name in (*graph.parents(node), node)]
        table = 0.2 + torch.rand(shape, generator=source, dtype=torch.float64)
        tables[node] = table / table.sum(-1, keepdim=True)
    return DiscreteModel(graph, tables)


def interventional(model: DiscreteModel, treatment: str, outcome: str) -> torch.Tensor:
    """P(outcome | do(treatment)), (Y, X), from the mutilated models."""
    values = range(model.cards[treatment])
    return torch.stack([model.do({treatment: x}).probability(outcome) for x in values], 1)


def adjusted(model: DiscreteModel, treatment: str, outcome: str, strata: tuple[str, ...]):
    """The right side of Eq. 1, (Y, X), from the observational joint distribution."""
    nodes = list(model.graph.nodes)
    rest = [axis for axis, n in enumerate(nodes) if n not in (treatment, outcome, *strata)]
    joint = model.joint().sum(rest) if rest else model.joint()
    kept = [n for n in nodes if n in (treatment, outcome, *strata)]
    joint = joint.permute([kept.index(n) for n in (outcome, treatment, *strata)])
    joint = joint.reshape(*joint.shape[:2], -1)  # (Y, X, n)
    return backdoor_adjustment(joint / joint.sum(0), joint.sum((0, 1)))


@pytest.mark.parametrize(
    ("graph", "given", "separated"),
    [
        (CHAIN, (), False),
        (CHAIN, "M", True),
        (FORK, (), False),
        (FORK, "M", True),
        (COLLIDER, (), True),
        (COLLIDER, "M", False),
        (COLLIDER, "W", False),  # a descendant of the collider opens it too
        (M_BIAS.do("Y"), (), True),
        (M_BIAS.do("Y"), {"M"}, True),
    ],
)
def test_d_separation(graph, given, separated):
    assert graph.d_separated("X", "Y", given) is separated
    assert graph.d_separated("Y", "X", given) is separated


def test_d_separation_of_sets():
    assert FRONT_DOOR.d_separated({"X"}, ["Y"], given=("U", "M"))
    assert not FRONT_DOOR.d_separated({"X", "U"}, "Y", given="M")
    assert not M_BIAS.d_separated({"X", "U2"}, "U1", given=())


@pytest.mark.parametrize(
    ("graph", "adjustment", "verdict"),
    [
        (CONFOUNDED, (), False),
        (CONFOUNDED, "Z", True),
        (CONFOUNDED, {"Z", "D"}, False),  # D descends from the treatment
        (M_BIAS, (), True),
        (M_BIAS, "M", False),  # conditioning on the collider opens X <- U1 -> M <- U2 -> Y
        (M_BIAS, {"M", "U1"}, True),
        (M_BIAS, {"M", "U2"}, True),
        (FRONT_DOOR, (), False),
        (FRONT_DOOR, "U", True),
        (FRONT_DOOR, "M", False),
        (FRONT_DOOR, {"U", "M"}, False),
        (CHAIN, (), True),
        (CHAIN, "M", False),
    ],
)
def test_backdoor_criterion(graph, adjustment, verdict):
    assert graph.satisfies_backdoor("X", "Y", adjustment) is verdict


def test_backdoor_and_causal_paths():
    assert FRONT_DOOR.backdoor_paths("X", "Y") == [["X", "U", "Y"]]
    assert M_BIAS.backdoor_paths("X", "Y") == [["X", "U1", "M", "U2", "Y"]]
    assert CHAIN.backdoor_paths("X", "Y") == []
    assert CONFOUNDED.causal_paths("X", "D") == [["X", "Y", "D"], ["X", "D"]]
    assert FRONT_DOOR.causal_paths("X", "Y") == [["X", "M", "Y"]]


def test_graph_of_the_paper():
    graph = INSTANCE_DISCRIMINATION
    assert graph.nodes == ("X_s", "X_i^{3-j}", "Y(X_i^{3-j})")
    assert set(graph.edges) == {(SEMANTICS, POSITIVE), (SEMANTICS, ANCHOR), (POSITIVE, ANCHOR)}
    assert graph.backdoor_paths(POSITIVE, ANCHOR) == [[POSITIVE, SEMANTICS, ANCHOR]]
    assert graph.satisfies_backdoor(POSITIVE, ANCHOR, {SEMANTICS})
    assert not graph.satisfies_backdoor(POSITIVE, ANCHOR, ())


def test_intervention_cuts_incoming_edges_and_keeps_the_order_of_nodes():
    graph = FRONT_DOOR.do("M")
    assert graph.edges == (("U", "X"), ("U", "Y"), ("M", "Y"))
    assert graph.nodes == FRONT_DOOR.nodes
    assert graph.parents("Y") == FRONT_DOOR.parents("Y") == ("U", "M")
    assert FRONT_DOOR.do(["X", "Y"]).edges == (("X", "M"),)


def test_graph_is_a_value():
    assert CausalGraph([("X", "Y")], ["Z"]) == CausalGraph((("X", "Y"), ("X", "Y")), ("Z",))
    assert len({CHAIN, FORK, CausalGraph(CHAIN.edges)}) == 2
    assert CausalGraph(iter([("X", "Y")]), iter(["Z"])).nodes == ("Z", "X", "Y")
    with pytest.raises(FrozenInstanceError):
        CHAIN.edges = ()


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: CausalGraph([("A", "B"), ("B", "C"), ("C", "A")]), "A -> B -> C -> A"),
        (lambda: CausalGraph([("A", "A")]), "A -> A"),
        (lambda: CHAIN.parents("Q"), "no node 'Q'"),
        (lambda: CHAIN.d_separated("X", "Z"), "no node 'Z'"),
        (lambda: CHAIN.d_separated("X", "Y", "Y"), r"\['Y'\]"),
        (lambda: CHAIN.d_separated({"X", "M"}, {"Y", "M"}), r"\['M'\]"),
        (lambda: CHAIN.satisfies_backdoor("X", "Y", {"X"}), r"\['X'\]"),
        (lambda: CHAIN.backdoor_paths("X", "Z"), "no node 'Z'"),
        (lambda: CHAIN.do("W"), "no node 'W'"),
    ],
)
def test_graph_errors(act, message):
    with pytest.raises(IclmsrError, match=message) as caught:
        act()
    assert "\n" not in str(caught.value)


def test_adjustment_equals_a_double_loop():
    source = generator(0, "adjustment")
    table = torch.rand(3, 2, 4, generator=source, dtype=torch.float64)
    p_z = torch.rand(4, generator=source, dtype=torch.float64)
    result = backdoor_adjustment(table, p_z)
    for y, x in itertools.product(range(3), range(2)):
        expected = sum(float(table[y, x, t] * p_z[t]) for t in range(4))
        assert result[y, x].item() == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_adjustment_keeps_the_dtype(dtype):
    assert (
        backdoor_adjustment(torch.ones(2, 4, dtype=dtype), torch.ones(4, dtype=dtype)).dtype
        == dtype
    )


def test_adjustment_is_differentiable():
    source = generator(1, "adjustment")
    table = torch.rand(3, 2, 4, generator=source, dtype=torch.float64, requires_grad=True)
    p_z = torch.rand(4, generator=source, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(backdoor_adjustment, (table, p_z))
    assert torch.autograd.gradgradcheck(backdoor_adjustment, (table, p_z))


@pytest.mark.parametrize("p_z", [torch.ones(3), torch.ones(1), torch.ones(4, 1), torch.tensor(1.0)])
def test_adjustment_refuses_other_strata(p_z):
    with pytest.raises(IclmsrError, match="p_z must have shape"):
        backdoor_adjustment(torch.ones(2, 4), p_z)


@pytest.mark.parametrize("seed", range(12))
def test_adjustment_equals_the_mutilated_model_on_random_graphs(seed):
    """Eq. 1 holds for every set that satisfies the criterion, so both sides check each other."""
    source = generator(seed, "edges")
    pairs = list(itertools.combinations("ABCDE", 2))
    drawn = torch.rand(len(pairs), generator=source) < 0.5
    graph = CausalGraph([pair for pair, keep in zip(pairs, drawn, strict=True) if keep], "ABCDE")
    model = random_model(graph, dict(zip("ABCDE", (2, 3, 2, 3, 2), strict=True)), seed)
    tried = 0
    for treatment, outcome in itertools.permutations("ABCDE", 2):
        rest = [node for node in "ABCDE" if node not in (treatment, outcome)]
        truth = interventional(model, treatment, outcome)
        for size in range(len(rest) + 1):
            for strata in itertools.combinations(rest, size):
                if graph.satisfies_backdoor(treatment, outcome, strata):
                    error = adjusted(model, treatment, outcome, strata) - truth
                    assert error.abs().max() < 1e-12
                    tried += 1
    assert tried >= 10


@pytest.mark.parametrize(
    ("graph", "strata"),
    [(CONFOUNDED, ()), (CONFOUNDED, ("Z", "D")), (M_BIAS, ("M",)), (FRONT_DOOR, ("M",))],
)
def test_adjustment_is_wrong_where_the_criterion_fails(graph, strata):
    model = random_model(graph, dict.fromkeys(graph.nodes, 2), seed=3)
    error = adjusted(model, "X", "Y", strata) - interventional(model, "X", "Y")
    assert error.abs().max() > 1e-4


def paper_model() -> DiscreteModel:
    """Three semantics, two positives, three anchors: background decides most of both."""
    tables = {
        SEMANTICS: [0.5, 0.3, 0.2],
        POSITIVE: [[0.9, 0.1], [0.4, 0.6], [0.1, 0.9]],
        ANCHOR: [
            [[0.8, 0.1, 0.1], [0.6, 0.3, 0.1]],
            [[0.2, 0.6, 0.2], [0.1, 0.8, 0.1]],
            [[0.2, 0.1, 0.7], [0.1, 0.1, 0.8]],
        ],
    }
    doubles = {node: torch.tensor(rows, dtype=torch.float64) for node, rows in tables.items()}
    return DiscreteModel(INSTANCE_DISCRIMINATION, doubles)


def test_exact_probabilities_of_the_paper_model_by_hand():
    model = paper_model()
    do = interventional(model, POSITIVE, ANCHOR)
    assert do[0, 0].item() == pytest.approx(0.5 * 0.8 + 0.3 * 0.2 + 0.2 * 0.2, abs=1e-15)
    seen = model.probability(ANCHOR, {POSITIVE: 0})
    weights = (0.45, 0.12, 0.02)  # P(X_s) P(X = 0 | X_s)
    by_hand = (weights[0] * 0.8 + weights[1] * 0.2 + weights[2] * 0.2) / sum(weights)
    assert seen[0].item() == pytest.approx(by_hand, abs=1e-15)
    error = adjusted(model, POSITIVE, ANCHOR, (SEMANTICS,)) - do
    assert error.abs().max() < 1e-12
    assert model.joint().sum().item() == pytest.approx(1, abs=1e-15)


def test_adjustment_recovers_the_intervention_from_observations():
    """Within 4 standard errors, and the plain conditional is more than 50 of them away."""
    model, count = paper_model(), 200_000
    samples = model.sample(count, generator(0, "observations"))
    truth = interventional(model, POSITIVE, ANCHOR)  # (Y, X)
    estimate = estimate_backdoor(samples, POSITIVE, ANCHOR, {SEMANTICS}, model.cards)
    observed = estimate_backdoor(samples, POSITIVE, ANCHOR, (), model.cards)

    # The estimator's asymptotic variance: that of its influence function, exactly.
    p_z, p_x_z = model.tables[SEMANTICS], model.tables[POSITIVE].T  # (n,), (X, n)
    p_y_xz = model.tables[ANCHOR].permute(2, 1, 0)  # (Y, X, n)
    within = p_y_xz * (1 - p_y_xz) / p_x_z
    variance = backdoor_adjustment(within + (p_y_xz - truth[..., None]).square(), p_z)
    standard_error = (variance / count).sqrt()

    assert ((estimate - truth).abs() < 4 * standard_error).all()
    assert ((observed - truth).abs() / standard_error).max() > 50
    assert torch.allclose(estimate.sum(0), torch.ones(2, dtype=torch.float64))


def test_empirical_conditional_is_the_estimate_without_strata():
    samples = {"X": torch.tensor([0, 0, 0, 1]), "Y": torch.tensor([0, 1, 1, 0])}
    result = estimate_backdoor(samples, "X", "Y", (), {"X": 2, "Y": 2})
    assert torch.allclose(result, torch.tensor([[1 / 3, 1], [2 / 3, 0]], dtype=torch.float64))


def test_samples_follow_the_joint_distribution():
    model, count = random_model(FRONT_DOOR, {"U": 2, "X": 3, "M": 2, "Y": 3}, seed=5), 100_000
    samples = model.sample(count, generator(1, "observations"))
    cell = torch.zeros(count, dtype=torch.int64)
    for node in FRONT_DOOR.nodes:
        assert samples[node].shape == (count,)
        assert samples[node].dtype == torch.int64
        cell = cell * model.cards[node] + samples[node]
    expected = count * model.joint().flatten()
    found = torch.bincount(cell, minlength=len(expected))
    chi_squared = ((found - expected).square() / expected).sum().item()
    freedom = len(expected) - 1
    assert chi_squared < freedom + 4 * math.sqrt(2 * freedom)


def test_samples_come_from_the_generator_alone():
    model = paper_model()
    state = torch.get_rng_state()
    first, second = (model.sample(50, generator(3, "s")) for _ in range(2))
    other = model.sample(50, generator(4, "s"))
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(first[node], second[node]) for node in model.graph.nodes)
    assert not torch.equal(first[ANCHOR], other[ANCHOR])


def test_an_intervened_node_is_always_its_value():
    samples = paper_model().do({POSITIVE: 1}).sample(1000, generator(0, "s"))
    assert samples[POSITIVE].eq(1).all()
    assert set(samples[SEMANTICS].tolist()) == {0, 1, 2}


def test_several_strata_and_interventions_at_once():
    graph = CausalGraph([("V", "X"), ("W", "X"), ("V", "Y"), ("W", "Y"), ("X", "Y")])
    model = random_model(graph, {"V": 2, "W": 3, "X": 2, "Y": 2}, seed=1)
    samples = model.sample(100_000, generator(2, "s"))
    estimate = estimate_backdoor(samples, "X", "Y", ("V", "W"), model.cards)
    assert (estimate - interventional(model, "X", "Y")).abs().max() < 0.01
    both = model.do({"X": 1, "V": 0}).probability("Y")
    expected = backdoor_adjustment(model.tables["Y"][0, :, 1].T, model.tables["W"])
    assert torch.allclose(both, expected, atol=1e-12)


SAMPLES = {"X": torch.tensor([0, 1, 0]), "Y": torch.tensor([0, 1, 1]), "Z": torch.tensor([0, 0, 2])}
CARDS = {"X": 2, "Y": 2, "Z": 3, "W": 2}


def test_a_stratum_without_the_treatment_is_named():
    with pytest.raises(IclmsrError, match="no sample has X=1 with Z=2"):
        estimate_backdoor(SAMPLES, "X", "Y", "Z", CARDS)
    samples = {**SAMPLES, "W": torch.tensor([0, 0, 1])}
    with pytest.raises(IclmsrError, match="no sample has X=1 with W=1, Z=2"):
        estimate_backdoor(samples, "X", "Y", ["W", "Z"], CARDS)
    with pytest.raises(IclmsrError, match="no sample has X=2 with any"):
        estimate_backdoor(SAMPLES, "X", "Y", (), {"X": 3, "Y": 2})


def test_a_stratum_that_never_occurs_has_no_weight():
    samples = {name: values[:2] for name, values in SAMPLES.items()}  # Z is 0 throughout
    result = estimate_backdoor(samples, "X", "Y", "Z", CARDS)
    assert result.tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (
            lambda: estimate_backdoor(SAMPLES, "X", "Y", "Z", {**CARDS, "Z": 2}),
            r"'Z' .* got 0\.\.2",
        ),
        (
            lambda: estimate_backdoor(
                {"X": torch.tensor([]), "Y": torch.tensor([])}, "X", "Y", (), CARDS
            ),
            "got no sample",
        ),
        (lambda: DiscreteModel(FORK, {"M": torch.ones(1)}), r"\['X', 'Y'\]"),
        (
            lambda: DiscreteModel(CausalGraph([], ["A"]), {"A": torch.tensor([0.5, 0.4])}),
            "sum to 1, .* 0.9 to 0.9",
        ),
        (lambda: DiscreteModel(CausalGraph([], ["A"]), {"A": torch.tensor([1.5, -0.5])}), "-0.5"),
        (lambda: DiscreteModel(CausalGraph([], ["A"]), {"A": torch.tensor([math.nan])}), "nan"),
        (
            lambda: DiscreteModel(
                CausalGraph([("A", "B")]),
                {"A": torch.full((3,), 1 / 3), "B": torch.full((2, 4), 0.25)},
            ),
            r"'B' must have shape \(3, 4\) .* got \(2, 4\)",
        ),
        (lambda: paper_model().do({POSITIVE: 2}), r"takes values 0\.\.1, got 2"),
        (lambda: paper_model().do({"Q": 0}), "no node 'Q'"),
        (lambda: paper_model().probability("Q"), "no node 'Q'"),
        (lambda: paper_model().probability(ANCHOR, {ANCHOR: 0}), "itself given"),
        (
            lambda: paper_model().do({POSITIVE: 1}).probability(ANCHOR, {POSITIVE: 0}),
            "probability 0",
        ),
    ],
)
def test_model_errors(act, message):
    with pytest.raises(IclmsrError, match=message) as caught:
        act()
    assert "\n" not in str(caught.value)


def test_description_of_the_paper_graph():
    assert describe(INSTANCE_DISCRIMINATION) == (
        "Nodes\n"
        "  X_s           semantic information, a confounder\n"
        "  X_i^{3-j}     positive sample: the other view of image i\n"
        "  Y(X_i^{3-j})  its anchor, read as the label of the instance-discrimination task\n"
        "\n"
        "Edges\n"
        "  X_s          -> X_i^{3-j}\n"
        "  X_s          -> Y(X_i^{3-j})\n"
        "  X_i^{3-j}    -> Y(X_i^{3-j})\n"
        "\n"
        "Back-door paths from X_i^{3-j} to Y(X_i^{3-j})\n"
        "  X_i^{3-j} <- X_s -> Y(X_i^{3-j})\n"
        "\n"
        "Back-door criterion\n"
        "  {}            not satisfied\n"
        "  {X_s}         satisfied\n"
        "\n"
        "Back-door adjustment, X = X_i^{3-j} and Y = Y(X_i^{3-j})\n"
        "  P(Y | do(X)) = sum_t P(Y | X, Z_s^t) P(Z_s^t)    (1)\n"
        "  with Z_s^1 .. Z_s^n the strata of X_s"
    )


def test_description_of_other_graphs():
    text = describe(M_BIAS, treatment="X", outcome="Y")
    assert "  X <- U1 -> M <- U2 -> Y" in text
    assert "P(Y | do(X)) = P(Y | X)" in text
    backwards = describe(CHAIN, treatment="Y", outcome="X")
    assert "  Y <- M <- X" in backwards
    assert "strata of M" in backwards
    direct = describe(CausalGraph([("Y", "X")]), treatment="X", outcome="Y")
    assert "no set of direct causes" in direct
    assert "\n  none\n" in describe(CHAIN, treatment="X", outcome="Y")
    with pytest.raises(IclmsrError, match="no node"):
        describe(CHAIN)


def test_drawing(tmp_path):
    draw(INSTANCE_DISCRIMINATION, tmp_path / "scm.png")
    assert (tmp_path / "scm.png").read_bytes().startswith(b"\x89PNG")
    draw(INSTANCE_DISCRIMINATION, tmp_path / "scm.svg")
    svg = (tmp_path / "scm.svg").read_text().lower()
    assert "#d55e00" in svg
    assert "#0072b2" in svg
    draw(CausalGraph([], ["X", "Y"]), tmp_path / "bare.svg", treatment="X", outcome="Y")
    assert "#d55e00" not in (tmp_path / "bare.svg").read_text().lower()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["bare.svg", "scm.png", "scm.svg"]


def test_drawing_errors_leave_nothing(tmp_path):
    with pytest.raises(IclmsrError, match=r"scm\.doc: end its name in \.png"):
        draw(INSTANCE_DISCRIMINATION, tmp_path / "scm.doc")
    with pytest.raises(IclmsrError, match="cannot write"):
        draw(INSTANCE_DISCRIMINATION, tmp_path / "absent" / "scm.png")
    with pytest.raises(IclmsrError, match="no node"):
        draw(CHAIN, tmp_path / "scm.png")
    assert list(tmp_path.iterdir()) == []
