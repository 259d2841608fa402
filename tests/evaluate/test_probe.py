# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from iclmsr.errors import IclmsrError
from iclmsr.evaluate.accuracy import topk_accuracy
from iclmsr.evaluate.features import Features
from iclmsr.evaluate.linear_probe import fit
from iclmsr.evaluate.probe import few_labels, fit_chosen, fit_probe
from iclmsr.evaluate.protocol import FewLabelConfig, LinearProbeConfig, LogisticProbeConfig
from iclmsr.evaluate.subsets import held_out, stratified
from iclmsr.seeds import generator

GRID = LogisticProbeConfig(penalties=(1.0, 0.1, 1e-2, 1e-4))


def noisy(count: int, *, name: str, width: int = 30) -> Features:
    """Three classes told apart by two of many features: without a penalty the others mislead."""
    source = generator(0, "noisy", name)
    labels = torch.randint(3, (count,), generator=source)
    features = torch.randn(count, width, generator=source)
    features[:, :2] += 1.3 * torch.tensor([[0.0, 0.0], [1.0, 1.0], [1.0, -1.0]])[labels]
    return Features(7 * features, labels)


def test_the_penalty_is_the_best_on_held_out_training_images():
    train = noisy(150, name="train")
    classifier, chosen = fit_chosen(train, GRID, classes=3)
    kept, out = held_out(train.labels, 0.2, seed=0, purpose="linear-lbfgs/validation")
    scale = train.features.double().var(0, correction=0).mean().item()
    x, y = train.features.double().numpy(), train.labels.numpy()
    accuracies = {}
    for penalty in GRID.penalties:
        peer = LogisticRegression(C=1 / (penalty * scale * len(kept)), max_iter=5000, tol=1e-9)
        peer.fit(x[kept], y[kept])
        accuracies[penalty] = 100 * peer.score(x[out], y[out])
    found = {float(penalty): value for penalty, value in chosen["validation"].items()}
    assert found == pytest.approx(accuracies)
    assert chosen["penalty"] == max(accuracies, key=lambda each: (accuracies[each], each))
    assert chosen["lambda"] == pytest.approx(chosen["penalty"] * scale, rel=1e-5)
    final = LogisticRegression(C=chosen["sklearn_C"], max_iter=5000, tol=1e-10).fit(x, y)
    weight = torch.from_numpy(final.coef_).float()
    assert torch.allclose(classifier.weight, weight, atol=1e-3 * weight.abs().max().item())
    assert classifier.weight.dtype == torch.float32
    assert chosen["converged"]


def test_one_penalty_needs_no_choice():
    train = Features(torch.tensor([[-1.0], [1.0]]), torch.tensor([0, 1]))
    _, chosen = fit_chosen(train, LogisticProbeConfig(penalties=(0.1,)), classes=2)
    assert chosen["validation"] == {}
    assert not chosen["at_edge"]
    with pytest.raises(IclmsrError, match="each class of the 2 training images has one"):
        fit_chosen(train, LogisticProbeConfig(), classes=2)


def test_scale_of_the_features_does_not_matter():
    train, test = noisy(150, name="train"), noisy(100, name="test")
    predictions = []
    for factor in (1.0, 64.0):
        some = train._replace(features=factor * train.features)
        classifier, chosen = fit_chosen(some, GRID, classes=3)
        predictions.append((classifier.scores(factor * test.features).argmax(1), chosen["penalty"]))
    assert predictions[0][1] == predictions[1][1]
    assert (predictions[0][0] == predictions[1][0]).double().mean() > 0.98


def test_features_that_do_not_vary_are_refused():
    train = Features(torch.ones(4, 2), torch.tensor([0, 0, 1, 1]))
    with pytest.raises(IclmsrError, match="features that vary"):
        fit_chosen(train, GRID, classes=2)


def test_the_edge_of_the_grid_is_said():
    config = LogisticProbeConfig(penalties=(1e4, 1e3))
    assert fit_chosen(noisy(150, name="train"), config, classes=3)[1]["at_edge"]


def test_each_protocol_has_its_probe():
    train, short = noisy(60, name="train"), LinearProbeConfig(epochs=3)
    classifier, choice = fit_probe(train, "w-mse-2021", short, GRID, classes=3)
    assert torch.equal(classifier.weight, fit(train, short, classes=3).weight)
    assert choice == {}
    assert "lambda" in fit_probe(train, "linear-lbfgs", short, GRID, classes=3)[1]


def test_few_labels_are_the_probe_on_stratified_parts():
    train, test = noisy(200, name="train"), noisy(100, name="test")
    config = FewLabelConfig(shares=(0.1, 1.0), draws=2, seed=4)
    short = LinearProbeConfig(epochs=20, batch_size=50)
    results = few_labels(train, test, config, "w-mse-2021", short, GRID)
    assert [result["share"] for result in results] == [0.1, 1.0]
    assert results == few_labels(train, test, config, "w-mse-2021", short, GRID)
    expected = []
    for draw in range(2):
        at = stratified(train.labels, 0.1, seed=4, purpose="few-labels", draw=draw)
        some = Features(train.features[at], train.labels[at])
        scores = fit(some, short, classes=3).scores(test.features)
        expected.append(topk_accuracy(scores, test.labels, 1))
    assert results[0]["top1_draws"] == expected
    assert results[0]["images"] == len(at) < 25
    assert results[0]["top1"] == pytest.approx(sum(expected) / 2)
    assert results[0]["top1_sd"] == pytest.approx(abs(expected[0] - expected[1]) / 2**0.5)
    whole = topk_accuracy(fit(train, short, classes=3).scores(test.features), test.labels, 1)
    assert results[1]["top1_draws"] == [whole, whole]
    assert results[1]["top1"] > results[0]["top1"]
    one = few_labels(train, test, FewLabelConfig((0.1,), draws=1), "w-mse-2021", short, GRID)
    assert one[0]["top1_sd"] is None
