# SPDX-License-Identifier: Apache-2.0
"""Stage 2 against central differences of an outer loss that shares no code with it."""

import copy

import pytest
import torch

from iclmsr.bilevel import meta_gradient, parameters_of, sgd, stateless
from iclmsr.methods.simclr import SimCLRConfig
from iclmsr.networks import Encoder
from iclmsr.regularizer import MetaSemanticRegularizer

ALPHA, WEIGHT = 0.3, 1.5


def small_method():
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, padding=1, bias=False),
        torch.nn.BatchNorm2d(4),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(4, 5, 3, padding=1, bias=False),
        torch.nn.BatchNorm2d(5),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
    )
    config = SimCLRConfig(hidden_dim=8, embedding_dim=4)
    return config.build(Encoder(network, 5)).double().train()


def views(seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(6, 3, 8, 8, generator=generator, dtype=torch.float64) for _ in range(2)]


def regularizer(source, prior="uniform"):
    torch.manual_seed(1)
    return MetaSemanticRegularizer(
        4, strata=3, source=source, feature_dim=10, hidden=6, prior=prior
    ).double()


def outer_objective(method, msr, inner, outer, gamma):
    """L_cl after one real SGD step of a copy, by .backward() and in-place updates."""
    method = copy.deepcopy(method)
    embeddings = method(inner)
    loss = method.loss(embeddings) + WEIGHT * msr(*embeddings, fixed=False)
    loss.backward()
    with torch.no_grad():
        penalty = gamma * msr.diversity(embeddings.features).item()
        for parameter in method.parameters():
            parameter -= ALPHA * parameter.grad
        return method.loss(method(outer)).item() + penalty


def stage_two(method, msr, inner, outer, gamma):
    return meta_gradient(
        stateless(method),
        lambda e: method.loss(e) + WEIGHT * msr(*e, fixed=False),
        method.loss,
        parameters_of(method),
        list(msr.parameters()),
        inner,
        outer,
        step=sgd(ALPHA),
        direct=(lambda e: gamma * msr.diversity(e.features)) if gamma else None,
    )


@pytest.mark.parametrize("gamma", [0.0, 0.7])
@pytest.mark.parametrize("outer_seed", [10, 11], ids=["same", "fresh"])
@pytest.mark.parametrize("prior", ["uniform", "learned"])
@pytest.mark.parametrize("source", ["static", "features", "features-attached"])
def test_equals_central_differences(source, prior, outer_seed, gamma):
    method, msr = small_method(), regularizer(source, prior)
    inner, outer = views(10), views(outer_seed)
    gradient = stage_two(method, msr, inner, outer, gamma)
    generator = torch.Generator().manual_seed(2)
    for _ in range(3):
        directions = [
            torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in msr.parameters()
        ]
        step = 1e-5
        ends = []
        for sign in (1, -1):
            moved = copy.deepcopy(msr)
            with torch.no_grad():
                for parameter, direction in zip(moved.parameters(), directions, strict=True):
                    parameter += sign * step * direction
            ends.append(outer_objective(method, moved, inner, outer, gamma))
        expected = (ends[0] - ends[1]) / (2 * step)
        found = sum((g * d).sum() for g, d in zip(gradient.psi, directions, strict=True))
        size = torch.cat([g.flatten() for g in gradient.psi]).norm().item()
        assert size > 1e-5
        assert abs(found.item() - expected) <= 1e-6 * max(abs(expected), size)


def test_outer_loss_is_that_after_the_step():
    method, msr = small_method(), regularizer("static")
    gradient = stage_two(method, msr, views(10), views(11), 0.0)
    expected = outer_objective(method, msr, views(10), views(11), 0.0)
    assert gradient.outer_loss.item() == pytest.approx(expected, abs=1e-12)


def test_touches_nothing():
    method, msr = small_method(), regularizer("features")
    method.loss(method(views(3))).backward()  # gradients and statistics to be left as they are
    before = copy.deepcopy(method.state_dict())
    grads = [parameter.grad.clone() for parameter in method.parameters()]
    state = torch.get_rng_state()
    stage_two(method, msr, views(10), views(11), 0.5)
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())
    for parameter, grad in zip(method.parameters(), grads, strict=True):
        assert torch.equal(parameter.grad, grad)
    assert all(parameter.grad is None for parameter in msr.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_random_layers_leave_the_global_generator_alone():
    layer = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Dropout(0.5)).train()
    psi = torch.ones((), requires_grad=True)
    state = torch.get_rng_state()
    meta_gradient(
        stateless(layer),
        lambda out: psi * out.square().sum(),
        lambda out: out.square().sum(),
        parameters_of(layer),
        [psi],
        torch.ones(4, 3),
        torch.ones(4, 3),
        step=sgd(0.1),
    )
    assert torch.equal(torch.get_rng_state(), state)


def test_without_influence_the_gradient_is_zero():
    method, msr = small_method(), regularizer("static")
    gradient = meta_gradient(
        stateless(method),
        method.loss,
        method.loss,
        parameters_of(method),
        list(msr.parameters()),
        views(10),
        views(10),
        step=sgd(ALPHA),
    )
    assert all(torch.equal(g, torch.zeros_like(g)) for g in gradient.psi)


def test_frozen_parameters_stay_out_of_theta():
    method = small_method()
    method.projector.requires_grad_(False)
    names = parameters_of(method)
    assert names.keys() == {n for n, _ in method.named_parameters() if n.startswith("encoder")}
