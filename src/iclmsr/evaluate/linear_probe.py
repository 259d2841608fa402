# SPDX-License-Identifier: Apache-2.0
"""The linear probe: how well a linear classifier does on frozen features."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from iclmsr.evaluate.accuracy import topk_accuracy
from iclmsr.evaluate.features import Features, class_count
from iclmsr.evaluate.protocol import LinearProbeConfig
from iclmsr.seeds import generator


class LinearClassifier(NamedTuple):
    """Scores are ``features @ weight.T + bias``.

    Attributes:
        weight: (C, F).
        bias: (C,).
    """

    weight: Tensor
    bias: Tensor

    def scores(self, features: Tensor) -> Tensor:
        """(M, C) scores of features (M, F)."""
        return torch.addmm(self.bias, features, self.weight.T)


def learning_rates(config: LinearProbeConfig) -> list[float]:
    """The learning rate of each epoch: lr * gamma^epoch, gamma = (last_lr / lr)^(1 / epochs).

    Source: W-MSE's public code, ExponentialLR. Departure: none.

    >>> rates = learning_rates(LinearProbeConfig())
    >>> f"{rates[1] / rates[0]:.10f} {rates[-1]:.6e}"
    '0.9817479430 1.018591e-06'
    """
    gamma = (config.last_lr / config.lr) ** (1 / config.epochs)
    return [config.lr * gamma**epoch for epoch in range(config.epochs)]


def fit(train: Features, config: LinearProbeConfig, *, classes: int) -> LinearClassifier:
    """The classifier after the last epoch; nothing is selected on the way.

    Cross-entropy and its gradient are written out, because autograd costs more than the products
    themselves here; the optimizer is torch's. Random numbers come from the config's seed alone.

    Args:
        train: (N, F) features of any floating dtype, and their labels in [0, classes).
        config: The protocol.
        classes: C >= 1.

    Returns:
        A classifier in the dtype and on the device of the features.

    Source: W-MSE's public code. Departure: a smaller last batch is used.

    >>> train = Features(torch.tensor([[-9.0], [9.0]]), torch.tensor([0, 1]))
    >>> classifier = fit(train, LinearProbeConfig(epochs=100, lr=0.1), classes=2)
    >>> classifier.scores(train.features).argmax(1).tolist()
    [0, 1]
    """
    features, labels = train
    weight, bias = initial(features.shape[1], classes, config.seed)
    parameters = torch.cat([weight.flatten(), bias]).to(features)
    weight, bias = _parts(parameters, classes)
    parameters.grad = torch.empty_like(parameters)
    weight_grad, bias_grad = _parts(parameters.grad, classes)
    adam = torch.optim.Adam([parameters], weight_decay=config.weight_decay, fused=True)
    # One buffer, so that a batch is read from the cache by the two products that follow.
    buffer = features.new_empty(min(config.batch_size, len(features)), features.shape[1])
    with torch.no_grad():
        for epoch, rate in enumerate(learning_rates(config)):
            adam.param_groups[0]["lr"] = rate
            shuffle = generator(config.seed, "linear-probe", "order", epoch)
            order = torch.randperm(len(features), generator=shuffle).to(features.device)
            for index in torch.split(order, config.batch_size):
                batch = buffer[: len(index)]  # (B, F)
                torch.index_select(features, 0, index, out=batch)
                residual = torch.addmm(bias, batch, weight.T).softmax(1)  # (B, C)
                own = labels[index, None]
                residual.scatter_add_(1, own, residual.new_full(own.shape, -1))
                residual /= len(index)
                torch.mm(residual.T, batch, out=weight_grad)
                torch.sum(residual, 0, out=bias_grad)
                adam.step()
    return LinearClassifier(weight, bias)


def initial(width: int, classes: int, seed: int) -> LinearClassifier:
    """A classifier as ``nn.Linear`` starts it: weight and bias uniform in +-1 / sqrt(width).

    Args:
        width: F >= 1.
        classes: C >= 1.
        seed: Any integer; the numbers come from it alone.

    Returns:
        Float32, weight (C, F) and bias (C,).

    Source: torch.nn.Linear.reset_parameters. Departure: a generator of its own.

    >>> initial(4, 3, seed=0).weight.abs().max().item() <= 0.5
    True
    """
    source = generator(seed, "linear-probe", "initial")
    weight, bias = torch.empty(classes, width), torch.empty(classes)
    nn.init.kaiming_uniform_(weight, a=math.sqrt(5), generator=source)
    nn.init.uniform_(bias, -1 / math.sqrt(width), 1 / math.sqrt(width), generator=source)
    return LinearClassifier(weight, bias)


def _parts(flat: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Views of one flat vector as weight (C, F) and bias (C,)."""
    return flat[:-classes].view(classes, -1), flat[-classes:]


def linear_probe(train: Features, test: Features, config: LinearProbeConfig) -> dict[str, float]:
    """Accuracy on ``test`` of a linear classifier trained on ``train``.

    Args:
        train: (N, F) features and labels; never normalized here.
        test: (M, F) features and labels. A class that only they have is never found.
        config: The protocol.

    Returns:
        ``{"top1": ..., "top5": ...}`` in [0, 100] percent; top5 is 100 with fewer than 5 classes.

    Raises:
        IclmsrError: Sets that do not fit together, or features that are not finite.

    Source: W-MSE's public code. Departure: a smaller last batch is used.

    >>> train = Features(torch.tensor([[-9.0], [9.0]]), torch.tensor([0, 1]))
    >>> test = Features(torch.tensor([[-2.0], [-3.0]]), torch.tensor([0, 1]))
    >>> linear_probe(train, test, LinearProbeConfig(epochs=100, lr=0.1))
    {'top1': 50.0, 'top5': 100.0}
    """
    classes = class_count(train, test)
    scores = fit(train, config, classes=classes).scores(test.features)
    return {f"top{k}": topk_accuracy(scores, test.labels, k) for k in (1, 5)}
