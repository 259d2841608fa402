# SPDX-License-Identifier: Apache-2.0
"""An encoder that is to be used, not trained."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from iclmsr.config import PretrainConfig, decode
from iclmsr.data.config import DataConfig
from iclmsr.data.names import at_home, printable
from iclmsr.encoders.foreign import as_resnet, find_branch, resnet_of
from iclmsr.encoders.onnx_file import OnnxEncoder
from iclmsr.encoders.preprocessing import IMAGENET, Preprocessing, Triple
from iclmsr.encoders.weights import Weights, put, read_weights, sha256_of
from iclmsr.errors import IclmsrError, nearest
from iclmsr.networks import EncoderConfig, initial_encoder
from iclmsr.networks.encoder import RESNETS
from iclmsr.runs import RunFolder, is_run

LIBRARIES = ("timm", "torchvision")
CHECKPOINTS = (".pth", ".pt", ".ckpt", ".tar", ".bin", ".safetensors")
"""Names of files of weights end like this."""
EXPORTED = ("model.safetensors", "encoder.onnx", *(f"{name}.pth" for name in RESNETS))
"""The files that an exported folder may hold, of which it holds one."""
FORMS = (
    "a run folder, an exported folder, encoder.safetensors, FILE.onnx, a checkpoint *.ckpt or "
    "*.pth of a ResNet, timm:MODEL@FILE or torchvision:resnet18@FILE"
)


@dataclass(frozen=True)
class LoadedEncoder:
    """An encoder f and how its images are prepared.

    Attributes:
        network: (B, 3, H, W) float32, normalized -> (B, F); in evaluation mode.
        name: What to call it, as its recipe or its file.
        mean: Of each channel, subtracted from pixels in [0, 1].
        std: Of each channel, > 0, that they are divided by.
        image_size: Height and width of the images that it was trained on, pixels; None if it is
            not known.
        sha256: Of its weights' file.
        metadata: What else its file says; ``encoder``, the config of its architecture, unless it
            is an ONNX file; ``dropped``, what was left out of a foreign file: heads and branches;
            ``assumed``, what it does not say and was taken to be so.
        resize: Height and width that evaluation resizes images to before the crop; None: none.
        crop: Height and width of the centre that evaluation cuts out then; None: none.
    """

    network: nn.Module
    name: str
    mean: Triple
    std: Triple
    image_size: int | None
    sha256: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    resize: int | None = None
    crop: int | None = None

    @property
    def preprocessing(self) -> Preprocessing:
        """How its images are prepared, as one value."""
        return Preprocessing(self.mean, self.std, self.image_size, self.resize, self.crop)

    def check_size(self, data: DataConfig) -> None:
        """Tries one image of the size that evaluation shows of these data.

        Args:
            data: Their sizes; no image is read.

        Raises:
            IclmsrError: The network does not take it; names the size that it was made for.
        """
        size = data.evaluate_crop or data.evaluate_resize or data.image_size
        try:
            with torch.no_grad():
                self.network(torch.zeros(1, 3, size, size))
            return
        except IclmsrError as error:
            said = str(error)
        except (AssertionError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            said = f"{self.name} does not run on images of {size} x {size} pixels: {reason}"
        raise IclmsrError(f"{said}: pass --data.image-size {self.image_size or 'of another size'}")

    def described(self) -> dict[str, Any]:
        """What files that are made with it say of it, as JSON values.

        Returns:
            ``name``, ``sha256``; ``architecture``, None if it is an ONNX file; ``dropped``, names;
            ``assumed``, a sentence or None.
        """
        return {
            "name": self.name,
            "sha256": self.sha256,
            "architecture": self.metadata.get("encoder"),
            "dropped": list(self.metadata.get("dropped", ())),
            "assumed": self.metadata.get("assumed"),
        }

    def remarks(self) -> list[str]:
        """What a person should know about how it was read, a line each."""
        lines = []
        if self.metadata.get("dropped"):
            lines.append(f"left out of {self.name}: {', '.join(self.metadata['dropped'])}")
        if self.metadata.get("assumed"):
            lines.append(f"assumed of {self.name}: {self.metadata['assumed']}")
        return lines


def load_encoder(source: str | Path) -> LoadedEncoder:
    """The encoder at ``source``, ours or of another library.

    Args:
        source: A run folder, or a folder that `iclmsr export` wrote; ``encoder.safetensors`` or
            another file of ours; ``FILE.onnx``; ``timm:MODEL@FILE``; ``torchvision:resnet18@FILE``
            (also resnet34 and resnet50); or the checkpoint of a ResNet that lightly, solo-learn,
            MoCo or the like have written. FILE is a state dict, .safetensors or of torch.save.
            Heads, queues and momentum branches are left out by their names, see
            :mod:`iclmsr.encoders.foreign`; all other keys must match.

    Raises:
        IclmsrError: There is none, it is damaged, or its keys are not the encoder's: the message
            lists them.
    """
    kind, _, rest = str(source).partition(":")
    if kind in LIBRARIES and not Path(source).exists():
        name, at, file = rest.partition("@")
        if not (at and name and file):
            raise IclmsrError(f"{source} names no encoder: write it as {kind}:MODEL@FILE")
        return _named(kind, name, Path(file))
    path = Path(source)
    if path.is_dir():
        return _in_folder(path)
    if path.suffix == ".onnx":
        return _onnx(path)
    if not path.is_file() or path.suffix not in CHECKPOINTS:
        raise IclmsrError(f"no encoder at {printable(path)}: pass {FORMS}")
    weights = read_weights(path)
    return _ours(path, weights) if "encoder" in weights.metadata else _checkpoint(path, weights)


def absolute_source(source: str) -> str:
    """The same source from wherever one stands: its path written in full.

    >>> absolute_source("timm:test_vit@/weights.pth")
    'timm:test_vit@/weights.pth'
    """
    kind, colon, rest = source.partition(":")
    if kind in LIBRARIES and not Path(source).exists():
        name, at, file = rest.partition("@")
        path = str(at_home(file).absolute()) if file else ""
        return f"{kind}{colon}{name}{at}{path}"
    return str(at_home(source).absolute())


def _in_folder(path: Path) -> LoadedEncoder:
    """The encoder of a run, or of an export."""
    for name in EXPORTED:
        if (path / name).is_file():
            return load_encoder(path / name)
    if not is_run(path):
        raise IclmsrError(f"no encoder in {printable(path)}: pass {FORMS}")
    folder = RunFolder.open(path)
    config = decode(PretrainConfig, folder.config())
    weights = read_weights(folder.encoder)
    metadata = {"preprocessing": Preprocessing.of(config.data).to_json(), **weights.metadata}
    named = {**metadata, "name": config.recipe or path.name}
    return _ours(folder.encoder, weights._replace(metadata=named))


def _ours(path: Path, weights: Weights) -> LoadedEncoder:
    """An encoder that we wrote; images are prepared as the file or its run folder say."""
    metadata = dict(weights.metadata)
    where = printable(path)
    if "encoder" not in metadata:
        raise IclmsrError(f"{where} does not say which encoder it is of: it was not written here")
    if "preprocessing" not in metadata:
        if not is_run(path.parent):
            raise IclmsrError(f"{where} does not say how images are prepared: pass its run folder")
        run = decode(PretrainConfig, RunFolder.open(path.parent).config())
        metadata["preprocessing"] = Preprocessing.of(run.data).to_json()
    prepared = Preprocessing.from_json(metadata.pop("preprocessing"))
    config = decode(EncoderConfig, metadata["encoder"])
    network = initial_encoder(config, seed=0)
    # The wrapper that Hugging Face's mixin saves calls the network by this name.
    tensors = {key.removeprefix("network."): value for key, value in weights.tensors.items()}
    put(network.network, _without_fc(tensors, network.network), where)
    name = metadata.pop("name", path.stem)
    return _loaded(network, name, prepared, weights.sha256, metadata)


def _without_fc(tensors: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Without the classifier of zeros that an export for torchvision has."""
    return {
        key: value
        for key, value in tensors.items()
        if not key.startswith("fc.") or key in network.state_dict()
    }


