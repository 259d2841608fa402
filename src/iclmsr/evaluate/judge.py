# SPDX-License-Identifier: Apache-2.0
"""Judging an encoder: beside an untrained one and raw pixels, by a named protocol."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from iclmsr.config import PretrainConfig, decode, encode
from iclmsr.data.file_set import FileSet
from iclmsr.data.images import ImageSet
from iclmsr.data.names import printable
from iclmsr.data.sources import open_split
from iclmsr.devices import choose_device, keep_freed_memory
from iclmsr.encoders import LoadedEncoder
from iclmsr.errors import IclmsrError
from iclmsr.evaluate.accuracy import confusion, per_class, topk_accuracy
from iclmsr.evaluate.feature_cache import cached, key_of
from iclmsr.evaluate.feature_files import check_name, write_features
from iclmsr.evaluate.features import Features, class_count, extract, pixels
from iclmsr.evaluate.fine_tune import fine_tune
from iclmsr.evaluate.probe import few_labels, fit_probe
from iclmsr.evaluate.protocol import LinearProbeConfig, LogisticProbeConfig
from iclmsr.evaluate.settings import VERSIONS, EvaluateConfig, open_encoder, plain, report_name
from iclmsr.evaluate.variants import described, uniform, weighted
from iclmsr.files import write_json
from iclmsr.networks import initial_encoder
from iclmsr.runs import RunFolder, environment, is_run


def judge_features(train: Features, test: Features, config: EvaluateConfig) -> dict[str, Any]:
    """Linear probe and k-nn of features, in percent.

    Args:
        train: (N, F) features and labels that the classifiers learn from.
        test: (M, F) features and labels that they are tested on.
        config: The protocol.

    Returns:
        ``{"linear": {"top1", "top5"}, "knn": {"k", "top1", "top5"}}``, the protocol's; and
        ``knn_variants``, ``per_class`` and ``confusion`` (rows: true classes) of both, with
        ``linear_choice`` and ``few_labels`` where there are any. A class without a vote does
        not count for k-nn: with k = 5 its top-5 is the share of images one of whose neighbours
        is of the right class.
    """
    classes = class_count(train, test)
    classifier, choice = fit_probe(
        train, config.protocol, config.linear_probe, config.linear_lbfgs, classes=classes
    )
    scores = classifier.scores(test.features)
    further = sorted({k for k in (*config.neighbours, config.k) if k <= len(train.labels)})
    own, *plain = uniform(train, test, [config.k, *(k for k in further if k != config.k)])
    matrices = {
        "linear": confusion(scores.argmax(1), test.labels, classes),
        "knn": confusion(own.predicted.to(test.labels), test.labels, classes),
    }
    result: dict[str, Any] = {
        "linear": {f"top{k}": topk_accuracy(scores, test.labels, k) for k in (1, 5)},
        "knn": {"k": config.k, "top1": own.top1, "top5": own.top5},
        "knn_variants": [
            *described(plain, cosine=False),
            *described(weighted(train, test, further if config.neighbours else ()), cosine=True),
        ],
        "per_class": {name: per_class(matrix) for name, matrix in matrices.items()},
        "confusion": {name: matrix.tolist() for name, matrix in matrices.items()},
    }
    if choice:
        result["linear_choice"] = choice
    if config.few_labels.shares:
        result["few_labels"] = few_labels(
            train,
            test,
            config.few_labels,
            config.protocol,
            config.linear_probe,
            config.linear_lbfgs,
        )
    return result


def evaluate(
    source: str | Path, config: EvaluateConfig, *, say: Callable[[str], None] = print
) -> Any:
    """Judges an encoder and writes a report, see :func:`report_path`.

    Args:
        source: The run folder, or what :func:`iclmsr.encoders.load_encoder` takes.
        config: Data and protocol.
        say: Takes a line about what is under way.

    Returns:
        What the report holds: protocol, settings, data, and ``results`` by name of what
        was judged (``encoder``, and with baselines ``untrained`` and ``pixels``), in percent.

    Raises:
        IclmsrError: No encoder there or none yet, no data, or images without labels.
    """
    began = time.monotonic()
    for path, check in ((config.features, check_name), (config.out, _check_out)):
        if path is not None:
            check(path)
    loaded = open_encoder(source)
    for line in loaded.remarks():
        say(line)
    loaded.check_size(config.data)
    train, test = open_split(config.data, "train"), open_split(config.data, "test")
    if train.classes != test.classes:
        raise IclmsrError(
            f"train and test have other classes: {train.classes} and {test.classes}: give both the "
            "same ones, or pass --data.no-cache if these were prepared before"
        )
    results = {}
    for name, (network, identity) in _encoders(source, loaded, config, say).items():
        say(f"{name}: {len(train)} images to learn from, {len(test)} to test on")
        known, asked = (
            features_of(network, images, config, identity=identity) for images in (train, test)
        )
        results[name] = judge_features(known, asked, config)
        if name == "encoder" and config.features is not None:
            for path in write_features(config.features, known, asked, train.classes):
                say(f"wrote {printable(path)}")
        if network is not None and config.fine_tune.epochs:
            say(f"{name}: fine-tuning for {config.fine_tune.epochs} epochs")
            results[name]["fine_tuning"] = _fine_tuned(network, train, test, known, config)
    report = {
        "protocol": _protocol(config),
        "protocol_version": VERSIONS[config.protocol],
        "results": results,
        **(loaded.metadata if is_run(source) else {}),
        "encoder": {"source": str(source), **loaded.described()},
        "classes": list(train.classes),
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
    write_json(report_path(source, loaded.name, config), report)
    return report


def report_path(source: str | Path, name: str, config: EvaluateConfig) -> Path:
    """Where the report of an encoder goes.

    Args:
        source: The encoder.
        name: What it is called.
        config: Data and protocol.

    Returns:
        ``config.out``; else, of a run, ``evaluation.json`` in its folder, which says how good it
        is on its own data, or ``evaluation-SOURCE.json`` on others; else ``evaluation-NAME.json``.
    """
    if config.out is not None:
        return config.out
    if is_run(source):
        return Path(source) / report_name(Path(source), config.data)
    return Path(f"evaluation-{plain(name)}.json")


def _check_out(path: Path) -> None:
    """Raises unless a report can be written to ``path``."""
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise IclmsrError(f"--out must be a file in a folder that exists, got {path}")


def _protocol(config: EvaluateConfig) -> str:
    """The protocol's name, if nothing that its numbers depend on is different."""
    used = {"w-mse-2021": config.linear_probe, "linear-lbfgs": config.linear_lbfgs}
    standard = {"w-mse-2021": LinearProbeConfig(), "linear-lbfgs": LogisticProbeConfig()}
    own = config.protocol
    unchanged = config.k == 5 and used[own] == standard[own]
    return own if unchanged else f"{own}, changed"


