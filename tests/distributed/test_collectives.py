# SPDX-License-Identifier: Apache-2.0
"""Several ranks compute what one process computes on the whole batch."""

import warnings
from dataclasses import astuple
from functools import partial
from typing import NamedTuple

import pytest
import torch
import torch.distributed as dist
from ranks import on_ranks
from torch import nn
from torch.autograd import forward_ad
from torch.func import functional_call, jvp
from torch.nn.parallel import DistributedDataParallel

from iclmsr.distributed import (
    World,
    all_agree,
    any_rank,
    barrier,
    broadcast_object,
    gather,
    gather_object,
    gather_outputs,
    join,
    sum_over_ranks,
    sum_over_ranks_,
    world_size,
)
from iclmsr.losses import nt_xent
from iclmsr.networks import sync_batch_norm

loss_of = partial(nt_xent, temperature=0.5)


class Network(nn.Module):
    """An encoder and a head with batch norm, from views (V, B, 3, 6, 6) to (V, B, 5)."""

    def __init__(self, dtype, *, synchronized=False):
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Sequential(
            nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(2)
        )
        self.head = nn.Sequential(
            nn.Linear(16, 6, bias=False), nn.BatchNorm1d(6, momentum=None), nn.ReLU()
        )
        self.last = nn.Linear(6, 5)
        self.to(dtype)
        if synchronized:
            sync_batch_norm(self, torch.device("cpu"))

    def forward(self, views):
        features = torch.stack([self.encoder(view).flatten(1) for view in views])
        return self.last(self.head(features.flatten(0, 1))).unflatten(0, features.shape[:2])

    def at(self, theta, views):
        """The output at other parameters; running statistics stay."""
        buffers = {name: buffer.clone() for name, buffer in self.named_buffers()}
        return functional_call(self, {**buffers, **theta}, (views,))


def rows_of(dtype, world=None):
    """Views (2, B, 3, 6, 6) of all 8 images or a rank's; images differ in mean and spread."""
    torch.manual_seed(1)
    size = torch.arange(8.0).view(8, 1, 1, 1)
    views = (torch.randn(2, 8, 3, 6, 6) * (1 + size / 4) + size / 8).to(dtype)
    return views if world is None else views.chunk(world.size, 1)[world.rank]


def difference(actual, expected):
    """The largest difference of two tensors, relative where the second one is large."""
    return ((actual - expected).abs() / (1 + expected.abs())).max().item()


def differences(actual, expected):
    assert actual.keys() == expected.keys()
    return max(difference(actual[name], expected[name]) for name in expected)


