# SPDX-License-Identifier: Apache-2.0
"""A Lightning module, with the meta semantic regularizer in the lines MSR 1 to 5.

The module optimizes manually. Psi's optimizer is its own rather than one of
``configure_optimizers``, so that ``global_step`` and ``max_steps`` count what they counted before.
"""

import argparse
from collections.abc import Sequence

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from torchvision.models.resnet import BasicBlock, ResNet

from iclmsr.regularizer import MetaSemanticRegularizer  # MSR 1

LR = 0.03


def info_nce(z0: Tensor, z1: Tensor) -> Tensor:
    """Each embedding has to find its partner among those of the other view."""
    logits = F.normalize(z0, dim=1) @ F.normalize(z1, dim=1).T / 0.5
    partner = torch.arange(len(z0), device=z0.device)
    return (F.cross_entropy(logits, partner) + F.cross_entropy(logits.T, partner)) / 2


class Contrastive(pl.LightningModule):
    """A thin ResNet and a head, trained on pairs of views."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.net = nn.Sequential(
            ResNet(BasicBlock, [1, 1, 1, 1], num_classes=128),
            nn.BatchNorm1d(128),
            nn.ReLU(),
            nn.Linear(128, 64),
        )
        self.msr = MetaSemanticRegularizer(dim=64)  # MSR 2
        self.psi_opt = torch.optim.Adam(self.msr.parameters(), lr=1e-3)  # MSR 3

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Moves the network."""
        return torch.optim.SGD(self.net.parameters(), lr=LR, momentum=0.9)

    def training_step(self, views: list[Tensor], _: int) -> None:
        """One update."""
        optimizer = self.optimizers()
        z0, z1 = (self.net(view) for view in views)
        loss = info_nce(z0, z1) + self.msr(torch.stack([z0, z1]))  # MSR 4
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        self.psi_opt.step(lambda: self.msr.meta_backward(self.net, views, info_nce, lr=LR))  # MSR 5
        self.log("loss", loss)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=16)
    args = parser.parse_args(argv)
    torch.manual_seed(0)

    images = torch.rand(args.steps * args.batch_size, 3, 1, 1).expand(-1, -1, 32, 32)
    views = [images + 0.1 * torch.randn(images.shape) for _ in range(2)]
    loader = DataLoader(TensorDataset(*views), args.batch_size, shuffle=True)
    module = Contrastive()
    before = module.msr.weights().detach()  # check
    trainer = pl.Trainer(
        max_steps=args.steps,
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, loader)

    moved = (module.msr.weights() - before.to(module.device)).abs().max().item()  # check
    assert moved > 0, "the regularizer's weights did not move"
    counts = {int(b) for name, b in module.named_buffers() if name.endswith("batches_tracked")}
    assert counts == {2 * args.steps}, f"batch norm counted {counts} batches"
    loss = trainer.callback_metrics["loss"].item()
    print(f"loss {loss:.4f}, the regularizer's weights moved by up to {moved:.5f}")


if __name__ == "__main__":
    main()
