# SPDX-License-Identifier: Apache-2.0
"""A plain PyTorch loop, with the meta semantic regularizer in the lines MSR 1 to 5."""

import argparse
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock, ResNet

from iclmsr.regularizer import MetaSemanticRegularizer  # MSR 1

LR = 0.03


def info_nce(z0: Tensor, z1: Tensor) -> Tensor:
    """Each embedding has to find its partner among those of the other view."""
    logits = F.normalize(z0, dim=1) @ F.normalize(z1, dim=1).T / 0.5
    partner = torch.arange(len(z0), device=z0.device)
    return (F.cross_entropy(logits, partner) + F.cross_entropy(logits.T, partner)) / 2


def blobs(count: int) -> Tensor:
    """Images (count, 3, 32, 32) of one coloured blob each."""
    axis = torch.linspace(-1, 1, 32)
    x, y = torch.rand(2, count, 1, 1) - 0.5
    spots = torch.exp(-8 * ((axis - x) ** 2 + (axis[:, None] - y) ** 2))
    return torch.rand(count, 3, 1, 1) * spots[:, None]


def noisy(images: Tensor) -> Tensor:
    """A view of the images."""
    return images + 0.1 * torch.randn_like(images)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=16)
    args = parser.parse_args(argv)
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"

    encoder = ResNet(BasicBlock, [1, 1, 1, 1])
    encoder.fc = nn.Identity()
    head = nn.Sequential(nn.Linear(512, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 64))
    model = nn.Sequential(encoder, head).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9)
    msr = MetaSemanticRegularizer(dim=64).to(device)  # MSR 2
    psi_optimizer = torch.optim.Adam(msr.parameters(), lr=1e-3)  # MSR 3
    before = msr.weights().detach()  # check

    for _ in range(args.steps):
        images = blobs(args.batch_size).to(device)
        x0, x1 = noisy(images), noisy(images)
        z0, z1 = model(x0), model(x1)
        loss = info_nce(z0, z1) + msr(torch.stack([z0, z1]))  # MSR 4
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        psi_optimizer.step(lambda: msr.meta_backward(model, [x0, x1], info_nce, lr=LR))  # MSR 5

    moved = (msr.weights() - before).abs().max().item()  # check
    assert moved > 0, "the regularizer's weights did not move"
    counts = {int(b) for name, b in model.named_buffers() if name.endswith("batches_tracked")}
    assert counts == {2 * args.steps}, f"batch norm counted {counts} batches"
    print(f"loss {loss.item():.4f}, the regularizer's weights moved by up to {moved:.5f}")


if __name__ == "__main__":
    main()
