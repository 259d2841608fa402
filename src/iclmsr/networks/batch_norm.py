# SPDX-License-Identifier: Apache-2.0
"""Batch norm over parts of a batch, as if each lay on a GPU of its own."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from iclmsr.errors import IclmsrError


class SplitBatchNorm2d(nn.BatchNorm2d):
    """Batch norm whose statistics span one of ``splits`` equal parts of the batch at a time.

    Parts are runs of neighbouring rows; running statistics are the mean over the parts. In
    evaluation mode it is plain batch norm, and its state dict is plain batch norm's.

    Args:
        like: The batch norm whose place it takes, with its parameters and statistics.
        splits: Number of parts, >= 1.

    Source: MoCo's public CIFAR-10 demo. Departure: its parts are strided rows.
    """

    def __init__(self, like: nn.BatchNorm2d, splits: int) -> None:
        super().__init__(like.num_features, eps=like.eps, momentum=like.momentum)
        self.load_state_dict(like.state_dict())
        self.splits = splits

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) to the same; in training mode B must be a multiple of ``splits``."""
        if not self.training:
            return super().forward(input)
        if len(input) % self.splits:
            raise IclmsrError(f"a batch of {len(input)} does not split into {self.splits} parts")
        mean, variance = self.running_mean, self.running_var
        assert mean is not None
        assert variance is not None
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        running = [(mean.clone(), variance.clone()) for _ in range(self.splits)]
        parts = [
            F.batch_norm(part, *own, self.weight, self.bias, True, self.momentum or 0.0, self.eps)
            for part, own in zip(input.chunk(self.splits), running, strict=True)
        ]
        for whole, own in zip((mean, variance), zip(*running, strict=True), strict=True):
            whole.copy_(torch.stack(own).mean(0))
        return torch.cat(parts)


def split_batch_norm(module: nn.Module, splits: int) -> None:
    """Replaces every ``BatchNorm2d`` inside ``module`` by a :class:`SplitBatchNorm2d`.

    Raises:
        IclmsrError: There is none, or one of another kind (some timm models have their own).
    """
    norms = [name for name, child in module.named_modules() if isinstance(child, nn.BatchNorm2d)]
    other = [name for name in norms if type(module.get_submodule(name)) is not nn.BatchNorm2d]
    if other or not norms:
        what = f"{other[0]} is a {type(module.get_submodule(other[0])).__name__}" if other else ""
        raise IclmsrError(
            f"bn_splits {splits} needs an encoder with torch's own BatchNorm2d"
            f"{what and ', ' + what}: use a ResNet, or bn_splits 1"
        )
    for name in norms:
        path, _, last = name.rpartition(".")
        like = module.get_submodule(name)
        assert isinstance(like, nn.BatchNorm2d)
        setattr(module.get_submodule(path), last, SplitBatchNorm2d(like, splits))
