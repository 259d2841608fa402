# SPDX-License-Identifier: Apache-2.0
"""The encoder f with its small-image stems, built, written and read."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import safetensors
import safetensors.torch
import timm
import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from iclmsr.errors import IclmsrError, nearest
from iclmsr.files import write_atomic
from iclmsr.seeds import derive

RESNETS: dict[str, tuple[type[BasicBlock | Bottleneck], tuple[int, int, int, int]]] = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
}


@dataclass(frozen=True)
class EncoderConfig:
    """Which encoder f is trained."""

    name: str = "resnet18"
    """resnet18, resnet34, resnet50, or the name of any timm model."""
    stem: Literal["cifar", "small", "imagenet"] = "cifar"
    """First layers of a ResNet: 3x3 stride 1 without max-pool (cifar, 32 px), the same with
    max-pool (small, 64 px), or 7x7 stride 2 with max-pool (imagenet)."""
    width: int = 64
    """Channels of a ResNet's first stage; the later ones double it. 64 is the standard."""
    options: dict[str, int | float | bool | str] = field(default_factory=dict)
    """Further arguments for a timm model in pairs, e.g. img_size 32 patch_size 4."""


class Encoder(nn.Module):
    """The encoder f: (B, 3, H, W) -> (B, F), all that evaluation uses.

    Attributes:
        network: The bare torchvision or timm module; its state dict has that library's own keys.
        feature_dim: F.
    """

    def __init__(self, network: nn.Module, feature_dim: int) -> None:
        super().__init__()
        self.network = network
        self.feature_dim = feature_dim

    def forward(self, images: Tensor) -> Tensor:
        """Features (B, F) of images (B, 3, H, W)."""
        features: Tensor = self.network(images)
        return features


def build_encoder(config: EncoderConfig) -> Encoder:
    """An untrained encoder; initial weights come from torch's global generator.

    Args:
        config: Which one.

    Raises:
        IclmsrError: Unknown name, or an option that the model does not take.

    Source: He et al. 2016; small-image stems as W-MSE's public code.
    Departure: none.

    >>> encoder = build_encoder(EncoderConfig(width=4))
    >>> encoder(torch.zeros(2, 3, 32, 32)).shape == (2, encoder.feature_dim) == (2, 32)
    True
    """
    if config.name in RESNETS:
        return _resnet(config)
    if not timm.is_model(config.name):
        names = [*RESNETS, *timm.list_models()]
        raise IclmsrError(f"unknown encoder {config.name!r}: {nearest(config.name, names)}")
    try:
        model: Any = timm.create_model(
            config.name, num_classes=0, **cast(dict[str, Any], config.options)
        )
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise IclmsrError(
            f"encoder {config.name!r} does not take encoder.options {config.options}: {reason}"
        ) from error
    return Encoder(model, model.num_features)


def initial_encoder(config: EncoderConfig, seed: int) -> Encoder:
    """The encoder as a run with this seed starts it; torch's global generator stays untouched."""
    with torch.random.fork_rng():
        torch.manual_seed(derive(seed, "encoder"))
        return build_encoder(config)


def write_encoder(path: Path, encoder: Encoder, config: EncoderConfig, **more: Any) -> None:
    """Writes the encoder's weights as safetensors, atomically.

    Keys are the network's own (torchvision's or timm's). The metadata are one entry, ``iclmsr``,
    with ``config`` and ``more``, JSON values: safetensors writes several in an order that varies.
    """
    weights = {name: tensor.contiguous() for name, tensor in encoder.network.state_dict().items()}
    metadata = {"iclmsr": json.dumps({"encoder": asdict(config), **more})}
    write_atomic(path, safetensors.torch.save(weights, metadata))


def read_encoder(path: Path) -> tuple[Encoder, dict[str, Any]]:
    """The encoder that :func:`write_encoder` wrote, in evaluation mode, and its metadata.

    Raises:
        IclmsrError: No such file, or not one of ours.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            known = (file.metadata() or {}).get("iclmsr")
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except OSError as error:
        raise IclmsrError(
            f"no encoder at {path}: the run has written no checkpoint yet, or the path is wrong"
        ) from error
    except safetensors.SafetensorError as error:
        raise IclmsrError(f"{path} is not a safetensors file: {error}") from error
    if known is None:
        raise IclmsrError(f"{path} does not say which encoder it is of: it was not written here")
    metadata: dict[str, Any] = json.loads(known)
    encoder = initial_encoder(EncoderConfig(**metadata.pop("encoder")), seed=0)
    encoder.network.load_state_dict(weights)
    return encoder.eval(), metadata


def _resnet(config: EncoderConfig) -> Encoder:
    """A torchvision ResNet of any width with the stem asked for and no classifier."""
    if config.width < 1:
        raise IclmsrError(f"encoder.width must be >= 1, got {config.width}")
    if config.options:
        raise IclmsrError(
            f"encoder.options {config.options} are for timm models; {config.name!r} takes none"
        )
    block, depths = RESNETS[config.name]
    network = ResNet(block, list(depths))
    width = config.width
    if width != 64:
        # torchvision fixes the width of basic blocks at 64, so its own layer maker is run again.
        network.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
        network.bn1 = nn.BatchNorm2d(width)
        network.inplanes = width
        for stage, depth in enumerate(depths):
            layer = network._make_layer(block, width * 2**stage, depth, stride=1 + (stage > 0))
            for module in layer.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            setattr(network, f"layer{stage + 1}", layer)
    if config.stem != "imagenet":
        network.conv1 = nn.Conv2d(3, width, 3, stride=1, padding=1, bias=False)
    if config.stem == "cifar":
        network.maxpool = nn.Identity()
    network.fc = nn.Identity()
    return Encoder(network, width * 8 * block.expansion)
