# SPDX-License-Identifier: Apache-2.0
"""Time and peak memory of a step of both stages, for each engine, beside plain SimCLR's step.

    python benchmarks/metagradient.py --out metagradient.md

ResNet-18 (CIFAR stem, 32 x 32), head and Adam of the recipe simclr-cifar10, random images. Every
measurement is a fresh process; variants take turns, so that a busy machine is busy for all. Time
is the median over the timed steps and then over the rounds of the ratio to the plain step of the
same round; memory is the peak above the built model, before Adam has its state.

On a GPU: ``--device cuda --precision bf16 --compile --batches 512 --rounds 5``.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

VARIANTS = {  # name: (engine, sides, passes in units of a plain step, what it is)
    "plain": (None, 1, 1.0, "SimCLR"),
    "L_do": (None, 1, 1.0, "stage 1 with the interventional loss"),
    "reference": ("reference", 1, 3.37, "both stages, double backward"),
    "forward": ("forward", 1, 3.0, "both stages, forward mode"),
    "dual": ("dual", 1, 3.0, "both stages, dual numbers"),
    "difference": ("difference", 1, 2.33, "both stages, one-sided difference"),
    "difference-2": ("difference", 2, 2.67, "both stages, two-sided difference"),
    "free": ("free", 1, 1.33, "both stages, approximate"),
    "apart": ("difference", 1, 3.33, "stage 1, then stage 2 without what it knew"),
}
SCHEDULES = {  # name: (schedule, floor)
    "plain epoch": (None, 1.0),
    "interleaved": ("interleaved", 1 + 1.33 / 10),
    "epoch": ("epoch", 1 + 2.33 / 10),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 64, 128])
    parser.add_argument("--schedule-batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2, help="timed steps of a measurement")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--variants", nargs="+", default=[*VARIANTS])
    parser.add_argument("--schedules", nargs="*", default=[*SCHEDULES])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)  # a child's variant, batch
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options, options.one[0], int(options.one[1]))))
        return
    cells = [(variant, size) for size in options.batches for variant in options.variants]
    cells += [(name, options.schedule_batch) for name in options.schedules]
    found = {cell: [] for cell in cells}
    for number in range(options.rounds):
        for cell in cells:
            found[cell].append(child(cell))
            print(number, *cell, found[cell][-1], file=sys.stderr, flush=True)
    report = table(options, found)
    print(report)
    if options.out:
        options.out.write_text(report)


def child(cell):
    """One measurement in a process of its own."""
    command = [sys.executable, __file__, *sys.argv[1:], "--one", cell[0], str(cell[1])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{cell}: {done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(options, variant, size):
    """Seconds of a step and MiB above the built model."""
    from dataclasses import replace

    import torch

    from iclmsr.networks import EncoderConfig
    from iclmsr.recipes import recipe
    from iclmsr.schedule import plan
    from iclmsr.stages import Batch, Place, TwoStages

    schedule, _ = SCHEDULES.get(variant, (None, 0))
    engine, sides, *_ = VARIANTS.get(variant, (None, 1))
    plain = variant in ("plain", "plain epoch")
    config = recipe("simclr-msr-cifar10").config
    config = replace(
        config,
        batch_size=size,
        precision=options.precision,
        compile=options.compile,
        encoder=EncoderConfig(width=options.width),
        msr=replace(
            config.msr,
            enabled=not plain,
            engine=engine or "auto",
            difference_sides=sides,
            schedule=schedule or "interleaved",
        ),
    )
    device = torch.device(options.device)
    cuda = device.type == "cuda"
    stages = TwoStages(config, device)
    batches = [
        Batch(list(torch.randn(2, size, 3, 32, 32, device=device)), Place(0, number))
        for number in range(2)
    ]

    def wait():
        if cuda:
            torch.cuda.synchronize()

    def step(number):
        batch = batches[number % 2]
        outer = batch if engine and variant != "apart" else None
        stages.theta_step(*batch, lr=1e-3, progress=0.0, outer=outer)
        if variant == "apart":
            stages.psi_step(batch, batch, lr=1e-3)

    def epoch(_):
        for update in plan(config, 10, 0):
            batch = batches[update.batch % 2]
            if update.kind == "psi":
                stages.psi_step(batch, batch, lr=1e-3)
            else:
                outer = batch if update.kind == "both" else None
                stages.theta_step(*batch, lr=1e-3, progress=0.0, outer=outer)

    work, timed = (epoch, 1) if variant in SCHEDULES else (step, options.steps)
    if cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    else:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        before = pages * resource.getpagesize()
    for number in range(3 if options.compile else 1):
        step(number) if variant in SCHEDULES else work(number)
    seconds = []
    for number in range(timed):
        wait()
        began = time.perf_counter()
        work(number)
        wait()
        seconds.append(time.perf_counter() - began)
    peak = (
        torch.cuda.max_memory_allocated()
        if cuda
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )
    return {"seconds": statistics.median(seconds), "mib": (peak - before) / 2**20}


def table(options, found):
    """Markdown: ratios to the plain step of the same round, median and range."""
    lines = [
        f"ResNet-18 (width {options.width}), 32 x 32, {options.device}, {options.precision}"
        f"{', compiled' if options.compile else ''}; {options.rounds} rounds, "
        f"{options.steps} timed steps each.",
        "",
        "| batch | step | floor | time / plain: median [range] | memory / plain | MiB |",
        "|--:|---|--:|--:|--:|--:|",
    ]
    for size in options.batches:
        for variant in options.variants:
            *_, floor, what = VARIANTS[variant]
            lines.append(row(size, f"`{variant}`: {what}", floor, found, (variant, size), "plain"))
    if options.schedules:
        lines += ["", "Ten steps of stage 1 with the stage 2 that the schedule gives them:", ""]
        lines += lines[2:4]
    for name in options.schedules:
        cell = (name, options.schedule_batch)
        lines.append(row(cell[1], f"`{name}`", SCHEDULES[name][1], found, cell, "plain epoch"))
    return "\n".join(lines) + "\n"


def row(size, what, floor, found, cell, base):
    """One variant's row."""
    pairs = list(zip(found[cell], found[(base, size)], strict=True))
    times = sorted(one["seconds"] / other["seconds"] for one, other in pairs)
    memory = statistics.median(one["mib"] / other["mib"] for one, other in pairs)
    mib = statistics.median(one["mib"] for one, _ in pairs)
    return (
        f"| {size} | {what} | {floor:.2f} | {statistics.median(times):.2f} "
        f"[{times[0]:.2f}, {times[-1]:.2f}] | {memory:.2f} | {mib:.0f} |"
    )


if __name__ == "__main__":
    main()
