# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from iclmsr.errors import IclmsrError
from iclmsr.networks import EncoderConfig, initial_encoder
from iclmsr.study.similarity_maps import gradient_maps, is_fine, occlusion_maps, similarity_maps

SIDE = 16


class Corner(nn.Module):
    """Sees the upper left quarter only."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            nn.init.normal_(self.conv.weight)

    def forward(self, x):
        keep = torch.zeros(SIDE, SIDE)
        keep[: SIDE // 2, : SIDE // 2] = 1
        return F.adaptive_avg_pool2d(self.conv(x).relu() * keep, 2).flatten(1)


def views(count=3, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, SIDE, SIDE, generator=draw)


def encoder(stem="cifar"):
    return initial_encoder(EncoderConfig(stem=stem, width=4), seed=0)


def corner(maps):
    return maps[:, : SIDE // 2, : SIDE // 2].sum((1, 2))


def test_occlusion_finds_where_a_network_looks():
    maps = occlusion_maps(Corner(), views(), views(seed=1) + 0.5 * views(), patch=2, stride=2)
    assert corner(maps) == pytest.approx([1.0] * 3)
    assert not maps[:, SIDE // 2 :].any()
    assert not maps[:, :, SIDE // 2 :].any()


def test_gradient_finds_where_a_network_looks():
    class Masked(nn.Module):
        """Its layer is silent but in the upper left quarter."""

        def forward(self, x):
            keep = torch.zeros(SIDE, SIDE)
            keep[: SIDE // 2, : SIDE // 2] = 1
            return x * keep

    conv = Corner().conv
    network = nn.Sequential(conv, nn.ReLU(), Masked(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    maps = gradient_maps(network, views(), views(seed=1), layer="2")
    assert corner(maps) == pytest.approx([1.0] * 3)


def test_gradient_against_a_written_out_formula():
    network, first, second = encoder(), views(2), views(2, seed=1)
    network.eval()
    with torch.no_grad():
        other, own = network(second), network(first)
    found = similarity_maps(network, first, second, layer="network.layer3")
    assert found.shape[1:] == (4, 4)
    inner = network.network
    x = inner.maxpool(inner.relu(inner.bn1(inner.conv1(first))))
    a = inner.layer3(inner.layer2(inner.layer1(x))).detach().requires_grad_()
    f = inner.avgpool(inner.layer4(a)).flatten(1)
    for row in range(2):
        score = (f[row] @ other[row]) / (own[row].norm() * other[row].norm())
        gradient = torch.autograd.grad(score, a, retain_graph=True)[0][row]
        expected = sum(
            gradient[channel].mean() * a[row, channel] for channel in range(len(gradient))
        )
        assert torch.allclose(found[row], expected.detach(), atol=1e-6)


def test_before_relu_the_map_of_the_last_convolution_adds_up_to_the_cosine():
    network = encoder().eval()
    first, second = views(), views(seed=1)
    raw = similarity_maps(network, first, second, layer="network.layer4")
    assert torch.equal(raw, similarity_maps(network, first, second))
    with torch.no_grad():
        cosine = F.cosine_similarity(network(first), network(second))
    assert torch.allclose(raw.mean((1, 2)) * raw[0].numel(), cosine, atol=1e-5)
    equal = similarity_maps(network, first, first, layer="network.layer4")
    assert torch.allclose(equal.sum((1, 2)), torch.ones(3), atol=1e-5)


@pytest.mark.parametrize("make", [gradient_maps, occlusion_maps])
def test_maps_are_shares_and_the_network_leaves_as_it_came(make):
    network = encoder()
    network.train()
    network.network.bn1.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    first, second = views(), views(seed=1)
    maps = make(network, first, second)
    assert maps.shape == (3, SIDE, SIDE)
    assert (maps >= 0).all()
    assert torch.allclose(maps.sum((1, 2)), torch.ones(3), atol=1e-5)
    assert torch.equal(maps, make(network, first, second))
    assert network.training
    assert not network.network.bn1.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not network.network.layer4._forward_hooks
    alone = make(network, first[1:2], second[1:2])
    assert torch.allclose(maps[1:2], alone, atol=1e-6)  # images do not see one another


def test_what_follows_may_work_in_place():
    conv = Corner().conv
    tail = (nn.AdaptiveAvgPool2d(1), nn.Flatten())
    one = nn.Sequential(conv, nn.ReLU(inplace=True), *tail)
    other = nn.Sequential(conv, nn.ReLU(), *tail)
    expected = similarity_maps(other, views(), views(seed=1), layer="0")
    assert (expected < 0).any()
    assert torch.equal(similarity_maps(one, views(), views(seed=1), layer="0"), expected)


def test_a_map_is_fine_from_4_places_on():
    assert is_fine(encoder(), torch.zeros(1, 3, 32, 32))
    assert not is_fine(encoder("small"), torch.zeros(1, 3, 32, 32))
    assert not is_fine(Corner(), torch.zeros(1, 3, SIDE, SIDE))


def test_a_blank_map_stays_blank():
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    nn.init.zeros_(network[0].weight)
    nn.init.zeros_(network[0].bias)
    assert not gradient_maps(network, views(), views(), layer="0").any()
    assert not occlusion_maps(network, views(), views()).any()


def test_occlusion_against_a_double_loop():
    first, second = views(1), views(1, seed=1)
    network = nn.Flatten()
    found = occlusion_maps(network, first, second, patch=8, stride=6)
    fall, count = torch.zeros(SIDE, SIDE), torch.zeros(SIDE, SIDE)
    whole = F.cosine_similarity(first.flatten(1), second.flatten(1))
    for top in (0, 6, 8):
        for left in (0, 6, 8):
            hidden = first.clone()
            hidden[0, :, top : top + 8, left : left + 8] = 0
            less = whole - F.cosine_similarity(hidden.flatten(1), second.flatten(1))
            for i in range(top, top + 8):
                for j in range(left, left + 8):
                    fall[i, j] += less.item()
                    count[i, j] += 1
    expected = (fall / count).relu()
    assert torch.allclose(found[0], expected / expected.sum(), atol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda v: gradient_maps(nn.Flatten(), v, v), "Flatten is no ResNet: name the layer"),
        (lambda v: gradient_maps(encoder(), v, v, layer="layer9"), "no layer 'layer9'"),
        (
            lambda v: gradient_maps(nn.Sequential(nn.Flatten()), v, v, layer="0"),
            "layer '0' gives no map (B, C, h, w) but (3, 768)",
        ),
        (lambda v: occlusion_maps(nn.Identity(), v, v), "must give (B, F), got (3, 3, 16, 16)"),
        (lambda v: occlusion_maps(nn.Flatten(), v, v, patch=17), "patch must be in [1, 16]"),
        (
            lambda v: occlusion_maps(nn.Flatten(), v, v, patch=4, stride=5),
            "stride must be in [1, 4] pixels, the patch, got 5",
        ),
    ],
)
def test_what_has_no_map(call, message):
    with pytest.raises(IclmsrError) as caught:
        call(views())
    assert message in str(caught.value)
