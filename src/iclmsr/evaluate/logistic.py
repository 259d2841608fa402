# SPDX-License-Identifier: Apache-2.0
"""Multinomial logistic regression to the optimum: L-BFGS in coordinates where features are round.

The features' covariance, estimated on some rows, is what the Hessian looks like while no class is
certain. Steps preconditioned with it need a fraction of the iterations, and every iteration reads
the features once: in blocks that the two products share in the processor's cache.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from iclmsr.errors import IclmsrError
from iclmsr.evaluate.features import Features
from iclmsr.evaluate.linear_probe import LinearClassifier

_HISTORY = 20
_BLOCK_BYTES = 2**22
_COVARIANCE_ROWS = 8192
_SUFFICIENT_DECREASE = 1e-4


class Optimum(NamedTuple):
    """Where the optimizer arrived.

    Attributes:
        classifier: In float64.
        loss: Mean cross-entropy plus penalty, nats.
        iterations: Steps taken.
        converged: Whether the tolerance was reached.
    """

    classifier: LinearClassifier
    loss: float
    iterations: int
    converged: bool


class Objective:
    """Mean cross-entropy + ``penalty`` / 2 ||weight||^2; the bias is free.

    Args:
        train: (N, F) features and their labels.
        penalty: lambda >= 0.
        classes: C.
    """

    def __init__(self, train: Features, penalty: float, classes: int) -> None:
        self.features, self.labels = train
        self.penalty, self.classes = penalty, classes
        count, width = self.features.shape
        self.dtype = self.features.dtype  # of the products; sums are float64
        self.rows = max(1, _BLOCK_BYTES // (self.features.element_size() * width))
        stride = -(-count // _COVARIANCE_ROWS)
        some = self.features[::stride]
        self.mean = some.mean(0).double()
        centred = some - self.mean.to(some)
        self.covariance = (centred.T @ centred / len(some)).double()

    def __call__(self, point: Tensor) -> tuple[float, Tensor]:
        """Value and gradient at ``point`` (C, F + 1) float64: weight, and bias at the mean."""
        weight, bias = self._parts(point)
        low_weight, low_bias = weight.to(self.dtype), bias.to(self.dtype)
        gradient = torch.zeros_like(point)
        loss = torch.zeros((), dtype=torch.float64, device=point.device)
        blocks = zip(
            self.features.split(self.rows),  # type: ignore[no-untyped-call]
            self.labels.split(self.rows),  # type: ignore[no-untyped-call]
            strict=True,
        )
        for block, labels in blocks:
            features = block.to(self.dtype)
            log_p = F.log_softmax(torch.addmm(low_bias, features, low_weight.T), 1)  # (B, C)
            loss -= log_p.gather(1, labels[:, None]).sum(dtype=torch.float64)
            residual = log_p.exp_()
            residual.scatter_add_(1, labels[:, None], residual.new_full((len(labels), 1), -1))
            gradient[:, :-1] += residual.T @ features
            gradient[:, -1] += residual.sum(0, dtype=torch.float64)
        count = len(self.labels)
        gradient /= count
        gradient[:, :-1] -= torch.outer(gradient[:, -1], self.mean)
        gradient[:, :-1] += self.penalty * weight
        value = loss / count + self.penalty / 2 * weight.square().sum()
        return float(value), gradient

    def classifier(self, point: Tensor) -> LinearClassifier:
        """The classifier of a point, its bias at the origin."""
        return LinearClassifier(*self._parts(point))

    def point(self, classifier: LinearClassifier) -> Tensor:
        """The point of a classifier."""
        weight = classifier.weight.double()
        return torch.cat([weight, (classifier.bias + weight @ self.mean)[:, None]], 1)

    def preconditioner(self) -> Tensor:
        """Inverse (F + 1, F + 1) of the Hessian's block of one class where all classes are even."""
        width = len(self.mean)
        even = (1 - 1 / self.classes) / self.classes
        hessian = torch.zeros(width + 1, width + 1, dtype=torch.float64, device=self.mean.device)
        hessian[:-1, :-1] = even * self.covariance
        # A direction without any variance has no curvature but the penalty's.
        least = max(self.penalty, 1e-7 * float(self.covariance.diagonal().mean()), 1e-30)
        hessian.diagonal()[:-1] += least
        hessian[-1, -1] = even
        return torch.cholesky_inverse(torch.linalg.cholesky(hessian))

    def _parts(self, point: Tensor) -> tuple[Tensor, Tensor]:
        """Weight (C, F), and bias (C,) at the origin."""
        weight = point[:, :-1]
        return weight, point[:, -1] - weight @ self.mean


