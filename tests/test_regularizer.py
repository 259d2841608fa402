# SPDX-License-Identifier: Apache-2.0
import copy
import itertools
import math

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from iclmsr.causal import backdoor_adjustment
from iclmsr.errors import IclmsrError
from iclmsr.regularizer import MetaSemanticRegularizer, interventional_loss

SHAPES = {"shared": (), "per image": (5,), "per image and view": (3, 5)}


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum() / (a.norm() * b.norm())


def naive(online, target, weights, temperature, negatives, prior):
    """Eq. 2 and 3 term by term: views, images, strata, negatives."""
    views, batch, _ = online.shape
    total = 0.0
    for j, l in itertools.permutations(range(views), 2):
        for i in range(batch):
            own = {2: weights, 3: weights[i] if weights.ndim == 3 else None}.get(weights.ndim)
            strata = weights[l, i] if weights.ndim == 4 else own
            denominator = 0.0
            for k in range(batch):
                if k != i:
                    for view in (l,) if negatives == "other_view" else (l, j):
                        denominator += math.exp(cosine(online[j, i], target[view, k]) / temperature)
            probability = 0.0
            for t, a_t in enumerate(strata):
                hit = math.exp(cosine(online[j, i], a_t * target[l, i]) / temperature)
                probability += prior[t] * hit / (hit + denominator)
            total -= math.log(probability)
    return total / (views * (views - 1) * batch)


def inputs(views=3, batch=5, dim=4, strata=6, lead=()):
    generator = torch.Generator().manual_seed(1)
    online = torch.randn(views, batch, dim, generator=generator, dtype=torch.float64)
    target = torch.randn(views, batch, dim, generator=generator, dtype=torch.float64)
    weights = torch.rand(*lead, strata, dim, generator=generator, dtype=torch.float64)
    logits = torch.randn(strata, generator=generator, dtype=torch.float64)
    return online, target, weights, logits.log_softmax(0)


@pytest.mark.parametrize("views", [2, 3])
@pytest.mark.parametrize("own_target", [True, False])
@pytest.mark.parametrize("learned", [True, False])
@pytest.mark.parametrize("negatives", ["other_view", "both_views"])
@pytest.mark.parametrize("kind", SHAPES)
def test_equals_the_naive_loops(kind, negatives, learned, own_target, views):
    lead = (views, 5) if kind == "per image and view" else SHAPES[kind]
    online, target, weights, log_prior = inputs(views=views, lead=lead)
    target = target if own_target else online
    prior = log_prior.exp().tolist() if learned else [1 / 6] * 6
    for temperature in (0.07, 0.5, 2.0):
        value = interventional_loss(
            online,
            target,
            weights,
            temperature=temperature,
            negatives=negatives,
            log_prior=log_prior if learned else None,
        )
        expected = naive(online, target, weights, temperature, negatives, prior)
        assert value.item() == pytest.approx(expected, abs=1e-12, rel=1e-12)


def test_is_infonce_for_one_stratum_of_ones():
    online, target, _, _ = inputs(views=2)
    ones = torch.ones(1, 4, dtype=torch.float64)
    expected = 0.0
    for j, l in ((0, 1), (1, 0)):
        logits = F.normalize(online[j], dim=1) @ F.normalize(target[l], dim=1).T / 0.3
        expected += F.cross_entropy(logits, torch.arange(5)).item() / 2
    value = interventional_loss(online, target, ones, temperature=0.3)
    assert value.item() == pytest.approx(expected, abs=1e-14)


def test_is_the_back_door_adjustment_over_the_strata():
    online, target, weights, log_prior = inputs(views=2)
    per_stratum = []
    for a_t in weights:  # minus log P for each stratum alone, every image separately
        others = [naive_image(online, target, a_t, i) for i in range(5)]
        per_stratum.append(torch.tensor(others, dtype=torch.float64))
    probability = backdoor_adjustment(torch.stack(per_stratum, dim=1), log_prior.exp())
    value = interventional_loss(online, target, weights, temperature=0.5, log_prior=log_prior)
    both = backdoor_adjustment(
        torch.stack([flipped(online, target, a_t) for a_t in weights], dim=1), log_prior.exp()
    )
    expected = -(probability.log().mean() + both.log().mean()) / 2
    assert value.item() == pytest.approx(expected.item(), abs=1e-12)


