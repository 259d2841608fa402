# SPDX-License-Identifier: Apache-2.0
"""Full fine-tuning: encoder and classifier trained together."""

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from iclmsr.data.batches import Epoch
from iclmsr.data.feed import feed_of
from iclmsr.data.file_set import FileSet
from iclmsr.data.images import ImageSet
from iclmsr.data.views import ViewConfig
from iclmsr.errors import IclmsrError
from iclmsr.evaluate.accuracy import topk_accuracy
from iclmsr.evaluate.features import Features, extract
from iclmsr.evaluate.linear_probe import LinearClassifier
from iclmsr.evaluate.protocol import FineTuneConfig
from iclmsr.evaluate.subsets import stratified
from iclmsr.seeds import derive

Head = Callable[[Features], LinearClassifier]


def fine_tune(
    encoder: nn.Module,
    train: ImageSet | FileSet,
    test: ImageSet | FileSet,
    known: Features,
    config: FineTuneConfig,
    head: Head,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    batch_size: int = 512,
    device: torch.device | str = "cpu",
    workers: int | None = None,
) -> dict[str, Any]:
    """Accuracy of the encoder after training it together with a linear classifier.

    Both start where the frozen evaluation ended. The encoder given stays as it is. Random
    numbers come from the config's seed alone.

    Args:
        encoder: f: (B, 3, H, W) -> (B, F), float32.
        train: N labelled images.
        test: M labelled images.
        known: Features (N, F) of the training images that could be read.
        config: How it is trained.
        head: Fits the classifier that training starts from.
        mean: Of the three channels, in units of the pixel range [0, 1].
        std: The same, > 0.
        batch_size: Images at a time while testing, >= 1.
        device: Where it is trained.
        workers: Processes that decode what is left in files.

    Returns:
        ``{"top1", "top5"}`` in percent, ``images`` trained on and ``loss``, the last epoch's
        mean in nats.

    Raises:
        IclmsrError: An encoder without weights, fewer images than a batch, or a loss that is
            not finite.

    Source: Kumar et al. 2022 (arXiv 2202.10054), LP-FT. Departure: none.
    """
    if not any(True for _ in encoder.parameters()):
        raise IclmsrError("this encoder has no weights that could be trained: leave out fine-tune")
    gone = set(train.instead) if isinstance(train, FileSet) else set()
    places = torch.tensor([place for place in range(len(train)) if place not in gone])
    chosen = stratified(known.labels, config.share, seed=config.seed, purpose="fine-tune/labels")
    if len(chosen) < config.batch_size:
        raise IclmsrError(
            f"fine-tune.batch-size {config.batch_size} is larger than the {len(chosen)} images: "
            f"pass --fine-tune.batch-size {len(chosen)} or less"
        )
    start = head(Features(known.features[chosen], known.labels[chosen]))
    chosen = places[chosen]
    device = torch.device(device)
    size = int(train.images.shape[-1]) if isinstance(train, ImageSet) else None
    with torch.random.fork_rng(), feed_of(train, device, workers) as feed:
        torch.manual_seed(derive(config.seed, "fine-tune"))
        network = nn.Sequential(copy.deepcopy(encoder), _linear(start)).to(device).train()
        sgd = torch.optim.SGD(
            network.parameters(),
            lr=config.lr,
            momentum=config.sgd_momentum,
            weight_decay=config.weight_decay,
            nesterov=True,
        )
        views = ViewConfig(
            size=size or feed.size[0],
            crop_scale=config.crop_scale,
            jitter_probability=0.0,
            grayscale=0.0,
        )
        steps, step, loss = len(chosen) // config.batch_size, 0, math.nan
        for epoch in range(config.epochs):
            order = chosen[_shuffled(len(chosen), config.seed, epoch)]
            data = Epoch(
                feed,
                views,
                view_count=1,
                batch_size=config.batch_size,
                seed=config.seed,
                epoch=epoch,
                mean=mean,
                std=std,
                order=order,
            )
            data.expect(range(steps))
            total = 0.0
            for batch in range(steps):
                rows = order[batch * config.batch_size : (batch + 1) * config.batch_size]
                (images,) = data.views(batch)
                rate = config.lr * (1 + math.cos(math.pi * step / (steps * config.epochs))) / 2
                sgd.param_groups[0]["lr"] = rate
                value = F.cross_entropy(network(images), train.labels[rows].to(device))
                sgd.zero_grad()
                value.backward()  # type: ignore[no-untyped-call]
                sgd.step()
                total += value.item()
                step += 1
            loss = total / steps
            if not math.isfinite(loss):
                raise IclmsrError(
                    f"fine-tuning diverged in epoch {epoch + 1}: lower --fine-tune.lr {config.lr}"
                )
    scores, labels = extract(
        network, test, mean=mean, std=std, batch_size=batch_size, device=device, workers=workers
    )
    accuracies = {f"top{k}": topk_accuracy(scores, labels, k) for k in (1, 5)}
    return {**accuracies, "images": len(chosen), "loss": loss}


def _shuffled(count: int, seed: int, epoch: int) -> Tensor:
    """A random order of so many images."""
    source = torch.Generator().manual_seed(derive(seed, "fine-tune/order", epoch))
    return torch.randperm(count, generator=source)


def _linear(classifier: LinearClassifier) -> nn.Linear:
    """A layer that gives the classifier's scores."""
    classes, width = classifier.weight.shape
    layer = nn.Linear(width, classes)
    with torch.no_grad():
        layer.weight.copy_(classifier.weight)
        layer.bias.copy_(classifier.bias)
    return layer