def fit_logistic(
    train: Features,
    *,
    penalty: float,
    classes: int,
    tolerance: float = 1e-8,
    max_iterations: int = 1000,
    start: LinearClassifier | None = None,
) -> Optimum:
    """The classifier that minimizes mean cross-entropy + penalty / 2 ||weight||^2.

    It is scikit-learn's ``LogisticRegression(C=1 / (penalty * N))``. Products are made in the
    dtype of the features while that is good enough for progress, then in float64; everything is
    summed in float64. No random number is used.

    Args:
        train: (N, F) features, float32 or float64, and labels in [0, classes).
        penalty: lambda, > 0, on the weight and not on the bias.
        classes: C >= 1; one that has no image gets a bias that goes towards minus infinity.
        tolerance: Stop where the loss that is expected to be left to gain, relative to the
            loss, is less than this, twice in a row.
        max_iterations: Steps at most.
        start: Where to begin; zero if None.

    Returns:
        The optimum; ``converged`` is false where the steps ran out.

    Raises:
        IclmsrError: ``penalty`` is not > 0.

    Source: Liu and Nocedal 1989 (L-BFGS); Boehning 1992 (the Hessian's bound).
    Departure: the initial matrix of L-BFGS is the bound's inverse at even classes.

    >>> train = Features(torch.tensor([[-1.0], [1.0]]).double(), torch.tensor([0, 1]))
    >>> weight, bias = fit_logistic(train, penalty=0.5, classes=2).classifier
    >>> round(weight[1].item(), 4)  # w = 2 / (1 + exp(2 w))
    0.5213
    """
    if not 0 < penalty < float("inf"):
        raise IclmsrError(f"penalty must be > 0 and finite, got {penalty}")
    with torch.no_grad(), torch.autocast(train.features.device.type, enabled=False):
        objective = Objective(train, penalty, classes)
        point = torch.zeros(
            classes, train.features.shape[1] + 1, dtype=torch.float64, device=train.features.device
        )
        if start is not None:
            point = objective.point(start)
        return _minimize(objective, point, tolerance, max_iterations)


def _minimize(
    objective: Objective, point: Tensor, tolerance: float, max_iterations: int
) -> Optimum:
    """L-BFGS with backtracking: the function is convex, so every step has positive curvature."""
    inverse = objective.preconditioner()
    steps: list[Tensor] = []
    changes: list[Tensor] = []
    value, gradient = objective(point)
    small = 0
    for iteration in range(max_iterations):
        direction = _direction(gradient, steps, changes, inverse)
        slope = float((gradient * direction).sum())
        small = small + 1 if -slope / 2 <= tolerance * abs(value) else 0
        if small == 2 or slope >= 0:
            return Optimum(objective.classifier(point), value, iteration, True)
        length = 1.0
        while True:
            moved = point + length * direction
            new_value, new_gradient = objective(moved)
            if new_value <= value + _SUFFICIENT_DECREASE * length * slope:
                break
            if length < 1e-4:
                break
            bent = 2 * (new_value - value - length * slope)
            length *= min(max(-slope * length / bent, 0.1), 0.5)
        if length < 1e-4:  # what is left to gain drowns in rounding
            if objective.dtype == torch.float64:
                return Optimum(objective.classifier(point), value, iteration, small > 0)
            objective.dtype = torch.float64
            value, gradient = objective(point)
            continue
        step, change = moved - point, new_gradient - gradient
        if float((step * change).sum()) > 0:
            steps, changes = [*steps, step][-_HISTORY:], [*changes, change][-_HISTORY:]
        point, value, gradient = moved, new_value, new_gradient
    return Optimum(objective.classifier(point), value, max_iterations, False)


def _direction(
    gradient: Tensor, steps: list[Tensor], changes: list[Tensor], inverse: Tensor
) -> Tensor:
    """Minus the gradient times the inverse Hessian as the last steps and ``inverse`` show it."""
    rest, amounts = gradient.clone(), []
    pairs = list(zip(steps, changes, strict=True))
    for step, change in reversed(pairs):
        amount = (step * rest).sum() / (step * change).sum()
        amounts.append(amount)
        rest -= amount * change
    scale = 1.0
    if pairs:
        step, change = pairs[-1]
        scale = float((step * change).sum() / (change * (change @ inverse)).sum())
    rest = scale * (rest @ inverse)
    for (step, change), amount in zip(pairs, reversed(amounts), strict=True):
        rest += step * (amount - (change * rest).sum() / (step * change).sum())
    return -rest