def _encoders(
    source: str | Path, loaded: LoadedEncoder, config: EvaluateConfig, say: Callable[[str], None]
) -> dict[str, tuple[nn.Module | None, str]]:
    """What is judged, by name: networks, None for raw pixels, and what each is known by."""
    network = loaded.network
    encoders: dict[str, tuple[nn.Module | None, str]] = {
        "encoder": (network, f"{loaded.sha256} {network!r}")
    }
    if config.baselines and is_run(source):
        run = decode(PretrainConfig, RunFolder.open(Path(source)).config())
        known = json.dumps([asdict(run.encoder), run.seed])
        encoders["untrained"] = initial_encoder(run.encoder, run.seed), f"untrained {known}"
    elif config.baselines:
        say("untrained: left out, it is known of runs only how their encoder began")
    if config.baselines:
        encoders["pixels"] = None, ""
    return encoders


def _fine_tuned(
    network: nn.Module,
    train: ImageSet | FileSet,
    test: ImageSet | FileSet,
    known: Features,
    config: EvaluateConfig,
) -> dict[str, Any]:
    """Accuracy after fine-tuning."""
    classes = len(train.classes)
    return fine_tune(
        network,
        train,
        test,
        known,
        config.fine_tune,
        lambda some: fit_probe(
            some, config.protocol, config.linear_probe, config.linear_lbfgs, classes=classes
        )[0],
        mean=config.data.mean,
        std=config.data.std,
        batch_size=config.batch_size,
        device=choose_device(config.device),
        workers=config.data.workers,
    )


def features_of(
    encoder: nn.Module | None,
    images: ImageSet | FileSet,
    config: EvaluateConfig,
    *,
    identity: str | None = None,
) -> Features:
    """Features of an encoder, or the pixels themselves for None.

    With an ``identity``, which no other encoder has, they are kept in the cache and taken from
    there the next time.
    """
    keep_freed_memory()
    mean, std = config.data.mean, config.data.std
    if encoder is None:
        if isinstance(images, FileSet):
            raise IclmsrError(
                "the baseline of raw pixels needs the images in memory: leave out --baselines, "
                "or pass --data.resident memory"
            )
        return pixels(images, mean=mean, std=std)
    device = choose_device(config.device)
    key = None
    if identity is not None and config.feature_cache:
        key = key_of(identity, images, config.data, device.type, config.batch_size)
    return cached(
        key,
        lambda: extract(
            encoder,
            images,
            mean=mean,
            std=std,
            batch_size=config.batch_size,
            device=device,
            workers=config.data.workers,
        ),
        limit=config.feature_cache,
    )
