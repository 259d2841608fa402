# SPDX-License-Identifier: Apache-2.0
"""Views per second of the batched views beside four other ways to make them.

    python benchmarks/data.py --root CIFAR10 --out views.md     # a folder or archive; 8 minutes
    python benchmarks/data.py --device cuda --batch 512

The augmentations are the table's protocol: colour jitter (0.4, 0.4, 0.4, 0.1; p 0.8), gray (p 0.1),
crop (area 0.2 to 1, bicubic, 32 pixels), flip, normalization; what a variant does otherwise stands
in its row. Every measurement is a fresh process that starts from the whole set as bytes in memory
and counts finished views; variants take turns, so that a busy machine is busy for all. Without a
root, images are noise: no variant's time depends on what they show.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
LOADED = "one image at a time, DataLoader"
VARIANTS = {  # name: what it is
    "iclmsr": "**iclmsr**, whole batches",
    "pil": f"(a) torchvision, PIL, {LOADED}",
    "v2": f"(b) torchvision v2, tensors, {LOADED}",
    "v2-batch": "(b') torchvision v2, whole batches; one crop, jitter, flip for all images of one",
    "kornia": "(c) kornia, whole batches; no antialiasing, one order of the jitter for a batch",
    "lightly": f"(d) lightly's SimCLRTransform, {LOADED}; crop first and bilinear",
}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, help="CIFAR-10, a folder or an archive")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of a measurement, at least")
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--workers", type=int, default=2, help="processes, or else threads")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--variants", nargs="+", default=[*VARIANTS], choices=VARIANTS)
    parser.add_argument("--out", type=Path, metavar="FILE.md")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)  # a child's variant, images
    options = parser.parse_args()
    if options.one:
        variant, images = options.one
        print(json.dumps(measure(options, variant, images)))
        return
    found = {variant: [] for variant in options.variants}
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images.npy"
        write_images(options, images)
        for number in range(options.rounds):
            for variant, speeds in found.items():
                speeds.append(child(variant, images))
                print(number, variant, f"{speeds[-1]['speed']:,.0f}", file=sys.stderr, flush=True)
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


def child(variant, images):
    """One measurement in a process of its own."""
    command = [sys.executable, __file__, *sys.argv[1:], "--one", variant, str(images)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{variant}: {done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(options, variant, path):
    """Views per second in this process, without what the first batches take."""
    import numpy as np
    import torch

    images = torch.from_numpy(np.load(path))
    cuda = torch.device(options.device).type == "cuda"
    torch.set_num_threads(options.workers)

    def wait():
        if cuda:
            torch.cuda.synchronize()

    batches = MAKERS[variant](images, options)
    for _ in range(3):
        next(batches)
    wait()
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < options.seconds:
        count += next(batches)
        wait()
    chip = torch.cuda.get_device_name() if cuda else f"{options.workers} CPU cores"
    return {
        "speed": count / (time.perf_counter() - began),
        "about": f"{chip}, torch {torch.__version__}",
    }


def whole_batches(make):
    """A maker of two views of each image, by a function of a batch on the device."""

    def batches(images, options):
        import torch

        images, transform = images.to(options.device), make(options)
        while True:
            for index in torch.randperm(len(images)).split(options.batch):
                batch = images[index.to(images.device)]
                yield sum(len(transform(batch)) for _ in range(2))

    return batches


def one_at_a_time(make):
    """A maker of two views of each image, by a function of a PIL image or tensor, in workers."""

    def batches(images, options):
        from torch.utils.data import DataLoader

        loader = DataLoader(
            Views(images, *make()),
            options.batch,
            shuffle=True,
            num_workers=options.workers,
            drop_last=True,
            persistent_workers=True,
            pin_memory=options.device != "cpu",
        )
        while True:
            for views in loader:
                yield sum(len(v.to(options.device, non_blocking=True)) for v in views)

    return batches


class Views:
    """A data set of two views of each image, as workers read it."""

    def __init__(self, images, transform, pil=True):
        self.images = images.permute(0, 2, 3, 1).contiguous().numpy() if pil else images
        self.transform, self.pil = transform, pil

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        from PIL import Image

        image = Image.fromarray(self.images[index]) if self.pil else self.images[index]
        views = self.transform(image)
        return tuple(views) if isinstance(views, list) else (views, self.transform(image))


def ours(images, options):
    """Epochs as the training loop makes them."""
    from iclmsr.data.batches import Epoch
    from iclmsr.data.views import ViewConfig

    images, number = images.to(options.device), 0
    like = {"view_count": 2, "batch_size": options.batch, "seed": 0, "mean": MEAN, "std": STD}
    while True:
        epoch = Epoch(images, ViewConfig(), epoch=number, **like)
        for batch in range(len(epoch)):
            yield sum(map(len, epoch.views(batch)))
        number += 1


def pil():
    """Torchvision's transforms as the public code of the protocol has them."""
    from torchvision import transforms as T

    crop = T.RandomResizedCrop(32, (0.2, 1.0), interpolation=T.InterpolationMode.BICUBIC)
    steps = [T.RandomApply([T.ColorJitter(0.4, 0.4, 0.4, 0.1)], 0.8), T.RandomGrayscale(0.1)]
    steps += [crop, T.RandomHorizontalFlip(), T.ToTensor(), T.Normalize(MEAN, STD)]
    return (T.Compose(steps),)


