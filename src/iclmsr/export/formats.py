# SPDX-License-Identifier: Apache-2.0
"""The formats: each writes a folder, and loads it with the library that it is for."""

import contextlib
import io
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import timm
import torch
import torchvision
from torch import Tensor, nn

from iclmsr.errors import IclmsrError
from iclmsr.export.parcel import Parcel
from iclmsr.files import write_atomic, write_json
from iclmsr.networks import initial_encoder
from iclmsr.networks.encoder import RESNETS

CLASSES = 1000
"""Outputs of the classifier of zeros that torchvision's ResNets want."""


@dataclass(frozen=True)
class Format:
    """One of the formats.

    Attributes:
        write: Puts the files into a folder.
        features: Loads them with the library and returns the features of the parcel's probe.
        loader: How a user does that, lines of Python with ``FOLDER`` for the folder.
        library: As Hugging Face's hub calls it.
    """

    write: Callable[[Parcel, Path], None]
    features: Callable[[Parcel, Path], Tensor]
    loader: str
    library: str


def _write_safetensors(parcel: Parcel, folder: Path, prefix: str = "") -> None:
    """The network's own keys, and one entry of metadata."""
    state = parcel.encoder.network.state_dict()
    tensors = {prefix + name: tensor.contiguous() for name, tensor in state.items()}
    metadata = {"iclmsr": json.dumps(parcel.about())}
    write_atomic(folder / "model.safetensors", safetensors.torch.save(tensors, metadata))


def _from_safetensors(parcel: Parcel, folder: Path) -> Tensor:
    """Through safetensors' loader for modules, which is strict."""
    network = initial_encoder(parcel.config, seed=1).network
    safetensors.torch.load_model(network, folder / "model.safetensors")
    return _features(network, parcel)


def _write_timm(parcel: Parcel, folder: Path) -> None:
    """What timm reads from a local directory or a repository on the hub."""
    name = parcel.config.name
    if name in RESNETS and not parcel.standard():
        raise IclmsrError(
            f"timm has no {parcel.stem()}: its own has stem imagenet and width 64; use --format "
            "onnx, hf or safetensors"
        )
    _write_safetensors(parcel, folder)
    images = parcel.preprocessing
    whole = images.resize or images.image_size
    value = {
        "architecture": name.partition(".")[0],
        "num_classes": 0,
        "num_features": parcel.encoder.feature_dim,
        "model_args": dict(parcel.config.options),
        "pretrained_cfg": {
            "tag": "iclmsr",
            "custom_load": False,
            "input_size": [3, parcel.size, parcel.size],
            "fixed_input_size": False,
            "interpolation": "bicubic",
            "crop_pct": images.crop / whole if images.crop and whole else 1.0,
            "crop_mode": "center",
            "mean": list(images.mean),
            "std": list(images.std),
            "num_classes": 0,
        },
    }
    write_json(folder / "config.json", value)


def _from_timm(parcel: Parcel, folder: Path) -> Tensor:
    """Through timm.create_model."""
    return _features(timm.create_model(f"local-dir:{folder}", pretrained=True), parcel)


def _write_torchvision(parcel: Parcel, folder: Path) -> None:
    """A state dict that a ResNet of torchvision takes strictly."""
    if not parcel.standard():
        raise IclmsrError(
            f"torchvision has no {parcel.stem()}: its ResNets have stem imagenet and width 64; use "
            f"--format {'timm, ' if parcel.config.name not in RESNETS else ''}onnx, hf or "
            "safetensors"
        )
    state = dict(parcel.encoder.network.state_dict())
    state["fc.weight"] = torch.zeros(CLASSES, parcel.encoder.feature_dim)
    state["fc.bias"] = torch.zeros(CLASSES)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomic(folder / f"{parcel.config.name}.pth", buffer.getbuffer())


def _from_torchvision(parcel: Parcel, folder: Path) -> Tensor:
    """Through a ResNet of torchvision, strictly."""
    network = torchvision.models.get_model(parcel.config.name)
    state = torch.load(folder / f"{parcel.config.name}.pth", weights_only=True)
    network.load_state_dict(state, strict=True)
    network.fc = nn.Identity()
    return _features(network, parcel)


