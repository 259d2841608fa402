# SPDX-License-Identifier: Apache-2.0
"""Every method inside the two stages: updates, resumption, bfloat16, batches it refuses."""

import io
import math
from itertools import permutations

import pytest
import torch
from bits import assert_same

from iclmsr.config import PretrainConfig, decode, encode
from iclmsr.errors import IclmsrError
from iclmsr.methods import METHODS
from iclmsr.methods.ressl import ReSSLConfig
from iclmsr.methods.w_mse import WMSEConfig
from iclmsr.networks import TargetNetwork
from iclmsr.stages import Batch, Place


def naive(online, target, weights, temperature, pairs):
    """Eq. 2 and 3 with loops: -log of the mean over strata of e^s / (e^s + sum of negatives)."""

    def cosine(a, b):
        return (a @ b / (a.norm() * b.norm())).item()

    total, count = 0.0, 0
    for j, l in pairs:
        for i, anchor in enumerate(online[j]):
            others = [other for k, other in enumerate(target[l]) if k != i]
            against = sum(math.exp(cosine(anchor, other) / temperature) for other in others)
            own = [math.exp(cosine(anchor, a * target[l, i]) / temperature) for a in weights]
            total -= math.log(sum(s / (s + against) for s in own) / len(own))
            count += 1
    return total / count


def test_the_interventional_loss_of_stage_1(case, build, draw):
    """Online anchors, target positives and negatives, the method's pairs; nothing reaches psi."""
    stages = build(case, "static", double=True)
    embeddings = stages.method(draw(1, dtype=torch.float64))
    loss = stages.msr(*embeddings)
    pairs = list(permutations(range(2), 2)) if embeddings.pairs is None else embeddings.pairs
    with torch.no_grad():
        online, target, weights = *embeddings[:2], stages.msr.weights()
        expected = naive(online, target, weights, stages.msr.temperature, pairs)
    assert loss.item() == pytest.approx(expected, abs=1e-12)
    weight = stages.theta["encoder.network.conv1.weight"]
    for anchor in {j for j, _ in pairs}:
        (slope,) = torch.autograd.grad(
            embeddings.online[anchor].pow(3).sum(), weight, retain_graph=True
        )
        assert slope.abs().max() > 0  # an anchor without it would be a constant to the encoder
    loss.backward()
    assert all(parameter.grad is None for parameter in stages.two.psi)
    assert weight.grad.abs().max() > 0


def test_one_update_of_each_kind(case, source, build, draw, snapshot):
    """Stage 1: one step of theta, then the target follows it. Stage 2: psi moves, nothing else."""
    stages = build(case, source)
    method, config = stages.method, stages.config.method
    before = snapshot(method)
    losses, _ = stages.theta_step(draw(1), Place(0, 0), lr=1e-2, progress=0.25, health=True)
    after = snapshot(method)
    names = {"loss", "contrastive"} | ({"interventional"} if source is not None else set())
    assert losses.keys() == names
    assert all(math.isfinite(value) for value in losses.values())
    assert not any(torch.equal(after[name], before[name]) for name in stages.theta)
    if isinstance(getattr(method, "target", None), TargetNetwork):
        decay = config.target_decay
        if hasattr(config, "target_schedule"):
            decay = 1 - (1 - decay) * (math.cos(math.pi * 0.25) + 1) / 2
        for name, _ in method.target.named_parameters():
            old, online = before[f"target.{name}"], after[name]
            moved = old + (1 - decay) * (online - old)
            assert torch.allclose(after[f"target.{name}"], moved, rtol=1e-6, atol=1e-7), name
    if source is None:
        return
    psi, random = snapshot(stages.msr), torch.get_rng_state()
    assert_same(psi, snapshot(build(case, source).msr))
    stages.psi_step(Batch(draw(1), Place(0, 0)), Batch(draw(2), Place(0, 1)), lr=1e-2)
    assert torch.equal(torch.get_rng_state(), random)
    assert_same(snapshot(method), after)
    assert not torch.equal(stages.msr.logits, psi["logits"])


def train(stages, draw, batches, **kind):
    """A step of theta on every batch, and one of psi after the first."""
    losses = []
    for batch in batches:
        place = Place(0, batch)
        found, _ = stages.theta_step(
            draw(batch, **kind), place, lr=1e-2, progress=batch / 4, health=False
        )
        losses.append(found)
        if stages.msr is not None and batch % 2 == 0:
            inner, outer = draw(batch, **kind), draw(9, **kind)
            losses.append(stages.psi_step(Batch(inner, place), Batch(outer, Place(0, 9)), lr=1e-2))
    return losses


def test_a_state_dict_resumes_exactly(case, source, build, draw, snapshot):
    """In stages whose every number was another one before; small and in float64, for speed."""
    kind = {"size": 8, "dtype": torch.float64}
    torch.manual_seed(1)
    stages = build(case, source, double=True)
    initial = snapshot(stages.method)
    train(stages, draw, [0, 1], **kind)
    file = io.BytesIO()
    torch.save(stages.state_dict(), file)
    file.seek(0)
    torch.manual_seed(2)
    again = build(case, source, double=True)
    assert_same(snapshot(again.method), initial)
    modules = [again.method] if source is None else [again.method, again.msr]
    with torch.no_grad():
        for module in modules:
            for tensor in [*module.parameters(), *module.buffers()]:
                tensor += 1
    again.load_state_dict(torch.load(file, weights_only=True))
    assert_same(again.state_dict(), stages.state_dict())
    torch.manual_seed(3)
    expected = train(stages, draw, [2, 3], **kind)
    torch.manual_seed(4)
    assert train(again, draw, [2, 3], **kind) == expected
    assert_same(again.state_dict(), stages.state_dict())


def test_two_steps_under_bfloat16(case, source, build, draw, snapshot):
    stages = build(case, source, precision="bf16")
    before = snapshot(stages.method)
    with torch.autocast("cpu", torch.bfloat16):
        embeddings = stages.method(draw(0))
        losses = [stages.method.loss(embeddings)]
        if source is not None:
            losses.append(stages.msr(*embeddings))
    assert all(loss.dtype == torch.float32 for loss in losses)
    for values in train(stages, draw, [0, 1]):
        assert all(math.isfinite(value) for value in values.values())
    after = snapshot(stages.method)
    for name, tensor in after.items():
        assert tensor.dtype == before[name].dtype
        assert tensor.isfinite().all(), name
    for name in stages.theta:
        assert not name.startswith("encoder.") or not torch.equal(after[name], before[name]), name


@pytest.mark.parametrize(
    ("method", "changes", "message"),
    [
        (WMSEConfig(sub_batch=12, embedding_dim=6), {}, "sub-batch 12 must divide batch-size 16"),
        (ReSSLConfig(), {"view_count": 3}, "one strong and one weak view, got 3"),
        (ReSSLConfig(queue_size=15), {}, "queue-size 15 must be at least batch-size 16"),
        (ReSSLConfig(bn_splits=3), {}, "bn-splits 3 must divide batch-size 16"),
    ],
)
def test_batches_that_a_method_refuses(method, changes, message):
    with pytest.raises(IclmsrError, match=message):
        PretrainConfig(batch_size=16, method=method, **changes)


@pytest.mark.parametrize("name", METHODS)
def test_defaults_fit_together(name):
    method = METHODS[name]()
    assert PretrainConfig(method=method).method.name == name
    assert decode(PretrainConfig, encode(PretrainConfig(method=method))).method == method
