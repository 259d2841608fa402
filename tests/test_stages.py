# SPDX-License-Identifier: Apache-2.0
"""One update of each kind against the same update written out by hand."""

import copy
from dataclasses import replace

import pytest
import torch

from iclmsr.bilevel import meta_gradient, parameters_of, sgd, stateless
from iclmsr.config import MSRConfig, PretrainConfig
from iclmsr.methods.simclr import SimCLRConfig
from iclmsr.networks import EncoderConfig
from iclmsr.optim import OptimizerConfig
from iclmsr.schedule import plan
from iclmsr.stages import Batch, NotFinite, Place, TwoStages

CONFIG = PretrainConfig(
    method=SimCLRConfig(temperature=0.3, hidden_dim=16, embedding_dim=8),
    encoder=EncoderConfig(width=2),
    optimizer=OptimizerConfig(name="sgd", lr=7.0, sgd_momentum=0.0, weight_decay=0.0),
    msr=MSRConfig(enabled=True, strata=3, loss_weight=0.5, lr=0.25, optimizer="sgd", engine="dual"),
)
PLACE = Place(0, 0)


def stages(**changes):
    return TwoStages(replace(CONFIG, msr=replace(CONFIG.msr, **changes)), torch.device("cpu"))


def views(seed):
    generator = torch.Generator().manual_seed(seed)
    pair = [torch.randn(8, 3, 16, 16, generator=generator) for _ in range(2)]
    return [view.contiguous(memory_format=torch.channels_last) for view in pair]


def test_theta_steps_on_both_losses_at_the_rate_given():
    """Plain SGD at rate 0.05, not at the config's 7."""
    trained, byhand = stages(), stages()
    losses, _ = trained.theta_step(views(1), PLACE, lr=0.05, progress=0.1, health=False)
    method = byhand.method
    embeddings = method(views(1))
    contrastive = method.loss(embeddings)
    interventional = byhand.msr(*embeddings)
    (contrastive + 0.5 * interventional).backward()
    for (name, after), before in zip(
        trained.method.named_parameters(), method.parameters(), strict=True
    ):
        expected = before - 0.05 * before.grad
        assert torch.allclose(after, expected, rtol=1e-4, atol=1e-6), name
    assert losses["contrastive"] == pytest.approx(contrastive.item(), rel=1e-5)
    assert losses["interventional"] == pytest.approx(interventional.item(), rel=1e-5)
    assert losses["loss"] == pytest.approx((contrastive + 0.5 * interventional).item(), rel=1e-5)
    assert torch.equal(trained.msr.logits, byhand.msr.logits)


def test_psi_learnt_jointly_goes_downhill_on_the_interventional_loss():
    """Theta steps as ever; psi by -0.25 times the gradient of 0.5 L_do."""
    trained, byhand, plain = stages(learnt="jointly"), stages(), stages()
    trained.theta_step(views(1), PLACE, lr=0.05, progress=0.1)
    plain.theta_step(views(1), PLACE, lr=0.05, progress=0.1)
    for after, same in zip(trained.method.parameters(), plain.method.parameters(), strict=True):
        assert torch.allclose(after, same, rtol=1e-5, atol=1e-7)
    embeddings = byhand.method(views(1))
    (slope,) = torch.autograd.grad(
        0.5 * byhand.msr(*embeddings, fixed=False), list(byhand.msr.parameters())
    )
    assert slope.abs().max() > 0
    expected = byhand.msr.logits - 0.25 * slope
    assert torch.allclose(trained.msr.logits, expected, rtol=1e-4, atol=1e-7)
    assert trained.msr.logits.grad is None


@pytest.mark.parametrize("schedule", ["epoch", "interleaved"])
@pytest.mark.parametrize("learnt", ["jointly", "never"])
def test_only_what_learns_by_stage_2_has_one(schedule, learnt):
    msr = replace(CONFIG.msr, learnt=learnt, schedule=schedule, every_steps=1, fraction=1.0)
    assert {update.kind for update in plan(replace(CONFIG, msr=msr), 3, 0)} == {"theta"}


def test_psi_never_learnt_stays():
    trained = stages(learnt="never")
    before = trained.msr.logits.clone()
    trained.theta_step(views(1), PLACE, lr=0.05, progress=0.1)
    assert torch.equal(trained.msr.logits, before)


def test_the_regularizer_takes_the_base_methods_temperature():
    assert stages().msr.temperature == 0.3
    assert stages(temperature=0.7).msr.temperature == 0.7


@pytest.mark.parametrize(("inner_lr", "alpha"), [(None, 0.02), (0.4, 0.4)])
@pytest.mark.parametrize("gamma", [0.0, 0.3])
def test_psi_steps_on_the_meta_gradient(inner_lr, alpha, gamma):
    trained = stages(inner_lr=inner_lr, diversity_weight=gamma)
    byhand = stages()
    method, msr = byhand.method, byhand.msr
    theta = copy.deepcopy(trained.method.state_dict())
    found = trained.psi_step(Batch(views(1), PLACE), Batch(views(2), Place(0, 1)), lr=0.02)
    gradient = meta_gradient(
        stateless(method),
        lambda e: method.loss(e) + 0.5 * msr(*e, fixed=False),
        method.loss,
        parameters_of(method),
        list(msr.parameters()),
        views(1),
        views(2),
        step=sgd(alpha),
        direct=lambda e: gamma * msr.diversity(),
    )
    moved, expected = trained.msr.logits - msr.logits, -0.25 * gradient.psi[0]
    assert expected.norm() > 1e-5
    assert (moved - expected).norm() < 1e-2 * expected.norm()
    assert found["outer"] == pytest.approx(gradient.outer_loss.item(), rel=1e-5)
    assert all(torch.equal(v, theta[name]) for name, v in trained.method.state_dict().items())