def _write_onnx(parcel: Parcel, folder: Path) -> None:
    """One file; the batch is free, height and width are those of evaluation."""
    onnx = _package("onnx", "onnx")
    _package("onnxscript", "onnx")
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            parcel.encoder,
            (parcel.probe(),),
            dynamo=True,
            verbose=False,
            input_names=["images"],
            output_names=["features"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )
    assert program is not None
    model = program.model_proto
    for one in (*model.graph.node, *model.graph.value_info, *model.graph.input):
        del one.metadata_props[:]  # the exporter's stack traces name folders of this machine
    del model.graph.metadata_props[:]
    onnx.helper.set_model_props(model, {"iclmsr": json.dumps(parcel.about())})
    onnx.checker.check_model(model)
    write_atomic(folder / "encoder.onnx", model.SerializeToString(deterministic=True))


def _from_onnx(parcel: Parcel, folder: Path) -> Tensor:
    """Through ONNX Runtime, the images one by one and together."""
    session = _package("onnxruntime", "onnx").InferenceSession(
        str(folder / "encoder.onnx"), providers=["CPUExecutionProvider"]
    )
    probe = parcel.probe()
    (whole,) = session.run(["features"], {"images": probe.numpy()})
    singles = [session.run(["features"], {"images": one[None].numpy()})[0] for one in probe]
    parcel.difference(torch.cat([torch.from_numpy(one) for one in singles]))
    return torch.from_numpy(whole)


def _write_hub(parcel: Parcel, folder: Path) -> None:
    """What the mixin's own save_pretrained writes, with our metadata in the weights' file."""
    _package("huggingface_hub", "hf-hub")
    from iclmsr.export.hub import HubEncoder

    network = HubEncoder(parcel.loaded.metadata["encoder"], parcel.preprocessing.to_json())
    network.network.load_state_dict(parcel.encoder.network.state_dict())
    network.save_pretrained(folder)
    _write_safetensors(parcel, folder, prefix="network.")


def _from_hub(parcel: Parcel, folder: Path) -> Tensor:
    """Through the mixin's from_pretrained."""
    from iclmsr.export.hub import HubEncoder

    with contextlib.redirect_stdout(io.StringIO()):  # it tells that it loads
        network = HubEncoder.from_pretrained(folder, local_files_only=True, strict=True)
    return _features(network, parcel)


@torch.no_grad()
def _features(network: nn.Module, parcel: Parcel) -> Tensor:
    """The probe's features by a network that was loaded elsewhere."""
    features: Tensor = network.eval()(parcel.probe())
    return features


def _package(name: str, extra: str) -> Any:
    """An optional package."""
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise IclmsrError(
            f"this format needs {name} ({error}): pip install 'iclmsr[{extra}]'"
        ) from error


FORMATS = {
    "safetensors": Format(
        _write_safetensors,
        _from_safetensors,
        "import iclmsr\n\nencoder = iclmsr.load('FOLDER')\nfeatures = encoder.embed('image.png')",
        "iclmsr",
    ),
    "timm": Format(
        _write_timm,
        _from_timm,
        "import timm\n\nencoder = timm.create_model('local-dir:FOLDER', pretrained=True)",
        "timm",
    ),
    "torchvision": Format(
        _write_torchvision,
        _from_torchvision,
        "import torch\nimport torchvision\n\n"
        "encoder = torchvision.models.NAME()\n"
        "encoder.load_state_dict(torch.load('FOLDER/NAME.pth', weights_only=True), strict=True)\n"
        "encoder.fc = torch.nn.Identity()  # its weights are zeros",
        "pytorch",
    ),
    "onnx": Format(
        _write_onnx,
        _from_onnx,
        "import onnxruntime\n\nsession = onnxruntime.InferenceSession('FOLDER/encoder.onnx')\n"
        "(features,) = session.run(['features'], {'images': images})  # (B, 3, H, W) float32",
        "onnx",
    ),
    "hf": Format(
        _write_hub,
        _from_hub,
        "from iclmsr.export.hub import HubEncoder\n\n"
        "encoder = HubEncoder.from_pretrained('FOLDER')",
        "iclmsr",
    ),
}