def v2():
    """Torchvision's newer transforms, of tensors of bytes."""
    import torch
    from torchvision.transforms import v2 as T

    crop = T.RandomResizedCrop(32, (0.2, 1.0), interpolation=T.InterpolationMode.BICUBIC)
    steps = [T.RandomApply([T.ColorJitter(0.4, 0.4, 0.4, 0.1)], 0.8), T.RandomGrayscale(0.1)]
    steps += [crop, T.RandomHorizontalFlip(), T.ToDtype(torch.float32, scale=True)]
    return T.Compose([*steps, T.Normalize(MEAN, STD)]), False


def kornia(options):
    """Kornia's augmentations, each image with numbers of its own but for the jitter's order."""
    import torch
    from kornia import augmentation as K

    means = torch.tensor(MEAN), torch.tensor(STD)
    crop = K.RandomResizedCrop((32, 32), (0.2, 1.0), resample="bicubic", align_corners=False)
    steps = [K.ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8), K.RandomGrayscale(p=0.1), crop]
    steps += [K.RandomHorizontalFlip(), K.Normalize(*means)]
    whole = torch.nn.Sequential(*steps).to(options.device)
    return lambda batch: whole(batch.float() / 255)


def lightly():
    """Lightly's transform with the protocol's numbers, which makes both views."""
    from lightly.transforms import SimCLRTransform

    transform = SimCLRTransform(
        input_size=32,
        cj_strength=0.5,
        min_scale=0.2,
        random_gray_scale=0.1,
        gaussian_blur=0.0,
        normalize={"mean": list(MEAN), "std": list(STD)},
    )
    return (transform,)


MAKERS = {
    "iclmsr": ours,
    "pil": one_at_a_time(pil),
    "v2": one_at_a_time(v2),
    "v2-batch": whole_batches(lambda _: v2()[0]),
    "kornia": whole_batches(kornia),
    "lightly": one_at_a_time(lightly),
}


def table(options, found):
    """Markdown: speeds, and how many times as fast ours was in the same round."""
    first = found[options.variants[0]]
    about = first[0]["about"]
    what = "CIFAR-10" if options.root else "noise"
    lines = [
        f"{what}, {options.images:,} images of 32 x 32, two views, batches of {options.batch}; "
        f"{about}; {options.rounds} rounds of {options.seconds:g} s.",
        "",
        "| way | views/s: median [range] | ours is so many times as fast: median [range] |",
        "|---|--:|--:|",
    ]
    for variant, runs in found.items():
        speeds = [run["speed"] for run in runs]
        times = [ours["speed"] / run["speed"] for ours, run in zip(first, runs, strict=True)]
        lines.append(f"| {VARIANTS[variant]} | {words(speeds, ',.0f')} | {words(times, '.2f')} |")
    return "\n".join(lines) + "\n"


def words(values, how):
    """``median [least, greatest]``."""
    shown = statistics.median(values), min(values), max(values)
    return "{} [{}, {}]".format(*(format(value, how) for value in shown))


if __name__ == "__main__":
    main()
