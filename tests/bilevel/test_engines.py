# SPDX-License-Identifier: Apache-2.0
"""Every engine against the reference, and both against central differences."""

import copy

import pytest
import torch
from timm.optim import Lars
from torch import nn

from iclmsr.bilevel import (
    Known,
    cosine,
    effective_direction,
    meta_gradient,
    parameters_of,
    sgd,
    stateless,
    step_of,
)
from iclmsr.methods.byol import BYOLConfig
from iclmsr.methods.simclr import SimCLRConfig
from iclmsr.networks import Encoder
from iclmsr.regularizer import MetaSemanticRegularizer

LR, WEIGHT, FEATURES = 0.1, 1.5, 5
METHODS = {
    "simclr": SimCLRConfig(hidden_dim=8, embedding_dim=4),
    "byol": BYOLConfig(hidden_dim=8, embedding_dim=4),
}
OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, LR, weight_decay=1e-3),
    "momentum": lambda p: torch.optim.SGD(p, LR, momentum=0.9, weight_decay=1e-3),
    "nesterov": lambda p: torch.optim.SGD(p, LR, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, LR, weight_decay=1e-3),
    "adamw": lambda p: torch.optim.AdamW(p, LR, weight_decay=1e-2),
    "lars": lambda p: Lars(p, LR, momentum=0.9, weight_decay=1e-3, trust_coeff=0.1),
}
SOURCES = ["static", "features", "features-attached"]


