# SPDX-License-Identifier: Apache-2.0
"""Images per second of SimCLR training, beside lightly's own example of it.

    python benchmarks/train.py --root CIFAR10 --width 8 --out small.md        # minutes, 2 cores
    python benchmarks/train.py --root CIFAR10 --width 64 --batch 64 --out resnet18.md
    python benchmarks/train.py --root CIFAR10 --device cuda --precision bf16 --compile \
        --batch 512 --workers 16 --seconds 20

All variants train the same encoder (ResNet-18, CIFAR stem) with the same sizes of head, batch,
precision and optimizer, on the protocol's augmentations as each makes them:

* ``iclmsr``: the loop of ``iclmsr pretrain``, all images in memory, the GPU's if there is one.
* ``lightly``: the loop of lightly's SimCLR example: a DataLoader with SimCLRTransform, lightly's
  SimCLRProjectionHead and NTXentLoss. Its SGD is replaced by our Adam.
* ``lightly, tuned``: the same with the encoder in channels-last and, if asked for, compiled, as
  ours is: what is left is the data and the loop.

Every measurement is a fresh process; variants take turns. The wait is the share of time from a
step's end to the next one's begin: the making of views, or the loader's.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

VARIANTS = ["iclmsr", "lightly", "lightly, tuned"]
WARM_UP = 2


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, help="CIFAR-10, a folder or an archive; or noise")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0, help="of a measurement, at least")
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--width", type=int, default=64, help="of the ResNet-18's first block")
    parser.add_argument("--workers", type=int, default=2, help="of the DataLoader")
    parser.add_argument("--threads", type=int, help="of torch; None leaves it its default")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--variants", nargs="+", default=VARIANTS, choices=VARIANTS)
    parser.add_argument("--out", type=Path, metavar="FILE.md")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)  # a child's variant, images
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options, *options.one)))
        return
    found = {variant: [] for variant in options.variants}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "images.npy"
        write_images(options, path)
        for number in range(options.rounds):
            for variant, runs in found.items():
                runs.append(child(variant, path))
                print(number, variant, runs[-1], file=sys.stderr, flush=True)
    report = table(options, found)
    print(report)
    if options.out:
        options.out.write_text(report)


def write_images(options, path):
    """The images that all variants start from, (N, 3, 32, 32) bytes."""
    import numpy as np

    if options.root is None:
        shape = (options.images, 3, 32, 32)
        np.save(path, np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
        return
    from iclmsr.data.config import DataConfig
    from iclmsr.data.sources import load

    config = DataConfig(source="cifar10", root=options.root, limit=options.images)
    np.save(path, load(config, "pretrain").images.numpy())


def child(variant, path):
    """One measurement in a process of its own."""
    command = [sys.executable, __file__, *sys.argv[1:], "--one", variant, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{variant}: {done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(options, variant, path):
    """Images per second in this process after the first steps, and the share of waiting."""
    from dataclasses import replace

    import numpy as np
    import torch

    from iclmsr.networks import EncoderConfig
    from iclmsr.recipes import recipe

    if options.threads:
        torch.set_num_threads(options.threads)
    config = replace(
        recipe("simclr-cifar10").config,
        batch_size=options.batch,
        precision=options.precision,
        compile=options.compile,
        encoder=EncoderConfig(width=options.width),
    )
    device, images = torch.device(options.device), torch.from_numpy(np.load(path))
    cuda = device.type == "cuda"
    if variant == "iclmsr":
        batches, step = ours(config, device, images)
    else:
        batches, step = theirs(config, device, images, options.workers, tuned="tuned" in variant)

    def wait():
        if cuda:
            torch.cuda.synchronize()

    def run(steps, seconds, *, watch):
        """Seconds waited, seconds and steps of a stretch; watching a GPU stops it each time."""
        began, waited, count = time.perf_counter(), 0.0, 0
        while count < steps or time.perf_counter() - began < seconds:
            before = time.perf_counter()
            views = next(batches)
            if watch:
                wait()
            waited += time.perf_counter() - before
            step(views)
            if watch:
                wait()
            count += 1
        wait()
        return waited, time.perf_counter() - began, count

    run(WARM_UP, 0, watch=True)
    waited, total, count = run(WARM_UP, options.seconds, watch=not cuda)
    speed = count * options.batch / total
    if cuda:
        waited, total, _ = run(WARM_UP, options.seconds / 4, watch=True)
    chip = torch.cuda.get_device_name() if cuda else f"{torch.get_num_threads()} CPU threads"
    about = f"{chip}, torch {torch.__version__}"
    return {"speed": speed, "wait": waited / total, "steps": count, "about": about}


def ours(config, device, images):
    """Batches without end and the step, of the library's own loop."""
    from iclmsr.data.batches import Epoch
    from iclmsr.devices import keep_freed_memory
    from iclmsr.stages import Place, TwoStages

    keep_freed_memory()
    stages, images = TwoStages(config, device), images.to(device)
    like = {"view_count": 2, "batch_size": config.batch_size, "seed": 0}
    like |= {"mean": config.data.mean, "std": config.data.std}

    def batches():
        number = 0
        while True:
            epoch = Epoch(images, config.views, epoch=number, **like)
            yield from (epoch.views(batch) for batch in range(len(epoch)))
            number += 1

    def step(views):
        stages.theta_step(views, Place(0, 0), lr=1e-3, progress=0.0)

    return batches(), step


