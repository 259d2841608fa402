# SPDX-License-Identifier: Apache-2.0
import pytest
import safetensors.torch
import torch
from torchvision.models import resnet18, resnet50

from iclmsr.errors import IclmsrError
from iclmsr.networks import (
    EncoderConfig,
    Projector,
    build_encoder,
    initial_encoder,
    read_encoder,
    write_encoder,
)


@pytest.mark.parametrize(("name", "reference"), [("resnet18", resnet18), ("resnet50", resnet50)])
def test_standard_width_has_torchvisions_weights_by_name(name, reference):
    with torch.device("meta"):
        encoder = build_encoder(EncoderConfig(name, stem="imagenet"))
        theirs = reference().state_dict()
    ours = encoder.network.state_dict()
    assert ours.keys() == {key for key in theirs if not key.startswith("fc.")}
    assert all(ours[key].shape == theirs[key].shape for key in ours)


@pytest.mark.parametrize(
    ("stem", "size", "map_size"), [("cifar", 32, 4), ("small", 64, 4), ("imagenet", 64, 2)]
)
@pytest.mark.parametrize("width", [4, 64])
def test_stems(stem, size, map_size, width):
    with torch.device("meta"):
        encoder = build_encoder(EncoderConfig(stem=stem, width=width))
        maps = []
        encoder.network.layer4.register_forward_hook(lambda *call: maps.append(call[2]))
        features = encoder(torch.zeros(2, 3, size, size))
    assert features.shape == (2, 8 * width)
    assert encoder.feature_dim == 8 * width
    assert maps[0].shape == (2, 8 * width, map_size, map_size)


def test_cifar_stem_is_the_protocols():
    network = build_encoder(EncoderConfig()).network
    assert network.conv1.weight.shape == (64, 3, 3, 3)
    assert (network.conv1.stride, network.conv1.padding) == ((1, 1), (1, 1))
    bound = 1 / 27**0.5  # nn.Conv2d's own initialization, uniform
    assert network.conv1.weight.abs().max() <= bound
    assert network.conv1.weight.abs().max() > 0.95 * bound


def test_narrow_networks_are_initialized_like_wide_ones():
    torch.manual_seed(0)
    weight = build_encoder(EncoderConfig(width=32)).network.layer2[0].conv2.weight
    assert weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)  # fan out


def test_timm_models_by_name():
    options = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 1, "num_heads": 2}
    encoder = build_encoder(EncoderConfig("vit_tiny_patch16_224", options=options))
    assert encoder(torch.zeros(2, 3, 32, 32)).shape == (2, encoder.feature_dim) == (2, 24)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (EncoderConfig("resnet81"), "unknown encoder 'resnet81': did you mean"),
        (EncoderConfig("resnet18", width=0), "encoder.width must be >= 1, got 0"),
        (EncoderConfig("resnet18", options={"a": 1}), "are for timm models"),
        (
            EncoderConfig("vit_tiny_patch16_224", options={"colour": 1}),
            "'vit_tiny_patch16_224' does not take encoder.options {'colour': 1}",
        ),
    ],
)
def test_bad_configs(config, message):
    with pytest.raises(IclmsrError, match=message):
        build_encoder(config)


def test_initial_encoder_depends_on_the_seed_alone():
    config = EncoderConfig(width=2)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = initial_encoder(config, 3).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    again, other = initial_encoder(config, 3).state_dict(), initial_encoder(config, 4).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["network.conv1.weight"], other["network.conv1.weight"])


def test_encoder_file_round_trip(tmp_path):
    config = EncoderConfig(width=2, stem="small")
    encoder = initial_encoder(config, 0).to(memory_format=torch.channels_last)
    path = tmp_path / "encoder.safetensors"
    write_encoder(path, encoder, config, epoch=3)
    data = path.read_bytes()
    write_encoder(path, encoder, config, epoch=3)
    assert path.read_bytes() == data
    loaded, metadata = read_encoder(path)
    assert metadata == {"epoch": 3}
    assert not loaded.training
    images = torch.randn(2, 3, 64, 64)
    assert torch.allclose(loaded(images), encoder.eval()(images), atol=1e-6)
    assert "layer4.1.bn2.running_var" in safetensors.torch.load_file(path)


def test_files_that_are_no_encoder(tmp_path):
    with pytest.raises(IclmsrError, match="no encoder at"):
        read_encoder(tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("hello, this is text")
    with pytest.raises(IclmsrError, match="is not a safetensors file"):
        read_encoder(tmp_path / "text.safetensors")
    safetensors.torch.save_file({"a": torch.ones(1)}, tmp_path / "other.safetensors")
    with pytest.raises(IclmsrError, match="does not say which encoder it is of"):
        read_encoder(tmp_path / "other.safetensors")


def test_projector_layers():
    head = Projector(5, 7, 3, output_norm=True)
    assert [type(layer).__name__ for layer in head] == [
        "Linear",
        "BatchNorm1d",
        "ReLU",
        "Linear",
        "BatchNorm1d",
    ]
    assert head[4].affine
    assert head[0].bias is not None
    assert len(Projector(5, 7, 3, output_norm=False)) == 4
