# SPDX-License-Identifier: Apache-2.0
"""What every method promises: its embeddings, its loss, and what moves once a step."""

import math

import pytest
import torch
from bits import assert_same

from iclmsr.bilevel import parameters_of, stateless
from iclmsr.errors import IclmsrError
from iclmsr.methods.base import Embeddings
from iclmsr.networks import TargetNetwork

MOVED = {  # buffers that after_step moves
    "ressl": {"queue.rows", "queue.pointer"},
    "ssl-hsic": {"scale", "scale_moments", "scale_steps"},
    "dino": {"center"},
}


def target_of(method):
    target = getattr(method, "target", None)
    return target if isinstance(target, TargetNetwork) else None


def seeded(seed=3):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shapes_and_dtypes(case, build, draw, count, dtype):
    stages = build(case, double=dtype == torch.float64)
    method, config = stages.method, stages.config.method
    views = draw(1, count, dtype=dtype)
    try:
        config.check_batch(16, count)
    except IclmsrError:
        assert count > 2
        with pytest.raises(IclmsrError, match="views"):
            method(views)
        return
    embeddings = method(views)
    online, target, features, pairs = embeddings
    assert isinstance(embeddings, Embeddings)
    assert online.shape == target.shape == (count, 16, config.embedding_dim)
    assert features.shape == (count, 16, method.encoder.feature_dim)
    assert online.dtype == target.dtype == features.dtype == dtype
    assert online.requires_grad
    assert features.requires_grad
    if target_of(method) is not None:
        assert not target.requires_grad
    elif target is not online:  # the same branch without gradient collapses without a predictor
        assert not target.requires_grad
        assert hasattr(method, "predictor")
    assert pairs is None or all(j != l and max(j, l) < count for j, l in pairs)
    loss = method.loss(embeddings, generator=seeded())
    assert loss.shape == ()
    assert loss.dtype == dtype
    assert loss.isfinite()


def test_loss_is_finite_at_any_scale(case, source, build, draw):
    stages = build(case, source)
    embeddings = stages.method(draw(1))
    for factor in (1.0, 1e3, 1e-3):
        online = (embeddings.online.detach() * factor).requires_grad_()
        target = embeddings.target.detach() * factor
        if embeddings.target is embeddings.online:
            target = online
        given = embeddings._replace(online=online, target=target)
        loss = stages.method.loss(given, generator=seeded())
        if source is not None:
            loss = loss + stages.msr(*given)
        loss.backward()
        assert loss.isfinite()
        assert online.grad.isfinite().all()
        assert online.grad.abs().max() > 0


def test_losses_of_bfloat16_are_computed_in_float32(case, source, build, draw):
    """To the bit those of the same numbers in float32, autocast or not."""
    stages = build(case, source)
    half = Embeddings(*(x.detach().bfloat16() for x in stages.method(draw(1))[:3]))
    losses = [lambda e: stages.method.loss(e, generator=seeded())]
    if source is not None:
        losses.append(lambda e: stages.msr(*e))
    for loss in losses:
        expected = loss(Embeddings(*(x.float() for x in half[:3])))
        found = loss(half)
        with torch.autocast("cpu", torch.bfloat16):
            under = loss(half)
        assert expected.dtype == found.dtype == under.dtype == torch.float32
        assert torch.equal(found, expected)
        assert torch.equal(under, expected)


def test_losses_are_pure(case, source, build, draw, snapshot):
    stages = build(case, source)
    embeddings = stages.method(draw(1))
    given = [x.detach().clone() for x in embeddings[:3]]
    before, random = snapshot(stages.method), torch.get_rng_state()
    for generator in (lambda: None, seeded):
        first = stages.method.loss(embeddings, generator=generator())
        assert torch.equal(stages.method.loss(embeddings, generator=generator()), first)
    if source is not None:
        psi = snapshot(stages.msr)
        assert torch.equal(stages.msr(*embeddings), stages.msr(*embeddings))
        stages.msr(*embeddings, fixed=False)
        assert_same(snapshot(stages.msr), psi)
    assert torch.equal(torch.get_rng_state(), random)
    assert_same(snapshot(stages.method), before)
    assert_same([x.detach() for x in embeddings[:3]], given)


