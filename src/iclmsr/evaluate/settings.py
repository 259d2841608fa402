# SPDX-License-Identifier: Apache-2.0
"""On which data an encoder is judged, and how."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from iclmsr.config import PretrainConfig, at_least, decode, encode
from iclmsr.data.names import at_home
from iclmsr.data.places import absolute
from iclmsr.data.sources import OFFICIAL, DataConfig
from iclmsr.encoders import LoadedEncoder, Preprocessing, load_encoder
from iclmsr.errors import IclmsrError
from iclmsr.evaluate.probe import Protocol
from iclmsr.evaluate.protocol import (
    FewLabelConfig,
    FineTuneConfig,
    LinearProbeConfig,
    LogisticProbeConfig,
)
from iclmsr.neutral import telling
from iclmsr.runs import RunFolder, is_run

PROTOCOL: Protocol = "w-mse-2021"
VERSIONS: dict[Protocol, int] = {"w-mse-2021": 1, "linear-lbfgs": 1}
"""Raised whenever a protocol's numbers change."""
_WHOLE = (*OFFICIAL, "synthetic")
"""Sources that say which images they are of, wherever these lie."""


@dataclass(frozen=True)
class EvaluateConfig:
    """On which data an encoder is judged, and how; the defaults are the protocol w-mse-2021."""

    protocol: Protocol = PROTOCOL
    """w-mse-2021: the table's, 500 epochs of Adam; linear-lbfgs: logistic regression at its
    optimum, the penalty chosen on held-out training images. Both with 5-nn."""
    baselines: bool = False
    """Also judge the same encoder untrained, and raw pixels without any."""
    k: int = 5
    """Neighbours that vote in the nearest-neighbour classifier, >= 1."""
    neighbours: tuple[int, ...] = (1, 20, 200)
    """Further numbers of neighbours, >= 1, beside k: all of them by plain votes and weighted by
    cosine. Those above the number of training images are left out."""
    batch_size: int = 512
    """Images in a batch while features are extracted, >= 1."""
    device: str = "auto"
    """cpu, cuda, cuda:1, ...; auto takes a GPU where there is one."""
    feature_cache: float = 4.0
    """How much of the disk extracted features may take, GiB, >= 0; 0 keeps none. They lie in
    $ICLMSR_CACHE or ~/.cache/iclmsr; those used least recently go."""
    features: Path | None = None
    """Also write the encoder's features, float32: FILE.npy or FILE.parquet."""
    out: Path | None = None
    """Where the report goes; None is RUN/evaluation.json, RUN/evaluation-SOURCE.json on other
    data than the run's, or evaluation-NAME.json here for an encoder that is no run."""
    data: DataConfig = field(default_factory=DataConfig)
    linear_probe: LinearProbeConfig = field(default_factory=LinearProbeConfig)
    linear_lbfgs: LogisticProbeConfig = field(default_factory=LogisticProbeConfig)
    few_labels: FewLabelConfig = field(default_factory=FewLabelConfig)
    fine_tune: FineTuneConfig = field(default_factory=FineTuneConfig)

    def __post_init__(self) -> None:
        for name in ("k", "batch_size"):
            at_least(self, "", name, 1)
        at_least(self, "", "feature_cache", 0)
        for k in self.neighbours:
            if k < 1:
                raise IclmsrError(f"neighbours must be >= 1, got {k}")

    @classmethod
    def of_run(cls, run: Path) -> "EvaluateConfig":
        """The protocol on all images of the data set that a run was pretrained on."""
        return cls(data=own_data(_pretrained_on(run)))

    @classmethod
    def of(cls, encoder: str | Path, source: str | None = None) -> "EvaluateConfig":
        """The protocol for an encoder, on images as it wants them.

        Args:
            encoder: A run, or what :func:`iclmsr.encoders.load_encoder` takes.
            source: Of the images, as ``data.source``; None are those that a run was pretrained on,
                as :meth:`of_run`. Of others only mean, standard deviation and sizes are set.

        Raises:
            IclmsrError: No encoder lies there.
        """
        if is_run(encoder):
            own = _pretrained_on(Path(encoder))
            if source in (None, own.source):
                return cls(data=own_data(own))
            images = Preprocessing.of(own)
        else:
            images = open_encoder(encoder).preprocessing
        data = DataConfig(
            source=source or DataConfig.source,
            image_size=images.image_size or DataConfig.image_size,
            evaluate_resize=images.resize,
            evaluate_crop=images.crop,
            mean=images.mean,
            std=images.std,
        )
        return cls(data=data)


def own_data(data: DataConfig) -> DataConfig:
    """The data that an encoder which was pretrained on some is judged on: all of them, by class."""
    masks = None if data.variant == "original" else data.masks
    return replace(data, limit=None, labels=True, masks=masks)


def data_of(encoder: str | Path) -> DataConfig:
    """All images of the data set that a run was pretrained on, or images as an encoder wants them.

    Args:
        encoder: A run, or what :func:`iclmsr.encoders.load_encoder` takes.

    Raises:
        IclmsrError: No encoder lies there.
    """
    if is_run(encoder):
        return replace(_pretrained_on(Path(encoder)), limit=None, labels=True)
    return EvaluateConfig.of(encoder).data


def settings_of(data: DataConfig) -> dict[str, Any]:
    """What of the choice of data may move a number, by its names in config.json."""
    return telling({"data": encode(data)})


def report_name(run: Path, judged: DataConfig) -> str:
    """How the report of a run is called that was judged on some data.

    Returns:
        ``evaluation.json`` for the data that it was pretrained on, which may have moved; for
        all others ``evaluation-SOURCE.json``, with the root's name and the variant where the
        source does not say which images they are.
    """
    own = own_data(_pretrained_on(run))
    there = replace(judged, source=absolute(judged.source), masks=own.masks)
    if settings_of(there) == settings_of(own) and not _elsewhere(judged, own):
        return "evaluation.json"
    parts = [judged.source]
    if judged.source not in _WHOLE and judged.root is not None:
        parts.append(Path(judged.root).stem)
    if judged.variant != "original":
        parts.append(judged.variant)
    return f"evaluation-{plain('-'.join(parts))}.json"


def _elsewhere(judged: DataConfig, own: DataConfig) -> bool:
    """Whether images of one source are others: they lie elsewhere, and the run's have not moved."""
    if own.source in _WHOLE or own.root is None:
        return False
    there, here = (
        at_home(root).absolute() if isinstance(root, Path) else root
        for root in (judged.root, own.root)
    )
    moved = isinstance(here, Path) and not here.exists()
    return there != here and not moved


def _pretrained_on(run: Path) -> DataConfig:
    """The data of a run."""
    return decode(PretrainConfig, RunFolder.open(run).config()).data


def plain(name: str) -> str:
    """A name that a file may have.

    >>> plain("hf:uoft-cs/cifar10")
    'hf-uoft-cs-cifar10'
    """
    return "".join(sign if sign.isalnum() or sign in "._-" else "-" for sign in name)


def open_encoder(source: str | Path) -> LoadedEncoder:
    """The encoder; what lies nowhere and names no kind of encoder was meant to be a run."""
    if not Path(source).exists() and ":" not in str(source):
        raise IclmsrError(f"{source} is not a run folder, and no encoder's file lies there")
    return load_encoder(source)