def naive_image(online, target, a_t, i, j=0, l=1):
    hit = math.exp(cosine(online[j, i], a_t * target[l, i]) / 0.5)
    rest = sum(math.exp(cosine(online[j, i], target[l, k]) / 0.5) for k in range(5) if k != i)
    return hit / (hit + rest)


def flipped(online, target, a_t):
    values = [naive_image(online, target, a_t, i, j=1, l=0) for i in range(5)]
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("negatives", ["other_view", "both_views"])
@pytest.mark.parametrize("lead", [(), (3,), (2, 3)])
def test_gradients(lead, negatives):
    online, target, weights, log_prior = inputs(views=2, batch=3, strata=2, lead=lead)
    tensors = [tensor.requires_grad_() for tensor in (online, target, weights, log_prior)]

    def loss(online, target, weights, log_prior):
        return interventional_loss(
            online, target, weights, temperature=0.4, negatives=negatives, log_prior=log_prior
        )

    assert torch.autograd.gradcheck(loss, tensors)
    assert torch.autograd.gradgradcheck(loss, tensors)


def test_bf16_autocast_at_a_low_temperature_stays_finite_and_precise():
    online = torch.randn(2, 64, 32, generator=torch.Generator().manual_seed(0))
    online = online.bfloat16().requires_grad_()
    weights = torch.rand(8, 32).bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        value = interventional_loss(online, online, weights, temperature=0.01)
    value.backward()
    exact = interventional_loss(
        online.double(), online.double(), weights.double(), temperature=0.01
    )
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(exact.item(), rel=1e-4)
    assert online.grad.isfinite().all()
    assert weights.grad.isfinite().all()
    assert weights.grad.abs().sum() > 0


def test_zero_rows_and_zero_weights_have_finite_gradients():
    online = torch.randn(2, 4, 3, dtype=torch.float64)
    online[0, 0] = 0
    online.requires_grad_()
    weights = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    interventional_loss(online, online, weights, temperature=0.5).backward()
    assert online.grad.isfinite().all()
    assert weights.grad.isfinite().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": 0.0}, "temperature must be > 0 and finite, got 0.0"),
        ({"temperature": -0.1}, "temperature must be > 0 and finite, got -0.1"),
        ({"negatives": "all"}, "negatives must be other_view or both_views, got 'all'"),
        ({"weights": torch.ones(2, 5)}, r"weights must be .* got \(2, 5\)"),
        ({"weights": torch.ones(0, 4)}, r"weights must be .* got \(0, 4\)"),
        ({"online": torch.ones(1, 5, 4), "target": torch.ones(1, 5, 4)}, "at least 2 views"),
        ({"online": torch.ones(2, 1, 4), "target": torch.ones(2, 1, 4)}, "at least 2 views of 2"),
        ({"target": torch.ones(2, 5, 3)}, "one shape"),
        ({"log_prior": torch.zeros(3)}, r"one value per stratum, \(6,\), got \(3,\)"),
    ],
)
def test_bad_input(change, message):
    online, target, weights, _ = inputs(views=2)
    arguments = {"online": online, "target": target, "weights": weights, "temperature": 0.5}
    with pytest.raises(IclmsrError, match=message):
        interventional_loss(**{**arguments, **change})


@pytest.mark.parametrize("bound", ["sigmoid", "softplus", "softmax"])
@pytest.mark.parametrize("source", ["static", "features", "features-attached"])
def test_weights_have_the_stated_shape_and_range(source, bound):
    torch.manual_seed(0)
    msr = MetaSemanticRegularizer(6, strata=3, source=source, feature_dim=14, bound=bound)
    features = torch.randn(2, 5, 7)
    weights = msr.weights(features)
    assert weights.shape == ((3, 6) if source == "static" else (5, 3, 6))
    assert (weights > 0).all()
    if bound == "sigmoid":
        assert (weights < 1).all()
    if bound == "softmax":
        assert weights.mean(-1).allclose(torch.ones(()), atol=1e-6)
    strata_differ = (weights[..., 0, :] - weights[..., 1, :]).abs().mean()
    assert strata_differ > 0.02


