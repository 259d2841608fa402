# SPDX-License-Identifier: Apache-2.0
"""Several processes update theta and psi as one process does on the whole batch."""

import copy
import re
from dataclasses import fields

import pytest
import torch
from ranks import on_ranks
from torch import nn

from iclmsr import stages as module
from iclmsr.config import MSRConfig, PretrainConfig
from iclmsr.distributed import World
from iclmsr.errors import IclmsrError
from iclmsr.methods import METHODS
from iclmsr.networks import Encoder
from iclmsr.optim import OptimizerConfig
from iclmsr.stages import Batch, Place, TwoStages

IMAGES = 32
SIZES = {"hidden_dim": 16, "embedding_dim": 8, "sub_batch": 16, "queue_size": 32, "prototypes": 8}
CASES = [
    *((name, "static", "dual") for name in METHODS),
    ("simclr", "features", "dual"),
    ("byol", "features-attached", "forward"),
]


def tiny_encoder(*_):
    torch.manual_seed(0)
    layers = [
        nn.Sequential(nn.Conv2d(c, 8, 3, stride=2, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        for c in (3, 8)
    ]
    return Encoder(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), 8)


def config_of(name, source, engine):
    has = {field.name for field in fields(METHODS[name])}
    msr = MSRConfig(enabled=True, strata=3, hidden_dim=8, source=source, engine=engine, average=100)
    return PretrainConfig(
        batch_size=IMAGES,
        method=METHODS[name](**{key: value for key, value in SIZES.items() if key in has}),
        optimizer=OptimizerConfig(name="sgd", warmup_steps=0),
        msr=msr,
    )


def share(seed, world, dtype):
    """This rank's part of a batch of two views, of images whose colours differ."""
    generator = torch.Generator().manual_seed(seed)
    whole = torch.randn(2, IMAGES, 3, 12, 12, generator=generator, dtype=torch.float64)
    whole += 2 * torch.randn(IMAGES, 3, 1, 1, generator=generator, dtype=torch.float64)
    part = IMAGES // world.size
    own = whole[:, world.rank * part : (world.rank + 1) * part].to(dtype)
    return Batch(list(own), Place(0, seed))


def train(world, case, dtype, broken="", widened=False):
    """Both stages at once, a step of theta, both again, one of psi: all that they computed."""
    torch.set_default_dtype(dtype)
    module.starting_encoder = tiny_encoder
    if broken:
        module.gather_outputs = globals()[broken]
    two = TwoStages(config_of(*case), torch.device("cpu"), world)
    if widened:  # one process: the same initial weights, and from there on float64
        two.method.double(), two.msr.double()
        dtype = torch.float64
    found = {}
    for number, outer in ((1, 2), (3, None), (4, 4)):
        batch = share(number, world, dtype)
        outer = outer and share(outer, world, dtype)
        losses, _ = two.theta_step(*batch, lr=1e-2, progress=0.5, outer=outer)
        for name, value in losses.items():
            found[f"{number} {name}"] = torch.tensor(value)
        for name, parameter in two.theta.items():
            found[f"{number} gradient of {name}"] = parameter.grad.clone()
        for place, tensor in enumerate(two.two.psi):
            if tensor.grad is not None:
                found[f"{number} gradient of psi {place}"] = 100 * tensor.grad
    found["alone"] = torch.tensor(
        two.psi_step(share(5, world, dtype), share(6, world, dtype), lr=1e-2)["outer"]
    )
    for name, tensor in two.method.state_dict().items():
        found[f"after: {name}"] = tensor.clone().to(dtype)
    for place, tensor in enumerate(two.two.psi):
        found[f"after: gradient of psi {place}"] = tensor.grad.clone()
    torch.set_default_dtype(torch.float32)
    return found


def train_all(world, cases, dtype):
    return [train(world, case, dtype) for case in cases]


def worst(found, expected):
    """The largest difference, relative to the largest number in its tensor; and where.

    A bias before batch norm has a gradient of zero: there, relative to all gradients' largest.
    """
    assert found.keys() == expected.keys()
    largest = max(float(v.abs().max()) for name, v in expected.items() if "gradient of" in name)
    errors = {}
    for name, value in expected.items():
        scale = float(value.abs().max())
        scale = scale if scale > 1e-3 * largest else largest
        errors[name] = float((found[name] - value).abs().max()) / scale
    return max((error, name) for name, error in errors.items())


@pytest.fixture
def alone(monkeypatch):
    """``alone(cases, dtype)``: what one process computes."""
    monkeypatch.setattr(module, "starting_encoder", tiny_encoder)
    return lambda cases, dtype: train_all(World(), cases, dtype)


@pytest.mark.parametrize("size", [2, 4])
def test_every_method_in_float64(alone, size):
    cases = CASES if size == 2 else [("simclr", "static", "dual"), ("byol", "features", "dual")]
    expected = alone(cases, torch.float64)
    for found in on_ranks(train_all, size, cases, torch.float64, timeout=180):
        for case, one, other in zip(cases, found, expected, strict=True):
            error, name = worst(one, other)
            assert error <= 1e-10, (case, name)


@pytest.mark.parametrize("size", [2, 4])
def test_float32(alone, size):
    """1e-6, or what one process in float32 is itself from the truth, for as far as it is more."""
    cases = [("simclr", "static", "dual"), ("byol", "static", "dual")]
    expected = alone(cases, torch.float32)
    truth = [train(World(), case, torch.float32, widened=True) for case in cases]
    for found in on_ranks(train_all, size, cases, torch.float32, timeout=120):
        for case, one, other, exact in zip(cases, found, expected, truth, strict=True):
            for part in ("1 gradient of [^p]|1 gradient of pr", "1 gradient of psi"):
                a, b, c = (
                    torch.cat([v.flatten() for name, v in each.items() if re.match(part, name)])
                    for each in (one, other, exact)
                )
                rounding = (b - c).norm()
                assert rounding <= 1e-5 * c.norm(), (case, part)
                assert (a - b).norm() <= max(1e-6 * b.norm(), 3 * rounding), (case, part)
            for name in ("1 loss", "1 contrastive", "1 interventional", "1 outer"):
                assert one[name].item() == pytest.approx(other[name].item(), rel=1e-6)


def test_the_engine_of_differences(alone):
    """As exact as differences are: rounding, divided by their step of 1e-8."""
    cases = [("simclr", "static", "difference"), ("byol", "static", "difference")]
    expected = alone(cases, torch.float64)
    for found in on_ranks(train_all, 2, cases, torch.float64, timeout=120):
        for case, one, other in zip(cases, found, expected, strict=True):
            error, name = worst(one, other)
            assert error <= 1e-6, (case, name)


def lose_negatives(outputs, *, scale=1.0):
    """What a gather that keeps each rank's negatives to itself amounts to."""
    return outputs


def forget_the_scale(outputs, *, scale=1.0):
    """Gathers, but DistributedDataParallel then halves the gradient."""
    from iclmsr.distributed import gather_outputs

    return gather_outputs(outputs)


def keep_the_others_out(outputs, *, scale=1.0):
    """Gathers values, but the gradient of other ranks' rows is taken for one's own."""
    from iclmsr.distributed import gather_outputs

    whole = gather_outputs(outputs, scale=scale)
    return whole._replace(online=whole.online.roll(outputs.online.shape[1], dims=1))


@pytest.mark.parametrize("broken", ["lose_negatives", "forget_the_scale", "keep_the_others_out"])
def test_a_broken_gather_is_seen(alone, broken):
    case = ("simclr", "static", "dual")
    expected = alone([case], torch.float64)[0]
    found = on_ranks(train, 2, case, torch.float64, broken)[0]
    assert worst(found, expected)[0] > 1e-4


def test_the_reference_engine_says_that_it_needs_one_process():
    config = copy.copy(config_of("simclr", "static", "reference"))
    on_ranks(refuse, 2, config)


def refuse(world, config):
    module.starting_encoder = tiny_encoder
    with pytest.raises(IclmsrError, match="in one process"):
        TwoStages(config, torch.device("cpu"), world)
