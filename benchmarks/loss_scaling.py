# SPDX-License-Identifier: Apache-2.0
"""Time and peak memory of the losses over all pairs, in tiles and plain, as the batch grows.

    python benchmarks/loss_scaling.py --out loss_scaling.md     # every size: an hour on two cores
    python benchmarks/loss_scaling.py --quick                   # N <= 4096: a few minutes
    python benchmarks/loss_scaling.py --device cuda

Three passes over embeddings (2, N, D) of N images: forward and backward of NT-Xent, the same of
the interventional loss, and the latter's mixed derivative d/dpsi <grad_u L, u_dot> of stage 2.
``tiles`` is the library as it is, in tiles beyond ``iclmsr.tiles.ENTRIES`` pairs; ``plain`` has
no such limit and is left out where its matrices would take more than 8 GiB.

Each repetition is a process of its own, and those of tiles and plain alternate. Memory on a CPU
is the growth of the resident set's peak, on a GPU that of the allocated bytes.
"""

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

DIM, TEMPERATURE = 128, 0.5
PASSES = {  # name: float32 matrices (N, N) that the plain pass holds at once, by measurement
    "nt_xent": 14,
    "interventional": 8,
    "interventional, mixed": 13,
}
SIZES, STRATA = [256, 1024, 4096, 16384, 65536], [1, 4, 16, 64]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--quick", action="store_true", help="N <= 4096, two repetitions")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, metavar="N")
    parser.add_argument("--out", type=Path, metavar="FILE.md")
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.cell:
        print(json.dumps(measure(**json.loads(args.cell))))
        return
    sizes = [n for n in args.sizes if n <= 4096] if args.quick else args.sizes
    strata = STRATA[::3] if args.quick else STRATA
    cells = [(name, n, 8) for name in PASSES for n in sizes]
    cells += [(name, 1024, n) for name in PASSES if name != "nt_xent" for n in strata]
    lines = []
    for line in table(cells, args.device, quick=args.quick):
        print(line, flush=True)
        lines.append(line)
    if args.out:
        args.out.write_text("\n".join(lines) + "\n")


def table(cells, device, *, quick):
    """Lines of Markdown: the machine, then a row for each (pass, images, strata)."""
    about = run("nt_xent", 64, 8, device, plain=False)["about"]
    yield from (f"{about}; D = {DIM}; median [least, greatest] of seconds.", "")
    yield "| pass | N | n | tiles, s | tiles, MiB | plain, s | plain, MiB | repetitions |"
    yield "|---|--:|--:|--:|--:|--:|--:|--:|"
    for name, images, strata in cells:
        repetitions = 2 if quick else 5 if images <= 4096 else 3 if images <= 16384 else 1
        fits = PASSES[name] * images**2 * 4 <= 8 * 2**30
        found = {plain: [] for plain in ([False, True] if fits else [False])}
        for _ in range(repetitions):
            for plain, reports in found.items():
                reports.append(run(name, images, strata, device, plain=plain))
        both = [*map(words, found.values()), "- | -"][:2]
        n = "" if name == "nt_xent" else strata
        yield f"| {name} | {images:,} | {n} | {' | '.join(both)} | {repetitions} |"


def words(reports):
    """``median [least, greatest] | MiB`` of a cell's repetitions."""
    seconds = [report["seconds"] for report in reports]
    mib = statistics.median(report["bytes"] for report in reports) / 2**20
    times = f"{statistics.median(seconds):.3g} [{min(seconds):.3g}, {max(seconds):.3g}]"
    return f"{times} | {mib:,.0f}"


def run(name, images, strata, device, *, plain):
    """What :func:`measure` reports from a fresh process."""
    cell = {"name": name, "images": images, "strata": strata, "device": device, "plain": plain}
    command = [sys.executable, __file__, "--cell", json.dumps(cell)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def measure(name, images, strata, device, plain):
    """Seconds of a pass, and the bytes that it needs beside its inputs, in this process."""
    import torch

    from iclmsr import tiles

    tiles.ENTRIES = 2**62 if plain else tiles.ENTRIES
    cuda = torch.device(device).type == "cuda"
    one_pass(name, 64, strata, device)()  # loads what the first call loads
    job = one_pass(name, images, strata, device)
    synchronize = torch.cuda.synchronize if cuda else lambda: None
    synchronize()
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    before = peak_bytes(cuda)
    seconds = []
    while sum(seconds) < 0.5:
        start = time.perf_counter()
        job()
        synchronize()
        seconds.append(time.perf_counter() - start)
    chip = torch.cuda.get_device_name() if cuda else f"{torch.get_num_threads()} CPU threads"
    return {
        "seconds": statistics.median(seconds),
        "bytes": peak_bytes(cuda) - before,
        "about": f"{chip}, {platform.machine()}, torch {torch.__version__}, float32",
    }


def one_pass(name, images, strata, device):
    """The pass ``name`` as a function without arguments, on random embeddings from seed 0."""
    import torch

    from iclmsr.interventional import interventional_loss
    from iclmsr.losses import nt_xent

    generator = torch.Generator().manual_seed(0)
    u, u_dot = torch.randn(2, 2, images, DIM, generator=generator).to(device)
    weights = torch.rand(strata, DIM, generator=generator).to(device).requires_grad_()
    u.requires_grad_()

    def job():
        if name == "nt_xent":
            value = nt_xent(*u, temperature=TEMPERATURE)
        else:
            value = interventional_loss(u, u, weights, temperature=TEMPERATURE)
        if name != "interventional, mixed":
            torch.autograd.grad(value, u)
        else:
            (slope,) = torch.autograd.grad(value, u, create_graph=True)
            torch.autograd.grad((slope * u_dot).sum(), weights)

    return job


def peak_bytes(cuda):
    """The peak so far: allocated on the GPU, or of this process's resident set."""
    if cuda:
        import torch

        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    main()