def method_of(name, *, smooth=False):
    """Convolutions, batch norm, max-pool; without the kinks of ReLU and max-pool if smooth."""
    torch.manual_seed(0)
    kink = nn.Tanh if smooth else nn.ReLU
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        kink(),
        nn.AvgPool2d(2) if smooth else nn.MaxPool2d(2),
        nn.Conv2d(4, FEATURES, 3, padding=1, bias=False),
        nn.BatchNorm2d(FEATURES),
        kink(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    method = METHODS[name].build(Encoder(network, FEATURES)).double().train()
    if smooth:
        for module in method.modules():
            for child_name, child in list(module.named_children()):
                if isinstance(child, nn.ReLU):
                    setattr(module, child_name, nn.Tanh())
    return method


def views(seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(6, 3, 8, 8, generator=generator, dtype=torch.float64) for _ in range(2)]


class Problem:
    """A method some steps into training, its optimizer's state, and a regularizer."""

    def __init__(self, name="simclr", source="static", optimizer="sgd", *, smooth=False):
        self.method = method_of(name, smooth=smooth)
        torch.manual_seed(1)
        self.msr = MetaSemanticRegularizer(
            4, strata=3, source=source, feature_dim=2 * FEATURES, hidden=6, prior="learned"
        ).double()
        self.theta = parameters_of(self.method)
        self.optimizer = OPTIMIZERS[optimizer](list(self.theta.values()))
        for seed in range(3):
            self.optimizer.zero_grad()
            self.inner_loss(self.method(views(seed))).backward()
            self.optimizer.step()
        self.optimizer.zero_grad()
        self.msr.zero_grad()
        self.step = step_of(self.optimizer, self.theta, lr=LR)

    def inner_loss(self, embeddings):
        return self.method.loss(embeddings) + WEIGHT * self.msr(*embeddings, fixed=False)

    def solve(self, engine, inner=10, outer=10, **options):
        options = {"step": self.step, "embed": stateless(self.method), **options}
        return meta_gradient(
            options.pop("embed"),
            self.inner_loss,
            self.method.loss,
            self.theta,
            list(self.msr.parameters()),
            views(inner),
            views(outer),
            engine=engine,
            **options,
        )


def distance(found, expected):
    """Largest over psi's tensors of the relative error; of all of them where one is tiny."""
    whole = torch.cat([tensor.flatten() for tensor in expected]).norm()
    errors = [(a - b).norm() for a, b in zip(found, expected, strict=True)]
    assert whole > 1e-9
    return float(max(errors) / whole)


@pytest.mark.parametrize("outer", [10, 11], ids=["same", "fresh"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", METHODS)
def test_every_engine_is_the_reference(name, source, optimizer, outer):
    problem = Problem(name, source, optimizer)
    expected = problem.solve("reference", outer=outer)
    for engine in ("forward", "dual"):
        found = problem.solve(engine, outer=outer)
        assert distance(found.psi, expected.psi) <= 1e-10, engine
        assert found.outer_loss.item() == pytest.approx(expected.outer_loss.item(), abs=1e-12)
    for sides in (1, 2):
        found = problem.solve("difference", outer=outer, sides=sides)
        assert distance(found.psi, expected.psi) <= 5e-3, sides


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", METHODS)
def test_differences_on_a_smooth_network(name, source, optimizer):
    problem = Problem(name, source, optimizer, smooth=True)
    expected = problem.solve("reference")
    for sides in (1, 2):
        assert distance(problem.solve("difference", sides=sides).psi, expected.psi) <= 1e-6, sides


@pytest.mark.parametrize("engine", ["reference", "forward", "dual", "difference"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_engine_against_central_differences(engine, optimizer):
    """Of L_cl after a real step of the real optimizer, on a copy."""
    problem = Problem("simclr", "features", optimizer)
    found = problem.solve(engine, outer=11)
    psi = list(problem.msr.parameters())
    generator = torch.Generator().manual_seed(2)
    directions = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in psi]
    ends = []
    for sign in (1, -1):
        moved = copy.deepcopy(problem)
        with torch.no_grad():
            for parameter, direction in zip(moved.msr.parameters(), directions, strict=True):
                parameter += sign * 1e-5 * direction
        moved.inner_loss(moved.method(views(10))).backward()
        moved.optimizer.step()
        with torch.no_grad():
            ends.append(moved.method.loss(moved.method(views(11))).item())
    expected = (ends[0] - ends[1]) / 2e-5
    slope = sum((g * d).sum() for g, d in zip(found.psi, directions, strict=True)).item()
    assert abs(expected) > 1e-7
    assert slope == pytest.approx(expected, rel=2e-5)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_virtual_step_is_the_optimizers_own(optimizer):
    problem = Problem("simclr", "static", optimizer)
    problem.inner_loss(problem.method(views(10))).backward()
    virtual = {n: problem.step(n, p.detach(), p.grad) for n, p in problem.theta.items()}
    problem.optimizer.step()
    for name, parameter in problem.theta.items():
        assert torch.allclose(virtual[name], parameter, rtol=1e-12, atol=1e-14), name


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_first_virtual_step_has_no_state_to_read(optimizer):
    weight = {"w": torch.randn(3, dtype=torch.float64, requires_grad=True)}
    real = OPTIMIZERS[optimizer](list(weight.values()))
    gradient = torch.tensor([1.0, -2.0, 0.0], dtype=torch.float64)
    virtual = step_of(real, weight, lr=LR)("w", weight["w"].detach(), gradient)
    direction = effective_direction(step_of(real, weight, lr=LR), weight, [gradient], [gradient])
    weight["w"].grad = gradient
    real.step()
    assert torch.allclose(virtual, weight["w"], rtol=1e-12)
    assert direction[0].isfinite().all()


def test_the_raw_direction_would_be_wrong():
    """Without (d theta' / d g)^T the meta-gradients of Adam and LARS point elsewhere."""
    for optimizer, at_most in (("adam", 0.99), ("lars", 0.99)):
        problem = Problem("simclr", "static", optimizer)
        exact, raw = problem.solve("dual").psi, problem.solve("dual", step=sgd(LR)).psi
        assert cosine(exact, raw) < at_most


@pytest.mark.parametrize("engine", ["forward", "dual", "difference", "free"])
def test_reuses_what_stage_1_knows(engine):
    """With the outputs and the gradient of a step of theta, ``embed`` is not called for them."""
    problem = Problem("simclr", "static", "adam")
    outputs = problem.method(views(10))
    gradient = torch.autograd.grad(problem.inner_loss(outputs), list(problem.theta.values()))
    known = Known(outputs, gradient)
    calls = []
    pure = stateless(problem.method)

    def counting(theta, batch):
        calls.append(torch.is_grad_enabled())
        return pure(theta, batch)

    found = problem.solve(engine, known=known, embed=counting)
    assert distance(found.psi, problem.solve(engine).psi) <= 1e-9
    assert calls == [False] if engine == "free" else [True, False]


def test_free_takes_the_inner_gradient_for_v():
    problem = Problem("simclr", "static", "adam")
    theta = list(problem.theta.values())
    loss = problem.inner_loss(problem.method(views(10)))
    gradient = torch.autograd.grad(loss, theta, create_graph=True)
    v = [slope.detach() for slope in gradient]
    direction = effective_direction(problem.step, problem.theta, v, v)
    along = sum((slope * w).sum() for slope, w in zip(gradient, direction, strict=True))
    expected = torch.autograd.grad(along, list(problem.msr.parameters()))
    free = problem.solve("free", sides=2)
    assert distance(free.psi, expected) <= 1e-6
    assert cosine(free.psi, problem.solve("reference").psi) < 0.9999
    with torch.no_grad():
        assert free.outer_loss.item() == pytest.approx(
            problem.method.loss(problem.method(views(10))).item(), abs=1e-12
        )


@pytest.mark.parametrize("engine", ["forward", "dual", "difference", "free"])
def test_touches_nothing(engine):
    problem = Problem("byol", "features")
    problem.inner_loss(problem.method(views(3))).backward()
    tensors = {
        **problem.method.state_dict(keep_vars=True),
        **problem.msr.state_dict(keep_vars=True),
    }
    before = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    grads = {n: t.grad.clone() for n, t in tensors.items() if t.grad is not None}
    state, optimizer = torch.get_rng_state(), copy.deepcopy(problem.optimizer.state_dict())
    problem.solve(engine)
    for name, tensor in tensors.items():
        assert torch.equal(tensor, before[name]), name
    for name, grad in grads.items():
        assert torch.equal(tensors[name].grad, grad), name
    assert torch.equal(torch.get_rng_state(), state)
    after = problem.optimizer.state_dict()
    assert after["param_groups"] == optimizer["param_groups"]


@pytest.mark.parametrize("engine", ["forward", "dual", "difference"])
@pytest.mark.parametrize("reuse", [False, True])
def test_random_layers_draw_the_same_numbers_in_every_pass(engine, reuse):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 4)).double()
    psi = torch.ones(4, dtype=torch.float64, requires_grad=True)
    batch = torch.randn(5, 3, dtype=torch.float64)
    theta, known = parameters_of(net), None

    def inner_loss(out):
        return (psi * out).square().sum()

    arguments = (inner_loss, lambda out: out.pow(4).sum(), theta, [psi], batch, batch)
    state = torch.get_rng_state()
    if reuse:
        out = net(batch)
        gradient = torch.autograd.grad(inner_loss(out), list(theta.values()))
        known = Known(out, gradient, state)
    expected = meta_gradient(stateless(net), *arguments, step=sgd(0.05), known=known)
    found = meta_gradient(stateless(net), *arguments, step=sgd(0.05), known=known, engine=engine)
    assert distance(found.psi, expected.psi) <= 1e-6


def test_half_precision_networks():
    """Embeddings from bf16 autocast; loss and mixed derivative stay in float32."""
    problem = Problem("simclr", "static", "sgd")
    problem.method.float(), problem.msr.float()
    seen = []
    pure = stateless(problem.method)

    def half(theta, batch):
        with torch.autocast("cpu", torch.bfloat16):
            return pure(theta, [view.float() for view in batch])

    def inner_loss(embeddings):
        seen.append(embeddings.online.dtype)
        return Problem.inner_loss(problem, embeddings)

    problem.inner_loss = inner_loss
    expected = problem.solve("reference", embed=lambda t, b: pure(t, [v.float() for v in b])).psi
    seen.clear()
    found = problem.solve("dual", embed=half).psi
    assert all(tensor.dtype == torch.float32 for tensor in found)
    assert seen[-1] == torch.float32
    assert cosine(found, expected) > 0.95


@pytest.mark.parametrize("engine", ["reference", "forward", "dual", "difference", "free"])
def test_direct_term_and_no_influence(engine):
    problem = Problem()
    plain = problem.solve(engine).psi
    both = problem.solve(engine, direct=lambda e: problem.msr.diversity()).psi
    straight = torch.autograd.grad(
        problem.msr.diversity(), list(problem.msr.parameters()), materialize_grads=True
    )
    for a, b, c in zip(both, plain, straight, strict=True):
        assert torch.allclose(a, b + c, rtol=1e-9, atol=1e-12)
    problem.inner_loss = problem.method.loss
    assert all(not g.any() for g in problem.solve(engine).psi)


def test_an_unknown_engine_or_optimizer():
    with pytest.raises(ValueError, match="engine must be one of"):
        Problem().solve("magic")
    weight = {"w": torch.ones(1, requires_grad=True)}
    with pytest.raises(ValueError, match="amsgrad"):
        step_of(torch.optim.Adam(weight.values(), amsgrad=True), weight, lr=0.1)
    with pytest.raises(ValueError, match="no virtual step"):
        step_of(torch.optim.Adagrad(weight.values()), weight, lr=0.1)


def test_zero_direction():
    problem = Problem()
    found = problem.solve("difference", step=sgd(0.0))
    assert all(not g.any() for g in found.psi)
