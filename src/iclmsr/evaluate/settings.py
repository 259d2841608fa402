# SPDX-License-Identifier: Apache-2.0
"""On which data an encoder is judged, and how."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from iclmsr.config import PretrainConfig, at_least, decode
from iclmsr.data.sources import DataConfig
from iclmsr.encoders import LoadedEncoder, load_encoder
from iclmsr.encoders.loaded import EXPORTED
from iclmsr.errors import IclmsrError
from iclmsr.evaluate.probe import Protocol
from iclmsr.evaluate.protocol import (
    FewLabelConfig,
    FineTuneConfig,
    LinearProbeConfig,
    LogisticProbeConfig,
)
from iclmsr.runs import RunFolder

PROTOCOL: Protocol = "w-mse-2021"
VERSIONS: dict[Protocol, int] = {"w-mse-2021": 1, "linear-lbfgs": 1}
"""Raised whenever a protocol's numbers change."""


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
    """Where the report goes; None is RUN/evaluation.json, or evaluation-NAME.json here for an
    encoder that is no run."""
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
        return cls(data=replace(data_of(run), masks=None))

    @classmethod
    def of(cls, source: str | Path) -> "EvaluateConfig":
        """The protocol for a run, as :meth:`of_run`, or on images as another encoder wants them.

        Raises:
            IclmsrError: Nothing lies there.
        """
        return cls(data=replace(data_of(source), masks=None))


def data_of(source: str | Path) -> DataConfig:
    """All images of the data set that a run was pretrained on, or images as an encoder wants them.

    Args:
        source: A run folder, or what :func:`iclmsr.encoders.load_encoder` takes.

    Raises:
        IclmsrError: Nothing lies there.
    """
    if is_run(source):
        config = decode(PretrainConfig, RunFolder.open(Path(source)).config())
        return replace(config.data, limit=None)
    loaded = open_encoder(source)
    return DataConfig(
        mean=loaded.mean,
        std=loaded.std,
        image_size=loaded.image_size or DataConfig.image_size,
        evaluate_resize=loaded.resize,
        evaluate_crop=loaded.crop,
    )


def is_run(source: str | Path) -> bool:
    """Whether a run folder lies there, and no export, which may have a config.json, too."""
    folder = Path(source)
    exported = any((folder / name).is_file() for name in EXPORTED)
    return (folder / "config.json").is_file() and not exported


def open_encoder(source: str | Path) -> LoadedEncoder:
    """The encoder; what lies nowhere and names no kind of encoder was meant to be a run."""
    if not Path(source).exists() and ":" not in str(source):
        raise IclmsrError(f"{source} is not a run folder, and no encoder's file lies there")
    return load_encoder(source)