def _named(kind: str, name: str, path: Path) -> LoadedEncoder:
    """A model of a library, with weights from a file."""
    if kind == "torchvision" and name not in RESNETS:
        raise IclmsrError(f"no encoder 'torchvision:{name}': {nearest(name, RESNETS)}")
    if kind == "timm" and not timm.is_model(name):
        raise IclmsrError(f"no model {name!r} in timm: {nearest(name, timm.list_models())}")
    weights = read_weights(path)
    about = weights.metadata.get("encoder")
    if about is not None and about["name"] == name:
        return _ours(path, weights)
    config = EncoderConfig(name, stem="imagenet")  # timm's ResNets of these names are the same
    network = initial_encoder(config, seed=0)
    branch = find_branch(weights.tensors, network.network.state_dict())
    tensors = as_resnet(branch.tensors, printable(path)) if name in RESNETS else branch.tensors
    put(network.network, tensors, printable(path))
    usual: Any = getattr(network.network, "pretrained_cfg", {})
    prepared = Preprocessing(
        usual.get("mean", IMAGENET[0]),
        usual.get("std", IMAGENET[1]),
        usual.get("input_size", (3, 224, 224))[-1],
    )
    metadata = {"encoder": asdict(config), "dropped": list(branch.dropped)}
    return _loaded(network, f"{kind}:{name}@{path.name}", prepared, weights.sha256, metadata)


def _checkpoint(path: Path, weights: Weights) -> LoadedEncoder:
    """The ResNet in a checkpoint of another self-supervised library."""
    where = printable(path)
    branch = find_branch(weights.tensors)
    tensors = as_resnet(branch.tensors, where)
    config = resnet_of(tensors, where)
    network = initial_encoder(config, seed=0)
    put(network.network, tensors, where)
    assumed = f"a {config.name}, images normalized as ImageNet's"
    if config.stem == "cifar":
        assumed += ", no max-pool after its 3 x 3 stem"
    metadata = {
        "encoder": asdict(config),
        "prefix": branch.prefix,
        "dropped": list(branch.dropped),
        "assumed": assumed,
    }
    prepared = Preprocessing(*IMAGENET)
    return _loaded(network, path.name, prepared, weights.sha256, metadata)


def _onnx(path: Path) -> LoadedEncoder:
    """An encoder in an ONNX file; its size is the model's own where nothing else is said."""
    network = OnnxEncoder(path)
    metadata = dict(network.metadata)
    prepared = Preprocessing(*IMAGENET, network.image_size)
    if "preprocessing" in metadata:
        prepared = Preprocessing.from_json(metadata.pop("preprocessing"))
    else:
        metadata["assumed"] = "images normalized as ImageNet's"
    name = metadata.pop("name", path.name)
    return _loaded(network, name, prepared, sha256_of(path), metadata)


def _loaded(
    network: nn.Module,
    name: str,
    prepared: Preprocessing,
    sha256: str,
    metadata: Mapping[str, Any],
) -> LoadedEncoder:
    """All of it, ready for use."""
    return LoadedEncoder(
        network.eval(),
        name,
        prepared.mean,
        prepared.std,
        prepared.image_size,
        sha256,
        metadata,
        prepared.resize,
        prepared.crop,
    )