def test_initial_logits_have_standard_deviation_one_half():
    msr = MetaSemanticRegularizer(512, strata=64, generator=torch.Generator().manual_seed(0))
    assert msr.logits.std().item() == pytest.approx(0.5, rel=0.02)
    assert msr.logits.mean().item() == pytest.approx(0, abs=0.01)


def test_initial_values_come_from_the_generator():
    def make():
        generator = torch.Generator().manual_seed(5)
        return MetaSemanticRegularizer(4, source="features", feature_dim=6, generator=generator)

    for a, b in zip(make().parameters(), make().parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("source", ["static", "features", "features-attached"])
def test_stage_one_holds_the_weights_fixed(source):
    torch.manual_seed(0)
    msr = MetaSemanticRegularizer(6, source=source, feature_dim=14, prior="learned")
    online = torch.randn(2, 5, 6, requires_grad=True)
    features = torch.randn(2, 5, 7, requires_grad=True)
    loss = msr(online, features=features)
    loss.backward()
    assert all(parameter.grad is None for parameter in msr.parameters())
    assert features.grad is None
    assert online.grad.abs().sum() > 0
    assert loss.item() == pytest.approx(msr(online, online, features, fixed=False).item())


@pytest.mark.parametrize(("source", "attached"), [("features", False), ("features-attached", True)])
def test_only_an_attached_source_reaches_the_features(source, attached):
    torch.manual_seed(0)
    msr = MetaSemanticRegularizer(6, source=source, feature_dim=14)
    features = torch.randn(2, 5, 7, requires_grad=True)
    msr(torch.randn(2, 5, 6), features=features, fixed=False).backward()
    assert all(parameter.grad is not None for parameter in msr.parameters())
    assert (features.grad is not None) == attached


def test_has_no_state_besides_psi():
    msr = MetaSemanticRegularizer(6, source="features", feature_dim=14)
    assert list(msr.buffers()) == []


def test_learned_prior_enters_the_loss():
    torch.manual_seed(0)
    msr = MetaSemanticRegularizer(4, strata=3, prior="learned", temperature=0.3)
    online = torch.randn(2, 5, 4)
    uniform = interventional_loss(online, online, msr.weights(), temperature=0.3)
    assert msr(online).item() == pytest.approx(uniform.item(), abs=1e-6)
    with torch.no_grad():
        msr.prior_logits.copy_(torch.tensor([3.0, 0.0, -3.0]))
    tilted = interventional_loss(
        online,
        online,
        msr.weights(),
        temperature=0.3,
        log_prior=torch.tensor([3.0, 0.0, -3.0]).log_softmax(0),
    )
    assert msr(online).item() == pytest.approx(tilted.item(), abs=1e-6)
    assert abs(msr(online).item() - uniform.item()) > 1e-4


def test_diversity_by_hand():
    msr = MetaSemanticRegularizer(2, strata=2, bound="softplus")
    with torch.no_grad():  # softplus(big) = big, softplus(-50) = 0: rows along the two axes
        msr.logits.copy_(torch.tensor([[50.0, -50.0], [-50.0, 30.0]]))
    assert msr.diversity().item() == pytest.approx(-4.0, abs=1e-5)  # ||e1 - e2||^2 = 2
    with torch.no_grad():
        msr.logits[1] = msr.logits[0]
    assert msr.diversity().item() == pytest.approx(0.0, abs=1e-5)
    assert MetaSemanticRegularizer(2, strata=1).diversity().item() == 0


def test_saturation_counts_weights_at_the_ends():
    msr = MetaSemanticRegularizer(4, strata=1)
    with torch.no_grad():
        msr.logits.copy_(torch.tensor([[-9.0, 9.0, 0.0, 1.0]]))
    assert msr.saturation() == 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"strata": 0}, "strata must be >= 1, got 4 and 0"),
        ({"source": "mlp"}, "source must be one of .* got 'mlp'"),
        ({"bound": "relu"}, "bound must be one of .* got 'relu'"),
        ({"source": "features"}, "needs feature_dim"),
        ({"temperature": 0}, "temperature must be > 0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(IclmsrError, match=message):
        MetaSemanticRegularizer(4, **arguments)


def test_missing_features_are_an_error():
    msr = MetaSemanticRegularizer(4, source="features", feature_dim=6)
    with pytest.raises(IclmsrError, match="needs the encoder's features"):
        msr(torch.randn(2, 3, 4))


class Small(nn.Module):
    """A network with batch norm on 5 inputs, in float64."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        layers = nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 4)
        self.layers = nn.Sequential(*layers).double()

    def forward(self, x):
        return self.layers(x)


def slope_by_hand(model, msr, views, outer, loss, lr, weight, target):
    """Eq. 5 written out: every step of the virtual update kept in one graph."""
    theta = dict(model.named_parameters())

    def embed(theta, batch):
        buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
        return torch.stack([functional_call(model, {**buffers, **theta}, view) for view in batch])

    z = embed(theta, views)
    inner = loss(*z) + weight * msr(z, target, fixed=False)
    slopes = torch.autograd.grad(inner, list(theta.values()), create_graph=True)
    stepped = {name: p - lr * g for (name, p), g in zip(theta.items(), slopes, strict=True)}
    judged = loss(*embed(stepped, outer))
    return judged, torch.autograd.grad(judged, list(msr.parameters()))


@pytest.mark.parametrize("with_target", [False, True])
@pytest.mark.parametrize("fresh", [False, True])
def test_meta_backward_is_equation_5(with_target, fresh):
    """In a foreign loop: ten digits, and nothing of the model moves."""
    model, msr = Small(), MetaSemanticRegularizer(4, strata=3, prior="learned").double()
    views, other = torch.randn(2, 2, 6, 5, dtype=torch.float64)
    target = torch.randn(2, 6, 4, dtype=torch.float64) if with_target else None
    before = copy.deepcopy(model.state_dict())

    def loss(z0, z1):
        return (F.normalize(z0 - z1, dim=1) + z0 * z1).square().mean()

    outer = other if fresh else views
    judged, expected = slope_by_hand(model, msr, views, outer, loss, 0.3, 0.7, target)
    with torch.autocast("cpu", torch.bfloat16):
        found = msr.meta_backward(
            model, views, loss, lr=0.3, loss_weight=0.7, target=target,
            outer_views=other if fresh else None,
        )  # fmt: skip
    assert found.item() == pytest.approx(judged.item(), rel=1e-12)
    for parameter, slope in zip(msr.parameters(), expected, strict=True):
        assert slope.norm() > 1e-8
        assert torch.allclose(parameter.grad, slope, rtol=1e-10, atol=1e-16)
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(v, before[name]) for name, v in model.state_dict().items())


def test_meta_backward_needs_a_static_source():
    msr = MetaSemanticRegularizer(4, source="features", feature_dim=8)
    with pytest.raises(IclmsrError, match="no features for source 'features'"):
        msr.meta_backward(Small(), list(torch.randn(2, 6, 5)), lambda a, b: a.sum(), lr=0.1)


def test_pairs_restrict_anchor_and_positive():
    z, t = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    weights = torch.rand(2, 4, dtype=torch.float64)
    both = [
        interventional_loss(z, t, weights, temperature=0.5, pairs=[pair]).item()
        for pair in ((0, 1), (2, 0))
    ]
    mean = interventional_loss(z, t, weights, temperature=0.5, pairs=[(0, 1), (2, 0)]).item()
    assert mean == pytest.approx(sum(both) / 2, abs=1e-14)
    every = [(j, l) for j in range(3) for l in range(3) if j != l]
    assert (
        interventional_loss(z, t, weights, temperature=0.5, pairs=every).item()
        == interventional_loss(z, t, weights, temperature=0.5).item()
    )
    alone = interventional_loss(z[[0, 1]], t[[0, 1]], weights, temperature=0.5, pairs=[(0, 1)])
    assert alone.item() == pytest.approx(both[0], abs=1e-14)


@pytest.mark.parametrize("pairs", [[], [(1, 1)], [(0, 3)]])
def test_bad_pairs(pairs):
    z = torch.randn(3, 5, 4)
    with pytest.raises(IclmsrError, match="pairs must be of two different views of 3, got"):
        interventional_loss(z, z, torch.rand(2, 4), temperature=0.5, pairs=pairs)
