# SPDX-License-Identifier: Apache-2.0
"""lightly's own SimCLR example, with the meta semantic regularizer in the lines MSR 1 to 5."""

import argparse
from collections.abc import Sequence

import torch
import torchvision
from lightly.loss import NTXentLoss
from lightly.models.modules import SimCLRProjectionHead
from lightly.transforms import SimCLRTransform
from torch import Tensor, nn

from iclmsr.regularizer import MetaSemanticRegularizer  # MSR 1

LR = 0.06


class SimCLR(nn.Module):
    """One view (B, 3, H, W) to embeddings (B, 128)."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.projection_head = SimCLRProjectionHead(512, 512, 128)

    def forward(self, x: Tensor) -> Tensor:
        """Backbone, then projection head."""
        return self.projection_head(self.backbone(x).flatten(start_dim=1))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=16)
    args = parser.parse_args(argv)
    torch.manual_seed(0)

    resnet = torchvision.models.resnet18()
    model = SimCLR(nn.Sequential(*list(resnet.children())[:-1]))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device)

    dataset = torchvision.datasets.FakeData(
        args.steps * args.batch_size, (3, 32, 32), transform=SimCLRTransform(input_size=32)
    )
    dataloader = torch.utils.data.DataLoader(dataset, args.batch_size, shuffle=True)

    criterion = NTXentLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    msr = MetaSemanticRegularizer(dim=128).to(device)  # MSR 2
    psi_optimizer = torch.optim.Adam(msr.parameters(), lr=1e-3)  # MSR 3
    before = msr.weights().detach()  # check

    for (x0, x1), _ in dataloader:
        x0, x1 = x0.to(device), x1.to(device)
        z0, z1 = model(x0), model(x1)
        loss = criterion(z0, z1) + msr(torch.stack([z0, z1]))  # MSR 4
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        psi_optimizer.step(lambda: msr.meta_backward(model, [x0, x1], criterion, lr=LR))  # MSR 5

    moved = (msr.weights() - before).abs().max().item()  # check
    assert moved > 0, "the regularizer's weights did not move"
    counts = {int(b) for name, b in model.named_buffers() if name.endswith("batches_tracked")}
    assert counts == {2 * args.steps}, f"batch norm counted {counts} batches"
    print(f"loss {loss.item():.4f}, the regularizer's weights moved by up to {moved:.5f}")


if __name__ == "__main__":
    main()
