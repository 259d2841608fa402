# SPDX-License-Identifier: Apache-2.0
"""Judging a run: its encoder beside an untrained one and raw pixels."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from iclmsr.config import PretrainConfig, at_least, decode, encode
from iclmsr.data.file_set import FileSet
from iclmsr.data.images import ImageSet
from iclmsr.data.sources import DataConfig, open_split
from iclmsr.devices import choose_device
from iclmsr.errors import IclmsrError
from iclmsr.evaluate.accuracy import topk_accuracy
from iclmsr.evaluate.features import Features, extract, pixels
from iclmsr.evaluate.knn import knn_votes
from iclmsr.evaluate.linear_probe import linear_probe
from iclmsr.evaluate.protocol import LinearProbeConfig
from iclmsr.files import write_json
from iclmsr.networks import Encoder, initial_encoder, read_encoder
from iclmsr.runs import RunFolder, environment

PROTOCOL = "w-mse-2021"


@dataclass(frozen=True)
class EvaluateConfig:
    """On which data an encoder is judged, and how; the defaults are the protocol w-mse-2021."""

    baselines: bool = False
    """Also judge the same encoder untrained, and raw pixels without any."""
    k: int = 5
    """Neighbours that vote in the nearest-neighbour classifier, >= 1."""
    batch_size: int = 512
    """Images in a batch while features are extracted, >= 1."""
    device: str = "auto"
    """cpu, cuda, cuda:1, ...; auto takes a GPU where there is one."""
    data: DataConfig = field(default_factory=DataConfig)
    linear_probe: LinearProbeConfig = field(default_factory=LinearProbeConfig)

    def __post_init__(self) -> None:
        for name in ("k", "batch_size"):
            at_least(self, "", name, 1)

    @classmethod
    def of_run(cls, run: Path) -> "EvaluateConfig":
        """The protocol on all images of the data set that a run was pretrained on."""
        config = decode(PretrainConfig, RunFolder.open(run).config())
        return cls(data=replace(config.data, limit=None, masks=None))


def judge_features(train: Features, test: Features, config: EvaluateConfig) -> dict[str, Any]:
    """Linear probe and k-nn of features, in percent.

    Args:
        train: (N, F) features and labels that the classifiers learn from.
        test: (M, F) features and labels that they are tested on.
        config: The protocol.

    Returns:
        ``{"linear": {"top1", "top5"}, "knn": {"k", "top1", "top5"}}``. A class without a vote
        does not count for k-nn: with k = 5 its top-5 is the share of images one of whose
        neighbours is of the right class.
    """
    votes = knn_votes(train, test, k=config.k)
    nearest = {f"top{k}": topk_accuracy(votes, test.labels, k) for k in (1, 5)}
    return {
        "linear": linear_probe(train, test, config.linear_probe),
        "knn": {"k": config.k, **nearest},
    }


def evaluate(run: Path, config: EvaluateConfig, *, say: Callable[[str], None] = print) -> Any:
    """Judges a run's encoder and writes ``evaluation.json`` into the run folder.

    Args:
        run: The run folder.
        config: Data and protocol.
        say: Takes a line about what is under way.

    Returns:
        What evaluation.json holds: protocol, settings, data, and ``results`` by name of what
        was judged (``encoder``, and with baselines ``untrained`` and ``pixels``), in percent.

    Raises:
        IclmsrError: No run folder, no encoder yet, no data, or images without labels.
    """
    began = time.monotonic()
    folder = RunFolder.open(run)
    pretraining = decode(PretrainConfig, folder.config())
    encoder, metadata = read_encoder(folder.encoder)
    train, test = open_split(config.data, "train"), open_split(config.data, "test")
    if train.classes != test.classes:
        raise IclmsrError(f"train and test have other classes: {train.classes} and {test.classes}")
    encoders: dict[str, Encoder | None] = {"encoder": encoder}
    if config.baselines:
        encoders["untrained"] = initial_encoder(pretraining.encoder, pretraining.seed)
        encoders["pixels"] = None
    results = {}
    for name, network in encoders.items():
        say(f"{name}: {len(train)} images to learn from, {len(test)} to test on")
        results[name] = judge_features(
            features_of(network, train, config), features_of(network, test, config), config
        )
    standard = config.k == 5 and config.linear_probe == LinearProbeConfig()
    report = {
        "protocol": PROTOCOL if standard else f"{PROTOCOL}, changed",
        "results": results,
        **metadata,
        "config": encode(config),
        "data": {
            name: {
                "images": len(images),
                "skipped": len(images.skipped),
                "sha256": images.fingerprint(),
            }
            for name, images in (("train", train), ("test", test))
        },
        "seconds": round(time.monotonic() - began, 1),
        "environment": environment(config.linear_probe.seed),
    }
    write_json(run / "evaluation.json", report)
    return report


def features_of(
    encoder: Encoder | None, images: ImageSet | FileSet, config: EvaluateConfig
) -> Features:
    """Features of an encoder, or the pixels themselves for None."""
    mean, std = config.data.mean, config.data.std
    if encoder is None:
        if isinstance(images, FileSet):
            raise IclmsrError(
                "the baseline of raw pixels needs the images in memory: leave out --baselines, "
                "or pass --data.resident memory"
            )
        return pixels(images, mean=mean, std=std)
    return extract(
        encoder,
        images,
        mean=mean,
        std=std,
        batch_size=config.batch_size,
        device=choose_device(config.device),
        workers=config.data.workers,
    )


def show(report: dict[str, Any]) -> None:
    """Prints a report's accuracies as a table."""
    k = next(iter(report["results"].values()))["knn"]["k"]
    table = Table(
        title=f"accuracy, percent (protocol {report['protocol']}, epoch {report['epoch']})"
    )
    table.add_column("")
    columns = [("linear", "top1"), ("linear", "top5"), ("knn", "top1"), ("knn", "top5")]
    for kind, top in columns:
        table.add_column(f"{kind if kind == 'linear' else f'{k}-nn'} {top}", justify="right")
    for name, result in report["results"].items():
        table.add_row(name, *(f"{result[kind][top]:.2f}" for kind, top in columns))
    Console().print(table)