def averaging(network):
    """The network in torch's own wrapper, which takes the mean of the ranks' gradients."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        own = dist.new_group()
        return DistributedDataParallel(network, process_group=own, broadcast_buffers=False)


def step(dtype, world=None, *, wrapped=False, fault=None):
    """Loss, gradients and statistics by name, of one process or of a rank with a ``fault``."""
    network = Network(dtype, synchronized=world and fault != "own statistics")
    model = averaging(network) if wrapped else network
    z = model(rows_of(dtype, world))
    if fault == "gradient of rank 0's rows":
        dist.get_rank = lambda: 0
    scaled = wrapped and fault != "gradient not scaled"
    loss = loss_of(*gather(z, 1, scale=world_size() if scaled else 1))
    if fault == "gradient of own negatives":
        own = loss_of(*z)
        loss = loss.detach() + own - own.detach()
    if wrapped:
        loss.backward()
        slopes = [parameter.grad for parameter in network.parameters()]
    else:
        slopes = torch.autograd.grad(loss, list(network.parameters()))
        if fault != "gradient not summed":
            sum_over_ranks_(slopes)
    names = [name for name, _ in network.named_parameters()]
    return {
        "loss": loss.detach(),
        **dict(zip(names, slopes, strict=True)),
        **{name: buffer for name, buffer in network.named_buffers() if "running" in name},
    }


def step_on_rank(world, dtype, wrapped, fault=None):
    return step(dtype, world, wrapped=wrapped, fault=fault)


@pytest.mark.parametrize("wrapped", [True, False], ids=["ddp", "bare"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-6)])
@pytest.mark.parametrize("size", [2, 4])
def test_ranks_train_as_one_process_does(size, dtype, tolerance, wrapped):
    expected = step(dtype)
    for found in on_ranks(step_on_rank, size, dtype, wrapped):
        assert differences(found, expected) < tolerance


@pytest.mark.parametrize(
    ("fault", "wrapped"),
    [
        ("gradient not scaled", True),
        ("gradient not summed", False),
        ("gradient of own negatives", True),
        ("gradient of own negatives", False),
        ("gradient of rank 0's rows", False),
        ("own statistics", True),
    ],
)
def test_that_equality_would_show_a_fault(fault, wrapped):
    expected = step(torch.float64)
    for found in on_ranks(step_on_rank, 2, torch.float64, wrapped, fault):
        assert differences(found, expected) > 1e-2
        assert fault == "own statistics" or difference(found["loss"], expected["loss"]) < 1e-10


def through_a_virtual_step(world=None):
    """d/dpsi of the loss at theta - 0.1 grad(loss of psi z): its gradient passes a gradient."""
    network = Network(torch.float64, synchronized=world)
    views = rows_of(torch.float64, world)
    theta = dict(network.named_parameters())
    psi = torch.linspace(0.5, 1.5, 5, dtype=torch.float64, requires_grad=True)
    inner = loss_of(*gather(network.at(theta, views), 1) * psi)
    slopes = torch.autograd.grad(inner, list(theta.values()), create_graph=True)
    moved = {
        name: tensor - 0.1 * sum_over_ranks(slope)
        for (name, tensor), slope in zip(theta.items(), slopes, strict=True)
    }
    outer = loss_of(*gather(network.at(moved, views), 1))
    slopes = torch.autograd.grad(outer, [psi])
    sum_over_ranks_(slopes)
    return slopes[0]


def test_second_derivatives():
    expected = through_a_virtual_step()
    for found in on_ranks(through_a_virtual_step, 2):
        assert difference(found, expected) < 1e-10


def tangents(world=None, mode="function"):
    """Tangents of the gathered output and of the loss, along one direction of theta."""
    network = Network(torch.float64, synchronized=world)
    views = rows_of(torch.float64, world)
    theta = {name: tensor.detach() for name, tensor in network.named_parameters()}
    torch.manual_seed(2)
    along = {name: torch.randn_like(tensor) for name, tensor in theta.items()}

    def outputs(theta):
        z = gather(network.at(theta, views), 1, scale=world_size())
        return z, loss_of(*z)

    if mode == "function":
        return jvp(outputs, (theta,), (along,))[1]
    with forward_ad.dual_level():
        dual = {name: forward_ad.make_dual(theta[name], along[name]) for name in theta}
        return tuple(forward_ad.unpack_dual(value).tangent for value in outputs(dual))


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning")  # torch's own
@pytest.mark.parametrize("mode", ["function", "dual numbers"])
def test_tangents(mode):
    expected = tangents()
    for found in on_ranks(tangents, 2, mode):
        assert [difference(a, b) < 1e-10 for a, b in zip(found, expected, strict=True)] == [
            True
        ] * 2


class Outputs(NamedTuple):
    online: torch.Tensor
    target: torch.Tensor
    features: torch.Tensor | None = None
    pairs: tuple[tuple[int, int], ...] | None = None


def exchange(world):
    own = torch.full((2, 1, 3), float(world.rank), requires_grad=True)
    outputs = gather_outputs(Outputs(own, own, own.detach().bfloat16(), ((0, 1),)), scale=3)
    outputs.online.backward(torch.arange(2.0 * world.size * 3).view(2, world.size, 3))
    apart = gather_outputs(Outputs(own, own.clone()))
    sums = [torch.ones(2, 3).T * (world.rank + 1), torch.tensor(world.rank), torch.ones(())]
    sum_over_ranks_(sums)
    barrier()
    return {
        "world": astuple(world),
        "online": outputs.online.detach(),
        "features": outputs.features,
        "one tensor": (outputs.target is outputs.online, apart.target is apart.online),
        "rest": outputs.pairs,
        "slope": own.grad,
        "last dim": gather(own.detach(), -1),
        "sums": sums,
        "votes": [
            any_rank(world.rank == 1),
            any_rank(False),
            all_agree(True),
            all_agree(world.main),
        ],
        "first": broadcast_object({"seed": world.rank}),
        "all": gather_object(("rank", world.rank)),
    }


def test_what_ranks_exchange():
    first, second = on_ranks(exchange, 2)
    assert (first["world"], second["world"]) == ((0, 2, 0), (1, 2, 1))
    assert (first["all"], second["all"]) == ([("rank", 0), ("rank", 1)], [])
    slopes = 3 * torch.arange(12.0).view(2, 2, 3)
    for rank, found in enumerate((first, second)):
        assert found["online"][:, :, 0].tolist() == [[0, 1], [0, 1]]
        assert found["features"].dtype == torch.bfloat16
        assert torch.equal(found["features"].float(), found["online"])
        assert found["one tensor"] == (True, False)
        assert found["rest"] == ((0, 1),)
        assert torch.equal(found["slope"], slopes[:, rank : rank + 1])
        assert found["last dim"].tolist() == [[[0, 0, 0, 1, 1, 1]]] * 2
        assert torch.equal(found["sums"][0], torch.full((3, 2), 3.0))
        assert (found["sums"][1], found["sums"][2]) == (1, 2)
        assert found["votes"] == [True, False, True, False]
        assert found["first"] == {"seed": 0}


def test_a_world_of_one():
    with join() as alone:
        assert (alone, alone.main, world_size()) == (World(), True, 1)
        assert not dist.is_initialized()
    own = torch.ones(2, 3, 4)
    assert gather(own, 1) is sum_over_ranks(own) is own
    outputs = gather_outputs(Outputs(own, own))
    assert outputs.online is outputs.target is own
    sum_over_ranks_([own])
    barrier()
    assert torch.equal(own, torch.ones(2, 3, 4))
    assert [any_rank(True), any_rank(False), all_agree(True), all_agree(False)] == [1, 0, 1, 0]
    assert (broadcast_object("a"), gather_object("a")) == ("a", ["a"])
