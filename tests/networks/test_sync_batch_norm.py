# SPDX-License-Identifier: Apache-2.0
"""In one process SyncBatchNorm is batch norm; see distributed/test_collectives.py for several."""

import copy

import pytest
import timm
import torch
import torch.distributed as dist
from ranks import on_ranks
from torch import nn

from iclmsr.errors import IclmsrError
from iclmsr.networks import SyncBatchNorm, sync_batch_norm
from iclmsr.networks.batch_norm import SplitBatchNorm2d

CPU = torch.device("cpu")
SHAPES = [(nn.BatchNorm1d, (6, 3)), (nn.BatchNorm1d, (6, 3, 2)), (nn.BatchNorm2d, (6, 3, 2, 2))]
OPTIONS = [
    {},
    {"momentum": None},
    {"momentum": 0.0, "eps": 0.1},
    {"affine": False},
    {"track_running_stats": False},
]


def pair(kind, options=None, dtype=torch.float64):
    """Torch's batch norm and ours, with the same parameters and statistics of no special value."""
    torch.manual_seed(0)
    plain = kind(3, **(options or {}), dtype=torch.float64)
    for tensor in (*plain.parameters(), *plain.buffers()):
        if tensor.is_floating_point():
            nn.init.uniform_(tensor, 0.5, 2)
    ours = nn.Sequential(copy.deepcopy(plain).to(dtype))
    sync_batch_norm(ours, CPU)
    assert type(ours[0]) is SyncBatchNorm
    return plain, ours[0]


def outcome(norm, rows):
    """Output, gradients and buffers after three training batches and one in evaluation mode."""
    outputs = [norm(rows * k) for k in (1, 2, 3)]
    outputs.append(norm.eval()(rows))
    loss = sum((out.sin() * out).sum() for out in outputs)
    return outputs, torch.autograd.grad(loss, [rows, *norm.parameters()]), list(norm.buffers())


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(("kind", "shape"), SHAPES)
def test_it_is_batch_norm(kind, shape, options):
    plain, ours = pair(kind, options)
    rows = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    for expected, found in zip(outcome(plain, rows), outcome(ours, rows), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning")  # torch's own
@pytest.mark.parametrize(("kind", "shape"), SHAPES)
def test_derivatives(kind, shape):
    _, ours = pair(kind, {"track_running_stats": False})
    rows = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(ours, rows, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(ours, rows)


def test_a_mean_far_from_zero_cancels_nothing():
    plain, ours = pair(nn.BatchNorm2d, dtype=torch.float32)
    rows = 1e4 + torch.randn(8, 3, 4, 4, dtype=torch.float64).float()
    expected = plain(rows.double())
    found = ours(rows)
    assert (found - expected).abs().max() < 2e-3  # the mean itself is known to 1e-3 only
    assert torch.allclose(ours.running_var.double(), plain.running_var, rtol=1e-5)


def test_memory_format_stays():
    _, ours = pair(nn.BatchNorm2d)
    rows = torch.randn(4, 3, 5, 5, dtype=torch.float64)
    last = rows.contiguous(memory_format=torch.channels_last)
    assert ours(last).is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(ours(last), ours(rows), rtol=1e-12)


def under_autocast(world=None):
    """Output and statistics of a rank's share of bfloat16 rows."""
    _, ours = pair(nn.BatchNorm2d, {"momentum": 1.0}, torch.float32)
    torch.manual_seed(1)
    rows = (3 + torch.randn(8, 3, 4, 4)).bfloat16()
    if world is not None:
        rows = rows.chunk(world.size)[world.rank]
    with torch.autocast("cpu", torch.bfloat16):
        out = ours(rows)
    return out.detach(), ours.running_mean, ours.running_var, rows


def test_statistics_are_float32_under_autocast():
    plain, _ = pair(nn.BatchNorm2d, {"momentum": 1.0})
    alone, *ranks = under_autocast(), *on_ranks(under_autocast, 2)
    out, _, _, rows = alone
    assert out.dtype == torch.bfloat16
    assert torch.allclose(out.double(), plain(rows.double()), rtol=2**-8)
    assert torch.equal(torch.cat([out for out, *_ in ranks]), out)
    for _, mean, variance, _ in (alone, *ranks):
        assert mean.dtype == variance.dtype == torch.float32
        assert torch.allclose(mean.double(), plain.running_mean, rtol=1e-6)
        assert torch.allclose(variance.double(), plain.running_var, rtol=1e-6)


@pytest.mark.parametrize(
    ("shape", "said"),
    [((1, 3), "more than 1 value per channel"), ((3,), r"an input \(B, C, ...\), got \(3,\)")],
)
def test_impossible_inputs(shape, said):
    with pytest.raises(ValueError, match=said):
        SyncBatchNorm(3)(torch.ones(shape))


def test_conversion_changes_the_class_only():
    shared = nn.BatchNorm1d(4)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Sequential(shared, shared)
    ).eval()
    before = dict(network.named_modules())
    tensors = [*network.parameters(), *network.buffers()]
    state = copy.deepcopy(network.state_dict())
    sync_batch_norm(network, CPU)
    sync_batch_norm(network, CPU)  # nothing is left to do
    assert [type(module).__name__ for module in network.modules()] == [
        "Sequential", "Conv2d", "SyncBatchNorm", "Flatten", "Sequential", "SyncBatchNorm"
    ]  # fmt: skip
    after = dict(network.named_modules())
    assert before.keys() == after.keys()
    assert all(before[name] is after[name] for name in before)
    kept = [*network.parameters(), *network.buffers()]
    assert all(a is b for a, b in zip(tensors, kept, strict=True))
    assert not any(module.training for module in network.modules())
    torch.testing.assert_close(network.state_dict(), state, rtol=0, atol=0)
    nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Sequential(*[nn.BatchNorm1d(4)] * 2)
    ).load_state_dict(network.state_dict())


@pytest.mark.parametrize(
    ("device", "ranks", "higher_order", "kind"),
    [
        ("cuda", 2, False, nn.SyncBatchNorm),
        ("cuda", 2, True, SyncBatchNorm),
        ("cuda", 1, False, SyncBatchNorm),
        ("cpu", 2, False, SyncBatchNorm),
    ],
)
def test_which_one_is_taken(monkeypatch, device, ranks, higher_order, kind):
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: ranks)
    network = nn.Sequential(nn.BatchNorm2d(3))
    sync_batch_norm(network, torch.device(device), higher_order=higher_order)
    assert type(network[0]) is kind
    rows = torch.randn(2, 3, 4, 4)
    assert torch.equal(network.eval()(rows), nn.BatchNorm2d(3).eval()(rows))
    repr(network)


@pytest.mark.parametrize(
    "norm", [timm.layers.BatchNormAct2d(4), SplitBatchNorm2d(nn.BatchNorm2d(4), 2)]
)
def test_other_batch_norms_are_refused(norm):
    said = f"^0.1 is a {type(norm).__name__}, which does not span ranks: use an encoder with"
    with pytest.raises(IclmsrError, match=said):
        sync_batch_norm(nn.Sequential(nn.Sequential(nn.ReLU(), norm)), CPU)