def test_a_loss_that_is_not_finite_changes_nothing():
    trained = stages()
    before = copy.deepcopy(parameters_of(trained.method))
    bad = [view * float("nan") for view in views(1)]
    with pytest.raises(NotFinite, match="loss nan, contrastive nan"):
        trained.theta_step(bad, PLACE, lr=0.1, progress=0.0, health=False)
    logits = trained.msr.logits.clone()
    with pytest.raises(NotFinite, match="outer nan"):
        trained.psi_step(Batch(bad, PLACE), Batch(bad, PLACE), lr=0.1)
    for name, parameter in trained.method.named_parameters():
        assert torch.equal(parameter, before[name])
    assert torch.equal(trained.msr.logits, logits)


def test_both_stages_at_once_are_stage_2_and_then_stage_1():
    """On one batch and at one theta: what they share changes neither."""
    for changes in (
        {},
        {"source": "features-attached"},
        {"images": 6},
        {"inner_step": "optimizer"},
    ):
        together, apart = stages(**changes), stages(**changes)
        batch, outer = Batch(views(1), PLACE), Batch(views(2), Place(0, 1))
        found, _ = together.theta_step(*batch, lr=0.05, progress=0.0, outer=outer)
        expected = apart.psi_step(batch, outer, lr=0.05)
        psi = [tensor.clone() for tensor in apart.two.psi]
        apart.msr.load_state_dict(stages(**changes).msr.state_dict())  # stage 1 read the old A_s
        losses, _ = apart.theta_step(*batch, lr=0.05, progress=0.0)
        assert found == pytest.approx({**losses, **expected}, rel=1e-5)
        for a, b in zip(together.theta.values(), apart.theta.values(), strict=True):
            assert torch.equal(a, b)
        for a, b in zip(together.two.psi, psi, strict=True):
            assert torch.allclose(a, b, atol=1e-6)


def test_both_stages_at_once_embed_the_batch_once(monkeypatch):
    shared = stages(engine="difference")
    calls = []
    forward = type(shared.method.encoder).forward
    monkeypatch.setattr(
        type(shared.method.encoder),
        "forward",
        lambda self, x: (calls.append(torch.is_grad_enabled()), forward(self, x))[1],
    )
    batch = Batch(views(1), PLACE)
    shared.theta_step(*batch, lr=0.05, progress=0.0, outer=batch)
    assert calls == [True, True, True, True, False, False]  # theta, theta', theta + e w; two views


def test_psi_steps_on_the_mean_of_several_meta_gradients():
    averaged, single = stages(average=2), [stages(), stages()]
    start = averaged.msr.logits.clone()
    for seed, one in enumerate(single):
        batch = Batch(views(seed), PLACE)
        averaged.psi_step(batch, batch, lr=0.02)
        one.psi_step(batch, batch, lr=0.02)
        if seed == 0:
            assert torch.equal(averaged.msr.logits, start)
            half_way = copy.deepcopy(averaged.state_dict())
            resumed = stages(average=2)
            resumed.load_state_dict(half_way)
    mean = sum(one.msr.logits - start for one in single) / 2
    assert torch.allclose(averaged.msr.logits - start, mean, atol=1e-6)
    batch = Batch(views(1), PLACE)
    resumed.psi_step(batch, batch, lr=0.02)
    assert torch.equal(resumed.msr.logits, averaged.msr.logits)


def test_a_slice_of_the_batch_for_stage_2():
    sliced, whole = stages(images=4), stages()
    part = Batch([view[:4] for view in views(1)], PLACE)
    sliced.psi_step(Batch(views(1), PLACE), Batch(views(1), PLACE), lr=0.02)
    whole.psi_step(part, part, lr=0.02)
    assert torch.equal(sliced.msr.logits, whole.msr.logits)


def test_the_virtual_step_of_thetas_own_optimizer():
    config = replace(CONFIG, optimizer=OptimizerConfig(name="adam"))
    own, plain = (
        TwoStages(replace(config, msr=replace(config.msr, inner_step=kind)), torch.device("cpu"))
        for kind in ("optimizer", "sgd")
    )
    assert own.optimizer.__class__ is torch.optim.Adam
    batch = Batch(views(1), PLACE)
    for each in (own, plain):
        each.theta_step(*batch, lr=1e-2, progress=0.0)
    before = copy.deepcopy(own)
    found = own.psi_step(batch, batch, lr=1e-2)
    before.theta_step(*batch, lr=1e-2, progress=0.0)  # where that step leads
    with torch.no_grad():
        expected = before._contrastive(before.method(batch.views), PLACE).item()
    assert found["outer"] == pytest.approx(expected, rel=1e-4)
    assert plain.psi_step(batch, batch, lr=1e-2)["outer"] != pytest.approx(expected, rel=1e-4)


def test_free_says_now_and_then_how_far_from_the_truth_it_is():
    free = stages(engine="free", cosine_every=2)
    batch = Batch(views(1), PLACE)
    seen = [free.psi_step(batch, batch, lr=0.02) for _ in range(3)]
    assert ["free_cosine" in values for values in seen] == [True, False, True]
    assert all(-1 <= values["free_cosine"] < 0.9999 for values in seen[::2])


def test_auto_says_what_it_takes():
    chosen = stages(engine="auto").two.choose()
    assert chosen[0] == "difference"
    assert stages(engine="forward").two.choose() == ("forward", "as configured")
