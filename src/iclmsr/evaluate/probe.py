# SPDX-License-Identifier: Apache-2.0
"""The linear probe of each protocol, and the same with few labels."""

import statistics
from functools import partial
from typing import Any, Literal

from iclmsr.errors import IclmsrError
from iclmsr.evaluate.accuracy import topk_accuracy
from iclmsr.evaluate.features import Features, class_count
from iclmsr.evaluate.linear_probe import LinearClassifier, fit
from iclmsr.evaluate.logistic import fit_logistic
from iclmsr.evaluate.protocol import FewLabelConfig, LinearProbeConfig, LogisticProbeConfig
from iclmsr.evaluate.subsets import held_out, stratified

Protocol = Literal["w-mse-2021", "linear-lbfgs"]


def fit_chosen(
    train: Features, config: LogisticProbeConfig, *, classes: int
) -> tuple[LinearClassifier, dict[str, Any]]:
    """Logistic regression whose penalty does best on held-out training images, fit on all.

    The penalty with the highest top-1 accuracy is taken, of equal ones the strongest.

    Args:
        train: (N, F) features and labels in [0, classes).
        config: The protocol.
        classes: C >= 1.

    Returns:
        The classifier in the features' dtype, and what was chosen: ``penalty``, relative to the
        features' variance, and ``lambda``, itself; ``sklearn_C`` that means the same there;
        ``validation``, top-1 in percent by penalty; ``at_edge``, whether the best was the
        grid's last or first; ``loss``, ``iterations`` and ``converged`` of the final fit.

    Raises:
        IclmsrError: No class has two images, or no feature varies.

    Source: ours, see :class:`LogisticProbeConfig`. Departure: none.

    >>> import torch
    >>> train = Features(torch.tensor([[-1.0], [-2.0], [1.0], [2.0]]), torch.tensor([0, 0, 1, 1]))
    >>> classifier, chosen = fit_chosen(train, LogisticProbeConfig(), classes=2)
    >>> classifier.scores(train.features).argmax(1).tolist(), chosen["penalty"]
    ([0, 0, 1, 1], 1.0)
    """
    kept, out = held_out(
        train.labels, config.validation, seed=config.seed, purpose="linear-lbfgs/validation"
    )
    if len(config.penalties) > 1 and not len(out):
        raise IclmsrError(
            f"linear-lbfgs chooses its penalty on held-out images, but each class of the "
            f"{len(train.labels)} training images has one: use more of them, or pass one value to "
            "--linear-lbfgs.penalties"
        )
    scale = float(train.features.var(0, correction=0).mean())
    if not scale > 0:
        raise IclmsrError("linear-lbfgs needs features that vary, all rows are equal")
    solve = partial(
        fit_logistic,
        classes=classes,
        tolerance=config.tolerance,
        max_iterations=config.max_iterations,
    )
    some, others = (Features(train.features[at], train.labels[at]) for at in (kept, out))
    validation: dict[float, float] = {}
    start: LinearClassifier | None = None
    penalties = sorted(set(config.penalties), reverse=True)
    if len(penalties) > 1:
        for penalty in penalties:  # each begins where the one before ended
            found = solve(some, penalty=penalty * scale, start=start)
            start = found.classifier
            scores = _as(start, some).scores(others.features)
            validation[penalty] = topk_accuracy(scores, others.labels, 1)
    best = max(penalties, key=lambda penalty: (validation.get(penalty, 0.0), penalty))
    optimum = solve(train, penalty=best * scale)
    return _as(optimum.classifier, train), {
        "penalty": best,
        "lambda": best * scale,
        "sklearn_C": 1 / (best * scale * len(train.labels)),
        "validation": {f"{penalty:g}": value for penalty, value in validation.items()},
        "at_edge": len(penalties) > 1 and best in (penalties[0], penalties[-1]),
        "loss": optimum.loss,
        "iterations": optimum.iterations,
        "converged": optimum.converged,
    }


def fit_probe(
    train: Features,
    protocol: Protocol,
    probe: LinearProbeConfig,
    logistic: LogisticProbeConfig,
    *,
    classes: int,
) -> tuple[LinearClassifier, dict[str, Any]]:
    """The linear classifier of a protocol, and what it chose by itself (nothing in w-mse-2021).

    Args:
        train: (N, F) features and labels in [0, classes).
        protocol: Which one.
        probe: Of w-mse-2021.
        logistic: Of linear-lbfgs.
        classes: C >= 1.

    Raises:
        IclmsrError: As :func:`fit_chosen`.

    Source: that of the protocol. Departure: none.
    """
    if protocol == "w-mse-2021":
        return fit(train, probe, classes=classes), {}
    return fit_chosen(train, logistic, classes=classes)


def few_labels(
    train: Features,
    test: Features,
    config: FewLabelConfig,
    protocol: Protocol,
    probe: LinearProbeConfig,
    logistic: LogisticProbeConfig,
) -> list[dict[str, Any]]:
    """The protocol's probe on small stratified parts of the training features.

    Args:
        train: (N, F) features and labels.
        test: (M, F) features and labels.
        config: Which shares, how often.
        protocol: Whose probe.
        probe: Of w-mse-2021.
        logistic: Of linear-lbfgs.

    Returns:
        For each share ``{"share", "images", "top1", "top5", "top1_sd", "top1_draws"}``: means
        over the draws in percent, and the standard deviation (None of one draw).

    Raises:
        IclmsrError: As :func:`fit_chosen`.

    Source: the usual semi-supervised protocol (SimCLR, section 6), on frozen features.
    Departure: several draws.
    """
    classes, results = class_count(train, test), []
    for share in config.shares:
        accuracies: dict[int, list[float]] = {1: [], 5: []}
        for draw in range(config.draws):
            chosen = stratified(
                train.labels, share, seed=config.seed, purpose="few-labels", draw=draw
            )
            some = Features(train.features[chosen], train.labels[chosen])
            classifier, _ = fit_probe(some, protocol, probe, logistic, classes=classes)
            scores = classifier.scores(test.features)
            for k, known in accuracies.items():
                known.append(topk_accuracy(scores, test.labels, k))
        results.append(
            {
                "share": share,
                "images": len(chosen),
                "top1": statistics.fmean(accuracies[1]),
                "top5": statistics.fmean(accuracies[5]),
                "top1_sd": statistics.stdev(accuracies[1]) if config.draws > 1 else None,
                "top1_draws": accuracies[1],
            }
        )
    return results


def _as(classifier: LinearClassifier, features: Features) -> LinearClassifier:
    """The classifier in the dtype of the features."""
    return LinearClassifier(*(part.to(features.features) for part in classifier))
