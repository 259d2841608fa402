# SPDX-License-Identifier: Apache-2.0
"""What a pretraining run is made of, as one value that goes to JSON and back."""

import dataclasses
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

from iclmsr.data.sources import DataConfig
from iclmsr.data.views import ViewConfig
from iclmsr.errors import IclmsrError, nearest
from iclmsr.methods import MethodConfig
from iclmsr.methods.simclr import SimCLRConfig
from iclmsr.networks import EncoderConfig
from iclmsr.optim import OptimizerConfig
from iclmsr.regularizer import Bound, Negatives, Prior, Source

Config = TypeVar("Config")


@dataclass(frozen=True)
class MSRConfig:
    """The meta semantic regularizer and its two stages."""

    enabled: bool = False
    """Whether the regularizer is used at all."""
    strata: int = 8
    """n, the number of strata, >= 1."""
    loss_weight: float = 1.0
    """lambda, the weight of L_do in stage 1, >= 0."""
    source: Source = "static"
    """static: A_s is a learnable matrix; features: an MLP on both views' encoder features makes
    it per image; features-attached: the same, with gradient into the encoder in stage 2."""
    learnt: Literal["stage-2", "jointly", "never"] = "stage-2"
    """How psi is learnt: by the meta-gradient of stage 2 (Eq. 5); jointly with theta, downhill on
    lambda L_do in stage 1; never, A_s stays as it was drawn. The last two are ablations."""
    bound: Bound = "sigmoid"
    """Range of a weight: sigmoid (0, 1), softplus (0, inf), softmax over D times D."""
    prior: Prior = "uniform"
    """P(Z_t): uniform 1/n, or learned with the regularizer."""
    negatives: Negatives = "other_view"
    """Negatives of L_do: those of the other view (Eq. 2), or of both views."""
    temperature: float | None = None
    """Temperature of L_do, > 0; None takes the base method's, or 0.5 if it has none."""
    diversity_weight: float = 0.0
    """gamma, the weight of L_div in stage 2, >= 0."""
    hidden_dim: int = 512
    """Width of the MLP of a source that reads features."""
    lr: float = 1e-3
    """Learning rate of psi's optimizer, > 0."""
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    """Optimizer of psi."""
    inner_lr: float | None = None
    """alpha, the rate of the virtual step, >= 0; None takes theta's current learning rate."""
    inner_step: Literal["sgd", "optimizer"] = "sgd"
    """The virtual step: plain SGD, or what theta's optimizer would do in its present state."""
    outer_batch: Literal["same", "fresh"] = "same"
    """What theta' is judged on: the virtual step's own batch, or the next one."""
    engine: Literal["auto", "reference", "forward", "dual", "difference", "free"] = "auto"
    """How the meta-gradient is computed: exactly by double backward (reference, slow), forward
    mode or dual numbers; by the difference of forward passes (cheapest); free is a cheap
    approximation; auto: difference, or dual where weights are float64 or memory is short."""
    difference_sides: Literal[1, 2] = 1
    """Of engine difference: one forward pass more, or two and a smaller error."""
    difference_step: float | None = None
    """Of engine difference: length of its step relative to theta's, > 0; None: 3e-6, 1e-4 for
    bf16."""
    cosine_every: int = 50
    """Of engine free: updates of psi between two records of its cosine with the exact gradient."""
    average: int = 1
    """Meta-gradients whose mean makes one step of psi, >= 1."""
    images: int | None = None
    """Stage 2 uses the first so many images of a batch, >= 2; None uses all."""
    schedule: Literal["epoch", "interleaved"] = "interleaved"
    """interleaved: stage 2 with every so manyth step of stage 1, on its batch and with what it
    has computed; epoch: stage 1 over all batches, then stage 2 over some of them."""
    fraction: float = 0.1
    """For epoch: share of the epoch's batches that stage 2 sees, in [0, 1]."""
    every_steps: int = 10
    """For interleaved: every so manyth step of stage 1 comes with one of stage 2, >= 1."""
    start_epoch: int = 0
    """First epoch that has a stage 2; A_s stays at its initial value before, >= 0."""

    def __post_init__(self) -> None:
        for name in ("loss_weight", "diversity_weight", "inner_lr", "start_epoch"):
            at_least(self, "msr", name, 0)
        for name in ("strata", "every_steps", "hidden_dim", "cosine_every", "average"):
            at_least(self, "msr", name, 1)
        at_least(self, "msr", "images", 2)
        if self.engine == "free" and self.outer_batch == "fresh":
            raise IclmsrError(
                "msr.engine 'free' judges on the batch of stage 1: msr.outer-batch must be same"
            )
        if not 0 <= self.fraction <= 1:
            raise IclmsrError(f"msr.fraction must be in [0, 1], got {self.fraction}")
        for name in ("lr", "temperature", "difference_step"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise IclmsrError(f"msr.{name.replace('_', '-')} must be > 0, got {value}")


@dataclass(frozen=True)
class CheckpointConfig:
    """When the run is written down."""

    every_epochs: int = 1
    """A checkpoint at the end of every so many epochs, and of the last, >= 1."""
    every_steps: int | None = None
    """Another one every so many updates within an epoch, >= 1; None writes none."""
    keep: int = 2
    """How many of the newest are kept, >= 1."""

    def __post_init__(self) -> None:
        for name in ("every_epochs", "every_steps", "keep"):
            at_least(self, "checkpoint", name, 1)


@dataclass(frozen=True)
class OnlineConfig:
    """A look at the encoder during training; event "online" in metrics.jsonl, no evaluation."""

    every_epochs: int | None = None
    """5-nn and linear accuracy on held-out training images after every so many epochs, >= 1;
    None never looks. It changes no weight."""
    images: int | None = None
    """How many training images are looked at, >= 2: a quarter is asked, the rest is known. None:
    a 16th of those that are trained on between two looks, at least 100 and at most 1000, which
    takes less than 2 % of the time (benchmarks/online.py)."""

    def __post_init__(self) -> None:
        at_least(self, "online", "every_epochs", 1)
        at_least(self, "online", "images", 2)

    def count(self, images: int) -> int:
        """How many of so many training images are looked at.

        >>> OnlineConfig(1).count(4000), OnlineConfig(5).count(4000), OnlineConfig(1).count(50_000)
        (250, 1000, 1000)
        """
        between = images * (self.every_epochs or 1)
        usual = min(max(between // 16, 100), 1000)
        return min(self.images or usual, images)


@dataclass(frozen=True)
class PretrainConfig:
    """One pretraining run; with the data and the seed it determines every weight."""

    recipe: str = ""
    """The recipe that it came from; a label."""
    epochs: int = 1000
    """Passes over the training images, >= 1."""
    batch_size: int = 512
    """Images in a batch, of all processes together, >= 2; an incomplete last one is left out."""
    view_count: int = 2
    """Views of each image, >= 2."""
    seed: int = 0
    """Of everything random: initial weights, order, views, losses."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16: networks under autocast; losses, the mixed derivative of stage 2 and its engines
    reference and forward stay in float32."""
    compile: bool = False
    """Compile the encoder (torch.compile): worth its minutes on a GPU and in long runs."""
    sync_batch_norm: bool = True
    """With several processes: batch norm over all of the batch instead of each process's part."""
    device: str = "auto"
    """cpu, cuda, cuda:1, ...; auto takes a GPU where there is one."""
    log_every: int = 50
    """Steps between two records of the losses in metrics.jsonl, >= 1."""
    init: str | None = None
    """Start from this encoder instead of random weights: a run folder, encoder.safetensors,
    timm:MODEL@FILE, torchvision:resnet18@FILE, or the checkpoint of a ResNet of lightly,
    solo-learn or MoCo; encoder.* must describe it."""
    loggers: tuple[Literal["wandb", "mlflow"], ...] = ()
    """Where else the records go beside metrics.jsonl and TensorBoard; each is an extra."""
    method: MethodConfig = field(default_factory=SimCLRConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    data: DataConfig = field(default_factory=DataConfig)
    views: ViewConfig = field(default_factory=ViewConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    msr: MSRConfig = field(default_factory=MSRConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    online: OnlineConfig = field(default_factory=OnlineConfig)

    def __post_init__(self) -> None:
        for name in ("epochs", "log_every"):
            at_least(self, "", name, 1)
        for name in ("batch_size", "view_count"):
            at_least(self, "", name, 2)
        self.method.check_batch(self.batch_size, self.view_count)
        images = self.msr.images
        if self.msr.enabled and images is not None:
            if images > self.batch_size:
                raise IclmsrError(
                    f"msr.images must be at most batch-size {self.batch_size}, got {images}"
                )
            self.method.check_batch(images, self.view_count)
        self.views.check_count(self.view_count)


def at_least(config: object, group: str, name: str, least: int) -> None:
    """Raises :class:`IclmsrError` unless a config's field is None or >= ``least``.

    Args:
        config: The config.
        group: Its place among the options, as ``msr``; empty at the top.
        name: The field.
        least: The smallest value allowed.
    """
    value = getattr(config, name)
    if value is not None and not value >= least:
        option = ".".join(filter(None, (group, name.replace("_", "-"))))
        raise IclmsrError(f"{option} must be >= {least}, got {value}")


def encode(config: Any) -> Any:
    """A config as JSON values: dataclasses as objects, tuples as arrays, paths as strings.

    >>> encode(CheckpointConfig())
    {'every_epochs': 1, 'every_steps': None, 'keep': 2}
    """
    if dataclasses.is_dataclass(config):
        return {f.name: encode(getattr(config, f.name)) for f in dataclasses.fields(config)}
    if isinstance(config, Path):
        return str(config)
    if isinstance(config, tuple):
        return [encode(item) for item in config]
    return config


def decode(kind: type[Config], value: Any, where: str = "") -> Config:
    """The config that :func:`encode` made ``value`` from.

    Args:
        kind: The type to build.
        value: JSON values; fields left out take their defaults.
        where: Dotted name of ``value``, for messages.

    Raises:
        IclmsrError: A field that does not exist, or a value of the wrong type.

    >>> decode(CheckpointConfig, {"keep": 3})
    CheckpointConfig(every_epochs=1, every_steps=None, keep=3)
    """
    return typing.cast(Config, _decode(kind, value, where))


def _decode(kind: Any, value: Any, where: str) -> Any:
    """As :func:`decode`, for any type that a field has."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        hints = typing.get_type_hints(kind)
        names = {f.name for f in dataclasses.fields(kind)}
        for name in value.keys() - names:
            raise IclmsrError(f"unknown field {where + name!r}: {nearest(name, names)}")
        fields = {name: _decode(hints[name], v, f"{where}{name}.") for name, v in value.items()}
        return typing.cast(Any, kind)(**fields)
    if origin in (Union, types.UnionType):
        for choice in arguments:
            try:
                return _decode(choice, value, where)
            except IclmsrError as error:
                if _names(choice, value) or len(arguments) == 1:
                    raise error
    elif origin is Literal and value in arguments:
        return value
    elif origin is tuple and isinstance(value, list):
        kinds = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(kinds) == len(value):
            return tuple(_decode(k, v, where) for k, v in zip(kinds, value, strict=True))
    elif origin is dict and isinstance(value, dict):
        return value
    elif kind is Path and isinstance(value, str):
        return Path(value)
    elif kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    elif isinstance(kind, type) and type(value) is kind:
        return value
    shown = kind.__name__ if isinstance(kind, type) else str(kind).replace("typing.", "")
    raise IclmsrError(f"{where.rstrip('.')} must be {shown}, got {value!r}")


def _names(choice: Any, value: Any) -> bool:
    """Whether ``value`` says by its ``name`` that it is a ``choice`` (a method's config)."""
    return (
        dataclasses.is_dataclass(choice)
        and isinstance(value, dict)
        and value.get("name") in typing.get_args(typing.get_type_hints(choice).get("name"))
    )
