# SPDX-License-Identifier: Apache-2.0
"""Stage 2 of every method against central differences of what it claims to descend."""

import copy

import pytest
import torch
from torch import nn

from iclmsr.bilevel import stateless
from iclmsr.networks import Encoder
from iclmsr.seeds import generator
from iclmsr.stages import Batch, Place

ALPHA = 0.5
STEP = 1e-5
INNER = Place(0, 0)


@pytest.fixture(scope="session")
def initial():
    """In place of the ResNet: convolution, batch norm and ReLU twice, so that all entries fit."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [
            nn.Sequential(nn.Conv2d(inputs, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU())
            for inputs in (3, 8)
        ]
        return Encoder(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), 8)


class Differences:
    """theta'(psi), and three readings of phi(psi) = L_cl(theta'(psi)) on two outer batches.

    Caveat on stop-gradients: where the loss reads a target that depends on theta and is detached
    (SimSiam), Eq. 5's gradient leaves that path out, while a difference of phi sees it. So:

    - ``held``: L_cl(theta'(psi)) with a target that carries no gradient held at theta'(psi_0).
    - ``slope``: <theta'(psi), v> with v autograd's outer gradient at theta'(psi_0).
    - ``free``: L_cl(theta'(psi)) as it is.
    """

    def __init__(self, stages, inner, outers):
        self.stages = stages
        self.call = stateless(stages.method)
        self.embeddings = self.call(stages.theta, inner)
        self.contrastive = self.loss(self.embeddings, INNER)
        stepped = {name: p.detach().requires_grad_() for name, p in self.stepped().items()}
        self.outers = []
        for views, place in outers:
            at = self.call(stepped, views)
            slopes = torch.autograd.grad(self.loss(at, place), list(stepped.values()))
            target = None if at.target.requires_grad else at.target
            self.outers.append((views, place, target, slopes))

    def loss(self, embeddings, place):
        seeded = generator(self.stages.config.seed, "loss", *place)
        return self.stages.method.loss(embeddings, generator=seeded)

    def stepped(self):
        """theta' at the present psi, by a gradient of its own."""
        msr, theta = self.stages.msr, self.stages.theta
        loss = self.contrastive + 0.5 * msr(*self.embeddings, fixed=False)
        slopes = torch.autograd.grad(loss, list(theta.values()), retain_graph=True)
        return {n: p.detach() - ALPHA * g for (n, p), g in zip(theta.items(), slopes, strict=True)}

    def readings(self):
        """(2, 3): of both outer batches."""
        theta, found = self.stepped(), []
        with torch.no_grad():
            for views, place, target, slopes in self.outers:
                at = self.call(theta, views)
                free = held = self.loss(at, place)
                if target is not None and not torch.equal(at.target, target):
                    held = self.loss(at._replace(target=target), place)
                pairs = zip(theta.values(), slopes, strict=True)
                slope = sum((p * v).sum() for p, v in pairs)
                found.append(torch.stack([held, slope, free]))
        return torch.stack(found)

    def along(self, tensor, direction):
        """The readings' central differences for one direction of one psi tensor."""
        here, found = tensor.detach().clone(), []
        for step in (STEP, -STEP):
            tensor.data.copy_(here + step * direction)
            found.append(self.readings())
        tensor.data.copy_(here)
        return (found[0] - found[1]) / (2 * STEP)


def directions(psi, *, exhaustive):
    """Every entry of every psi tensor, or one random direction of each."""
    for index, tensor in enumerate(psi):
        if exhaustive:
            for entry in torch.eye(tensor.numel(), dtype=torch.float64):
                yield index, entry.view_as(tensor)
        else:
            direction = torch.randn(tensor.shape, dtype=torch.float64)
            yield index, direction / direction.norm()


def claims(stages, inner, outer, place, chosen):
    """What ``psi_step`` says of the directions: by how much plain SGD at rate 1 moves psi."""
    moved = copy.deepcopy(stages)
    moved.psi_step(Batch(inner, INNER), Batch(outer, place), lr=7.0)
    pairs = zip(stages.two.psi, moved.two.psi, strict=True)
    gradient = [(before - after).detach() for before, after in pairs]
    return torch.stack([(gradient[i] * direction).sum() for i, direction in chosen])


def reads_a_cut_target(differences):
    """Whether L_cl's value changes with a target that carries no gradient but follows theta."""
    views, place, target, _ = differences.outers[0]
    if target is None:
        return False
    before = differences.call(differences.stages.theta, views)
    swapped = differences.loss(before._replace(target=target), place)
    return not torch.equal(swapped, differences.loss(before, place))


@pytest.mark.parametrize("psi_source", ["static", "features", "features-attached"])
def test_the_gradient_for_psi_is_the_differences(case, build, draw, psi_source):
    """All 24 entries of A_s, or a direction of each of psi's tensors; same and fresh outer batch.

    Measured: relative errors up to 4.5e-8, rounding in the differences, and at least 0.67 where
    ``free`` sees the cut path.
    """
    msr = {"optimizer": "sgd", "lr": 1.0, "inner_lr": ALPHA}
    if psi_source != "static":
        msr["prior"] = "learned"
    stages = build(case, psi_source, double=True, msr=msr)
    inner, fresh = (draw(seed, size=8, dtype=torch.float64) for seed in (1, 2))
    outers = [(inner, INNER), (fresh, Place(0, 1))]
    differences = Differences(stages, inner, outers)
    torch.manual_seed(0)
    chosen = list(directions(stages.two.psi, exhaustive=psi_source == "static"))
    rows = torch.stack([differences.along(stages.two.psi[i], d) for i, d in chosen])
    cut = reads_a_cut_target(differences)
    for batch, (outer, place) in enumerate(outers):
        claimed = claims(stages, inner, outer, place, chosen)
        assert claimed.norm() > 1e-3
        held, slope, free = (
            ((row - claimed).norm() / claimed.norm()).item() for row in rows[:, batch].T
        )
        assert held < 1e-6
        assert slope < 1e-6
        assert free > 0.1 if cut else free < 1e-6
