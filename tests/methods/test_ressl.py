# SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch
from torch.nn import functional as F

from iclmsr.errors import IclmsrError
from iclmsr.methods.base import Embeddings
from iclmsr.methods.ressl import ReSSLConfig, ressl_loss
from iclmsr.networks import EncoderConfig, build_encoder

TEMPERATURES = {"student_temperature": 0.1, "teacher_temperature": 0.04}


def make(**changes):
    torch.manual_seed(0)
    config = ReSSLConfig(**{"hidden_dim": 16, "embedding_dim": 8, "queue_size": 12, **changes})
    return config.build(build_encoder(EncoderConfig(width=2)))


def pair():
    return [torch.randn(6, 3, 16, 16), torch.randn(6, 3, 16, 16) * 3 + 1]


def test_golden_values(waves):
    queue = F.normalize(waves(2, 8, 3), dim=1)
    loss = ressl_loss(waves(0), waves(1), queue, **TEMPERATURES)
    assert loss.item() == pytest.approx(1.1114706725361931, abs=1e-12)
    e1 = torch.eye(2, dtype=torch.float64)[:1]
    loss = ressl_loss(e1, e1, torch.eye(2, dtype=torch.float64), **TEMPERATURES).item()
    p, tail = 1 / (1 + math.exp(-25)), math.log1p(math.exp(-10))
    assert loss == pytest.approx(p * tail + (1 - p) * (10 + tail), abs=1e-12)
    assert loss == pytest.approx(4.5399038097e-05, abs=1e-14)
    constant = ressl_loss(e1, -e1, e1.expand(8, 2), **TEMPERATURES)
    assert constant.item() == pytest.approx(math.log(8), abs=1e-12)


def test_against_a_double_loop(waves):
    q, k, queue = waves(0), waves(1), F.normalize(waves(2, 8, 3), dim=1)
    total = 0.0
    for i in range(4):
        s = [float(q[i] @ row / q[i].norm()) / 0.1 for row in queue]
        t = [float(k[i] @ row / k[i].norm()) / 0.04 for row in queue]
        log_s = [x - math.log(sum(map(math.exp, s))) for x in s]
        p = [math.exp(x) / sum(map(math.exp, t)) for x in t]
        total -= sum(a * b for a, b in zip(p, log_s, strict=True)) / 4
    assert ressl_loss(q, k, queue, **TEMPERATURES).item() == pytest.approx(total, abs=1e-12)


def test_gradient_goes_to_the_student_only(waves):
    q, k = waves(0).requires_grad_(), waves(1).requires_grad_()
    queue = F.normalize(waves(2, 8, 3), dim=1).requires_grad_()
    ressl_loss(q, k, queue, **TEMPERATURES).backward()
    assert q.grad.norm() > 0
    assert k.grad is None
    assert queue.grad is None
    fixed = queue.detach()
    assert torch.autograd.gradcheck(
        lambda x: ressl_loss(x, k.detach(), fixed, **TEMPERATURES), waves(0).requires_grad_()
    )


def test_student_sees_the_strong_view_only_and_teacher_the_weak():
    method, (strong, weak) = make().train(), pair()
    embeddings = method.embed([strong, weak])
    alone = make().train()
    assert torch.equal(embeddings.online[0], alone.projector(alone.encoder(strong)))
    assert torch.equal(embeddings.target[1], alone.target(weak)[1])
    assert embeddings.pairs == ((0, 1),)
    tracked = method.encoder.network.bn1.num_batches_tracked.item()
    assert tracked == method.target.encoder.network.bn1.num_batches_tracked.item() == 1
    loss = method.loss(embeddings).item()
    alike = ressl_loss(
        embeddings.online[0], embeddings.target[1], method.queue.rows, **TEMPERATURES
    )
    assert loss == alike.item()


def test_own_keys_enter_the_queue_after_the_step_only():
    method = make().train()
    embeddings = method.embed(pair())
    before = method.queue.rows.clone()
    method.loss(embeddings)
    assert torch.equal(method.queue.rows, before)
    method.after_step(embeddings, 0.0)
    keys = F.normalize(embeddings.target[1], dim=1)
    assert torch.equal(method.queue.rows[:6], keys)
    assert torch.equal(method.queue.rows[6:], before[6:])
    assert int(method.queue.pointer) == 6


def test_head_has_no_batch_norm():
    layers = [type(layer).__name__ for layer in make().projector]
    assert layers == ["Linear", "ReLU", "Linear"]


def test_split_statistics_of_the_teacher_are_strided():
    """Part p of the student is rows 3p, 3p+1, 3p+2; of the teacher rows p, p+2, p+4."""
    method, (strong, weak) = make(bn_splits=2).train(), pair()
    embeddings = method.embed([strong, weak])
    plain = make(bn_splits=1).train()
    student = torch.cat([plain.projector(plain.encoder(half)) for half in strong.chunk(2)])
    assert torch.allclose(embeddings.online[0], student, atol=1e-5)
    teacher = torch.empty_like(student)
    for p in range(2):
        teacher[p::2] = plain.target(weak[p::2])[1]
    assert torch.allclose(embeddings.target[1], teacher, atol=1e-5)


def test_decay_is_constant():
    method = make(target_decay=0.75)
    with torch.no_grad():
        method.projector[0].weight += 1
    for progress, expected in ((0.0, 0.25), (1.0, 0.4375)):
        method.after_step(method.embed(pair()), progress)
        gap = 1 - expected
        found = method.projector[0].weight - method.target.projector[0].weight
        assert torch.allclose(found, torch.full_like(found, gap), atol=1e-6)


@pytest.mark.parametrize(
    ("batch", "views", "changes", "message"),
    [
        (8, 3, {}, "one strong and one weak view, got 3 views"),
        (16, 2, {}, "method.queue-size 12 must be at least batch-size 16"),
        (10, 2, {"bn_splits": 4}, "method.bn-splits 4 must divide batch-size 10"),
    ],
)
def test_batches_that_it_cannot_take(batch, views, changes, message):
    with pytest.raises(IclmsrError, match=message):
        ReSSLConfig(queue_size=12, **changes).check_batch(batch, views)


def test_queue_of_another_width(waves):
    with pytest.raises(IclmsrError, match=r"queue must be \(K, 3\), got \(8, 4\)"):
        ressl_loss(waves(0), waves(1), waves(2, 8, 4), **TEMPERATURES)


def test_loss_reads_the_strong_students_row(waves):
    method = make(embedding_dim=3)
    method.double()
    z = torch.stack([waves(0), waves(1)])
    one = method.loss(Embeddings(z, z)).item()
    other = z.clone()
    other[1] = 0
    assert method.loss(Embeddings(other, z)).item() == one
