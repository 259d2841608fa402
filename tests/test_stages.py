# SPDX-License-Identifier: Apache-2.0
"""One update of each kind against the same update written out by hand."""

import copy
from dataclasses import replace

import pytest
import torch

from iclmsr.bilevel import meta_gradient, parameters_of, stateless
from iclmsr.config import MSRConfig, PretrainConfig
from iclmsr.methods.simclr import SimCLRConfig
from iclmsr.networks import EncoderConfig
from iclmsr.optim import OptimizerConfig
from iclmsr.stages import NotFinite, Place, TwoStages

CONFIG = PretrainConfig(
    method=SimCLRConfig(temperature=0.3, hidden_dim=16, embedding_dim=8),
    encoder=EncoderConfig(width=2),
    optimizer=OptimizerConfig(name="sgd", lr=7.0, sgd_momentum=0.0, weight_decay=0.0),
    msr=MSRConfig(enabled=True, strata=3, loss_weight=0.5, lr=0.25, optimizer="sgd"),
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
    found = trained.psi_step(views(1), views(2), PLACE, Place(0, 1), lr=0.02)
    gradient = meta_gradient(
        stateless(method),
        lambda e: method.loss(e) + 0.5 * msr(*e, fixed=False),
        method.loss,
        parameters_of(method),
        list(msr.parameters()),
        views(1),
        views(2),
        alpha=alpha,
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
        trained.psi_step(bad, bad, PLACE, PLACE, lr=0.1)
    for name, parameter in trained.method.named_parameters():
        assert torch.equal(parameter, before[name])
    assert torch.equal(trained.msr.logits, logits)
