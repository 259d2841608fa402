# SPDX-License-Identifier: Apache-2.0
"""Batch norm over the batch of all ranks."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from iclmsr.distributed import sum_over_ranks, world_size
from iclmsr.errors import IclmsrError


class SyncBatchNorm(_BatchNorm):
    """Batch norm whose statistics span all ranks' rows: (B, C), (B, C, L) or (B, C, H, W).

    Takes the place of ``nn.BatchNorm1d`` and ``nn.BatchNorm2d``, with their arguments and state
    dict. All ranks need one shape. Unlike ``nn.SyncBatchNorm`` it runs on a CPU too, has second
    derivatives and passes tangents (dual numbers and ``torch.func.jvp``), because it is made of
    plain operations. In evaluation mode it is plain batch norm.

    Source: Ioffe and Szegedy 2015 (arXiv 1502.03167), Algorithm 1. Departure: none.

    >>> rows = torch.tensor([[1.0], [3.0]])
    >>> SyncBatchNorm(1, eps=0.0)(rows).tolist()
    [[-1.0], [1.0]]
    """

    def forward(self, input: Tensor) -> Tensor:
        """This rank's rows, normalized, in their own dtype; statistics are float32 or wider."""
        if not self.training:
            return super().forward(input)
        self._check_input_dim(input)
        count = world_size() * input.numel() // input.shape[1]
        if count == 1:
            raise ValueError(f"training needs more than 1 value per channel, got {input.shape}")
        rows = input.to(torch.promote_types(input.dtype, torch.float32))
        others = [dim for dim in range(rows.ndim) if dim != 1]
        mean = sum_over_ranks(rows.sum(others, keepdim=True)) / count
        # The mean is known before squares are taken: E[x^2] - E[x]^2 would cancel.
        centred = rows - mean
        variance = sum_over_ranks(centred.square().sum(others, keepdim=True)) / count
        self._track(mean.detach(), variance.detach() * count / (count - 1))
        scale = (variance + self.eps).rsqrt()
        if self.weight is not None:
            scale = scale * self.weight.view_as(scale)
        normalized = centred * scale
        if self.bias is not None:
            normalized = normalized + self.bias.view_as(mean)
        return normalized.to(input.dtype)

    def _track(self, mean: Tensor, variance: Tensor) -> None:
        """Moves the running statistics towards the batch's."""
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        # Without a momentum all batches count the same.
        rate = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        for running, now in ((self.running_mean, mean), (self.running_var, variance)):
            running.lerp_(now.view_as(running).to(running.dtype), rate)

    def _check_input_dim(self, input: Tensor) -> None:
        """Called by torch's forward too."""
        if input.ndim < 2:
            raise ValueError(f"batch norm needs an input (B, C, ...), got {tuple(input.shape)}")


def sync_batch_norm(module: nn.Module, device: torch.device, *, higher_order: bool = False) -> None:
    """Turns every ``BatchNorm1d`` and ``BatchNorm2d`` of ``module`` into one over all ranks.

    Modules, parameters, buffers and their names stay the same objects; only the class changes.

    Args:
        module: What to convert, in place.
        device: What it computes on. On a GPU with several ranks torch's own ``nn.SyncBatchNorm``
            is taken, which is faster but has first derivatives only.
        higher_order: Whether second derivatives or tangents are needed: :class:`SyncBatchNorm`
            on every device.

    Raises:
        IclmsrError: A batch norm of another kind, whose statistics would stay the rank's own.

    >>> network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    >>> sync_batch_norm(network, torch.device("cpu"))
    >>> type(network[1]).__name__, list(network[1].state_dict())
    ('SyncBatchNorm', ['weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked'])
    """
    fast = device.type == "cuda" and world_size() > 1 and not higher_order
    for name, norm in module.named_modules():
        if type(norm) in (nn.BatchNorm1d, nn.BatchNorm2d):
            norm.__class__ = nn.SyncBatchNorm if fast else SyncBatchNorm
            if fast:
                norm.process_group = None  # all ranks
        elif isinstance(norm, _BatchNorm) and not isinstance(
            norm, SyncBatchNorm | nn.SyncBatchNorm
        ):
            raise IclmsrError(
                f"{name} is a {type(norm).__name__}, which does not span ranks: use an encoder "
                "with torch's own batch norm, or one rank"
            )
