# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch.nn import functional as F

from iclmsr.errors import IclmsrError
from iclmsr.evaluate.features import Features
from iclmsr.evaluate.logistic import Objective, fit_logistic
from iclmsr.seeds import generator


def steep(count: int, classes: int, *, width: int = 20, dtype=torch.float64) -> Features:
    """Features whose variances span four decades, far from the origin, with noise in the labels."""
    source = generator(0, "steep")
    labels = torch.randint(classes, (count,), generator=source)
    centres = torch.randn(classes, width, generator=source)
    spread = torch.logspace(0, -2, width)
    features = (torch.randn(count, width, generator=source) + centres[labels]) * spread + 3
    flipped = torch.rand(count, generator=source) < 0.2
    labels[flipped] = torch.randint(classes, (int(flipped.sum()),), generator=source)
    return Features(features.to(dtype), labels)


def loss(classifier, train: Features, penalty: float) -> float:
    """The objective in torch's own words, float64."""
    weight, bias = (part.double() for part in classifier)
    scores = train.features.double() @ weight.T + bias
    value = F.cross_entropy(scores, train.labels) + penalty / 2 * weight.square().sum()
    return value.item()


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("penalty", [1e-1, 1e-3, 1e-5])
def test_equals_scikit_learn(classes, penalty):
    train = steep(400, classes)
    found = fit_logistic(train, penalty=penalty, classes=classes, tolerance=1e-13)
    peer = LogisticRegression(C=1 / (penalty * 400), solver="newton-cholesky", tol=1e-12)
    peer.fit(train.features.numpy(), train.labels.numpy())
    weight, bias = (torch.from_numpy(part) for part in (peer.coef_, peer.intercept_))
    if classes == 2:  # scikit-learn has one row; the two of a softmax share it
        theirs = LogisticRegression(C=2 / (penalty * 400), solver="newton-cholesky", tol=1e-12).fit(
            train.features.numpy(), train.labels.numpy()
        )
        half = torch.from_numpy(theirs.coef_) / 2
        weight = torch.cat([-half, half])
        bias = torch.from_numpy(theirs.intercept_) / 2
        bias = torch.cat([-bias, bias])
    assert found.converged
    assert found.loss == pytest.approx(loss((weight, bias), train, penalty), rel=1e-9)
    assert found.loss == pytest.approx(loss(found.classifier, train, penalty), rel=1e-12)
    assert torch.allclose(found.classifier.weight, weight, atol=2e-4 * weight.abs().max())
    shift = found.classifier.bias - bias
    assert torch.allclose(shift, shift.mean().expand(classes), atol=1e-3 * bias.abs().max() + 1e-6)


def test_gradient_is_that_of_the_objective():
    train = steep(50, 3, width=4)
    objective = Objective(train, 0.01, 3)
    objective.rows = 16  # several blocks, the last one smaller
    point = torch.randn(3, 5, generator=generator(0, "point"), dtype=torch.float64)
    value, gradient = objective(point)
    assert value == pytest.approx(loss(objective.classifier(point), train, 0.01), rel=1e-12)
    for place in ((0, 0), (1, 3), (2, 4)):
        moved = point.clone()
        moved[place] += 1e-6
        slope = (objective(moved)[0] - value) / 1e-6
        assert gradient[place].item() == pytest.approx(slope, abs=1e-5)
    assert torch.allclose(objective.point(objective.classifier(point)), point)


def test_float32_features_reach_the_optimum_of_float64():
    """Where float32 products stop helping, float64 ones go on."""
    train = steep(3000, 5)
    low = Features(train.features.float(), train.labels)
    exact = fit_logistic(
        Features(low.features.double(), low.labels), penalty=1e-7, classes=5, tolerance=1e-13
    )
    found = fit_logistic(low, penalty=1e-7, classes=5)
    assert found.converged
    assert loss(found.classifier, low, 1e-7) == pytest.approx(exact.loss, rel=1e-6)


def test_few_steps_where_plain_lbfgs_needs_many():
    train = steep(2000, 5)
    found = fit_logistic(train, penalty=1e-5, classes=5)
    assert found.converged
    assert found.iterations < 60
    peer = LogisticRegression(C=1 / (1e-5 * 2000), max_iter=300)
    with pytest.warns(ConvergenceWarning):
        peer.fit(train.features.numpy(), train.labels.numpy())


def test_deterministic_and_started_elsewhere_the_same():
    train = steep(300, 4)
    first, again = (fit_logistic(train, penalty=1e-3, classes=4) for _ in range(2))
    assert torch.equal(first.classifier.weight, again.classifier.weight)
    elsewhere = fit_logistic(train, penalty=1.0, classes=4).classifier
    moved = fit_logistic(train, penalty=1e-3, classes=4, start=elsewhere)
    assert moved.loss == pytest.approx(first.loss, rel=1e-7)
    warm = fit_logistic(train, penalty=1e-3, classes=4, start=first.classifier)
    assert warm.iterations < first.iterations


def test_steps_that_run_out_are_said():
    found = fit_logistic(steep(300, 4), penalty=1e-5, classes=4, max_iterations=2)
    assert not found.converged
    assert found.iterations == 2


def test_constant_and_repeated_features_and_a_class_without_images():
    train = steep(200, 3)
    features = torch.cat([train.features, train.features[:, :2], torch.ones(200, 1)], 1)
    found = fit_logistic(Features(features, train.labels), penalty=1e-3, classes=4)
    assert found.converged
    assert found.classifier.weight.isfinite().all()
    assert (found.classifier.scores(features.double()).argmax(1) != 3).all()


@pytest.mark.parametrize("penalty", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_penalty(penalty):
    with pytest.raises(IclmsrError, match=f"penalty must be > 0 and finite, got {penalty}"):
        fit_logistic(steep(20, 2), penalty=penalty, classes=2)