def theirs(config, device, images, workers, *, tuned):
    """Batches without end and the step, of lightly's example."""
    import torch
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead
    from lightly.transforms import SimCLRTransform
    from torch.utils.data import DataLoader

    from iclmsr.networks import initial_encoder

    transform = SimCLRTransform(
        input_size=32,
        cj_strength=0.5,
        min_scale=0.2,
        random_gray_scale=0.1,
        gaussian_blur=0.0,
        normalize={"mean": list(config.data.mean), "std": list(config.data.std)},
    )
    loader = DataLoader(
        Pictures(images, transform),
        config.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=True,
        pin_memory=device.type == "cuda",
    )

    def batches():
        while True:
            for views in loader:
                yield [view.to(device, non_blocking=True) for view in views]

    encoder = initial_encoder(config.encoder, seed=0)
    sizes = encoder.feature_dim, config.method.hidden_dim, config.method.embedding_dim
    model = torch.nn.ModuleList([encoder, SimCLRProjectionHead(*sizes)]).to(device).train()
    layout = torch.channels_last if tuned else torch.contiguous_format
    model.to(memory_format=layout)
    if tuned and config.compile:
        encoder.compile(dynamic=False)
    loss_of = NTXentLoss(temperature=config.method.temperature)
    decay = config.optimizer.weight_decay
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=decay)

    def step(views):
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            z = [model[1](model[0](view.contiguous(memory_format=layout))) for view in views]
            loss = loss_of(*z)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return batches(), step


class Pictures:
    """A data set of PIL images, as torchvision's CIFAR10 is one."""

    def __init__(self, images, transform):
        self.images = images.permute(0, 2, 3, 1).contiguous().numpy()
        self.transform = transform

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        from PIL import Image

        return self.transform(Image.fromarray(self.images[index]))


def table(options, found):
    """Markdown: speeds, ratios within a round, and the wait."""
    first = found[options.variants[0]]
    lines = [
        f"ResNet-18 of width {options.width} on {'CIFAR-10' if options.root else 'noise'}, batch "
        f"{options.batch}, two views, {options.precision}{', compiled' * options.compile}; "
        f"{first[0]['about']}, {options.workers} workers of the DataLoader; "
        f"{options.rounds} rounds of {options.seconds:g} s or more.",
        "",
        "| loop | images/s: median [range] | ours is so many times as fast: median [range] "
        "| wait for data |",
        "|---|--:|--:|--:|",
    ]
    for variant, runs in found.items():
        speeds = [run["speed"] for run in runs]
        times = [ours["speed"] / run["speed"] for ours, run in zip(first, runs, strict=True)]
        wait = 100 * statistics.median(run["wait"] for run in runs)
        lines.append(
            f"| {variant} | {words(speeds, ',.1f')} | {words(times, '.2f')} | {wait:.1f} % |"
        )
    return "\n".join(lines) + "\n"


def words(values, how):
    """``median [least, greatest]``."""
    shown = statistics.median(values), min(values), max(values)
    return "{} [{}, {}]".format(*(format(value, how) for value in shown))


if __name__ == "__main__":
    main()