def test_a_stateless_call_moves_nothing(case, build, draw, snapshot):
    """And gives what the method itself gives, which does move its statistics."""
    method = build(case).method
    before, random = snapshot(method), torch.get_rng_state()
    embeddings = stateless(method)(parameters_of(method), draw(1))
    assert_same(snapshot(method), before)
    assert torch.equal(torch.get_rng_state(), random)
    assert_same(tuple(method(draw(1))), tuple(embeddings))
    after = snapshot(method)
    statistics = [name for name in before if name.endswith("running_mean")]
    assert statistics
    assert not any(torch.equal(after[name], before[name]) for name in statistics)


def test_gradient_reaches_every_trainable_tensor(case, source, build, draw):
    """None is without gradient, and one whose gradient is zero is a shift that losses ignore.

    A constant added before a normalization that centres (a batch norm, whitening, a correlation)
    has no effect, so its true gradient is zero. Whether a tensor is such a constant is asked of
    the loss: moved by random numbers of order 1, it has to leave the loss where it was to 12
    digits. A target that carries no gradient is held still, for its part of the loss is cut.
    """
    stages = build(case, source, double=True)
    method, views = stages.method, draw(1, dtype=torch.float64)
    start = method(views)

    def total(embeddings):
        loss = method.loss(embeddings, generator=seeded())
        return loss if source is None else loss + stages.msr(*embeddings)

    def moved(name):
        with torch.no_grad():
            theta = dict(stages.theta)
            theta[name] = theta[name] + torch.randn_like(theta[name])
            embeddings = stateless(method)(theta, views)
            if not start.target.requires_grad:
                embeddings = embeddings._replace(target=start.target)
            return total(embeddings).item()

    value = total(start)
    value.backward()
    largest = max(p.grad.norm() for p in stages.theta.values() if p.grad is not None)
    torch.manual_seed(5)
    for name, parameter in method.named_parameters():
        if not parameter.requires_grad:
            assert name.startswith("target.")
            assert parameter.grad is None, name
            continue
        assert parameter.grad is not None, name
        if parameter.grad.norm() < 1e-9 * largest:
            assert parameter.ndim == 1, name
            assert moved(name) == pytest.approx(value.item(), rel=1e-12, abs=1e-12), name


@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
def test_after_step(case, build, draw, snapshot, progress):
    """The target's parameters move by (1 - decay) (online - target) and nothing else unasked."""
    stages = build(case, double=True)
    method, config = stages.method, stages.config.method
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in stages.theta.values():
            parameter += 0.1 * torch.randn_like(parameter)
    embeddings = method(draw(2, dtype=torch.float64))
    before, random = snapshot(method), torch.get_rng_state()
    method.after_step(embeddings, progress)
    assert torch.equal(torch.get_rng_state(), random)
    after = snapshot(method)
    expected, moved = dict(before), set()
    if target_of(method) is not None:
        decay = config.target_decay
        if hasattr(config, "target_schedule"):  # rises; constant for a method without the choice
            decay = 1 - (1 - decay) * (math.cos(math.pi * progress) + 1) / 2
        for name, _ in target_of(method).named_parameters():
            online, target = before[name], before[f"target.{name}"]
            assert not torch.equal(online, target)
            expected[f"target.{name}"] = target + (1 - decay) * (online - target)
    for name, tensor in after.items():
        if not torch.allclose(tensor, expected[name], rtol=0, atol=1e-15):
            moved.add(name)
    assert moved == MOVED.get(case, set())
    tensors = [*method.buffers(), *(p for p in method.parameters() if not p.requires_grad)]
    assert not any(tensor.requires_grad or tensor.grad_fn is not None for tensor in tensors)


def test_who_counts_epochs(case, build):
    stages = build(case)
    schedule = getattr(stages.config.method, "target_schedule", "step")
    assert stages.method.counts_epochs == (schedule == "epoch")
