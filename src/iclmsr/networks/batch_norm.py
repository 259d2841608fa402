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
        running = [(mean.clone(), variance.clone()) for _ in range(self.splits)]
        parts = [
            F.batch_norm(part, *own, self.weight, self.bias, True, self.momentum or 0.0, self.eps)
            for part, own in zip(input.chunk(self.splits), running, strict=True)
        ]
        for whole, own in zip((mean, variance), zip(*running, strict=True), strict=True):
            whole.copy_(torch.stack(own).mean(0))
        return torch.cat(parts)


def split_batch_norm(module: nn.Module, splits: int) -> None:
    """Replaces every ``BatchNorm2d`` inside ``module`` by a :class:`SplitBatchNorm2d`."""
    for name, child in module.named_children():
        if type(child) is nn.BatchNorm2d:
            setattr(module, name, SplitBatchNorm2d(child, splits))
        else:
            split_batch_norm(child, splits)
