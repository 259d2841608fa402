# SPDX-License-Identifier: Apache-2.0
"""Losses in tiles have the same value, gradient and mixed derivative, in less memory."""

import json
from functools import partial

import pytest
import torch

from iclmsr import tiles
from iclmsr.interventional import interventional_loss
from iclmsr.losses import nt_xent
from iclmsr.methods.lmcl import distance_polarization
from iclmsr.methods.moco_v3 import info_nce
from iclmsr.methods.relic import relic_loss
from iclmsr.methods.ssl_hsic import ssl_hsic_loss
from iclmsr.tiles import over_rows


def interventional(views, psi, **options):
    strata = torch.stack([psi.sigmoid(), psi.cos(), psi.exp()])
    return interventional_loss(views, views, strata, temperature=0.3, **options)


def relic(views, psi, **options):
    return relic_loss(views * psi, views, temperature=0.3, **options)


LOSSES = {  # of (2, N, D) embeddings and (D,) psi
    "nt_xent": lambda views, psi: nt_xent(*(views * psi), temperature=0.3),
    "interventional": interventional,
    "both views": partial(interventional, negatives="both_views"),
    "relic": partial(relic, alpha=0.7),
    "relic first": partial(relic, alpha=0.7, kl_stopgrad="first"),
    "relic entropy": partial(relic, alpha=0.7, kl_stopgrad="entropy"),
    "relic contrast": partial(relic, alpha=0.0),
    "info_nce": lambda views, psi: info_nce(*(views * psi), temperature=0.3),
    "polarization": lambda views, psi: distance_polarization(
        (views * psi).flatten(0, 1), lower=0.2, upper=0.6
    ),
    "ssl_hsic": lambda views, psi: ssl_hsic_loss(views * psi),
}
JOINT = {"nt_xent", "polarization", "ssl_hsic"}  # compare 2 N rows, the others N
every_loss = pytest.mark.parametrize("name", LOSSES)


def draw(n, d, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    views, tangents = torch.randn(2, 2, n, d, generator=generator, dtype=dtype)
    psi = torch.rand(d, generator=generator, dtype=dtype) + 0.5
    return views.requires_grad_(), tangents, psi.requires_grad_()


def derivatives(name, views, tangents, psi):
    """L, dL/du and d<dL/du, u_dot> by psi and u: what both stages ask for."""
    value = LOSSES[name](views, psi)
    (slope,) = torch.autograd.grad(value, views, create_graph=True)
    mixed = torch.autograd.grad((slope * tangents).sum(), [psi, views])
    return [value.detach(), slope.detach(), *mixed]


def close(found, expected, tolerance):
    for x, y in zip(found, expected, strict=True):
        torch.testing.assert_close(x, y, rtol=tolerance, atol=tolerance)


@every_loss
def test_tiles_change_nothing(name, monkeypatch):
    inputs = draw(13, 4)
    whole = derivatives(name, *inputs)
    monkeypatch.setattr(tiles, "ENTRIES", 90)  # 3 of 26 rows, 6 of 13: the last tile is smaller
    close(derivatives(name, *inputs), whole, 1e-12)


@every_loss
def test_memory(name, monkeypatch, tmp_path):
    inputs = draw(512 if name in JOINT else 1024, 4, torch.float32)
    one_matrix = 1024 * 1024 * 4  # bytes
    assert peak(lambda: derivatives(name, *inputs), tmp_path) > one_matrix
    monkeypatch.setattr(tiles, "ENTRIES", 2**15)
    assert peak(lambda: derivatives(name, *inputs), tmp_path) < one_matrix


def peak(run, folder):
    """The most bytes that tensors held during ``run()``, beyond those from before it."""
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        run()
    profile.export_chrome_trace(str(folder / "trace.json"))
    events = json.loads((folder / "trace.json").read_text())["traceEvents"]
    return max(event["args"]["Total Allocated"] for event in events if event["name"] == "[memory]")


def two_values(x_i, label, y, c):
    """(R, 2), of everything that a tile may get: rows, labels, and two shared tensors."""
    s = (x_i @ y.T).exp() * c
    return torch.stack([s.sum(1).log(), s.gather(1, label[:, None])[:, 0]], dim=1)


def test_primitive(monkeypatch):
    torch.manual_seed(0)
    x, y, c = (torch.randn(n, 3, dtype=torch.float64, requires_grad=True) for n in (5, 4, 1))
    label = torch.tensor([0, 3, 1, 1, 2])

    def values(x, y, c):
        return over_rows(two_values, [x, label], [y, c.exp().sum()])

    def third(x, y, c):
        (first,) = torch.autograd.grad(values(x, y, c).pow(2).sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(first.pow(3).sum(), y, create_graph=True)
        return torch.autograd.grad(second.pow(3).sum(), [x, y, c])

    whole = values(x, y, c), *third(x, y, c)
    monkeypatch.setattr(tiles, "ENTRIES", 10)  # 2 rows of 5
    close([values(x, y, c), *third(x, y, c)], whole, 1e-12)
    assert torch.autograd.gradcheck(values, (x, y, c))
    assert torch.autograd.gradgradcheck(values, (x, y, c))
    assert torch.autograd.gradgradcheck(lambda x: values(x, y.detach(), c.detach()), x)
    assert not values(x.detach(), y.detach(), c.detach()).requires_grad
    with torch.no_grad():
        close([values(x, y, c)], whole[:1], 1e-12)


def test_a_function_without_curvature(monkeypatch):
    monkeypatch.setattr(tiles, "ENTRIES", 6)
    x, y = torch.ones(5, 2, requires_grad=True), torch.ones(3, 2)
    (slope,) = torch.autograd.grad(
        over_rows(lambda x_i, y: (x_i @ y.T).sum(1), [x], [y]).sum(), x, create_graph=True
    )
    assert slope.tolist() == [[3.0, 3.0]] * 5
    assert torch.autograd.grad(slope.sum(), x, allow_unused=True)[0].tolist() == [[0.0, 0.0]] * 5


def test_small_inputs_are_one_call():
    seen = []
    x = torch.ones(4, 2, requires_grad=True)
    over_rows(lambda x_i, y: seen.append((x_i, y)) or x_i.sum(1), [x], [x])
    assert len(seen) == 1
    assert seen[0][0] is x
    assert seen[0][1] is x


def test_backward_under_autocast(monkeypatch):
    views, tangents, psi = draw(40, 16, torch.float32)
    whole = derivatives("nt_xent", views, tangents, psi)
    monkeypatch.setattr(tiles, "ENTRIES", 1000)
    with torch.autocast("cpu", torch.bfloat16):
        tiled = derivatives("nt_xent", views, tangents, psi)
    close(tiled, whole, 1e-5)
