# SPDX-License-Identifier: Apache-2.0
"""Time and peak memory of ``iclmsr data prepare`` on CIFAR-10, from files and from archives.

    python benchmarks/reading.py --root CIFAR10 --out reading.md   # about five minutes

CIFAR10 has train/CLASS/ and test/CLASS/ with one file an image. From its pixels the other forms
are made in a temporary folder: a tar and a tar.gz of it, the official python version (pickles)
and the official binary version, packed and unpacked.

Each repetition is a process of its own with an empty cache, and those of the forms alternate;
the files are in the page cache. ``prepare`` decodes both splits, checks and writes them; ``load``
maps both afterwards, as every run does. Memory is the growth of the resident set's peak over
``prepare``, in units of the training images' 153.6 MB.
"""

import argparse
import io
import json
import os
import pickle
import platform
import statistics
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

SPLITS = ("train", "test")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, metavar="CIFAR10")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--out", type=Path, metavar="FILE.md")
    parser.add_argument("--cell", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.cell:
        print(json.dumps(measure(args.cell)))
        return
    with tempfile.TemporaryDirectory() as folder:
        lines = []
        for line in table(make_forms(args.root, Path(folder)), args.repetitions):
            print(line, flush=True)
            lines.append(line)
    if args.out:
        args.out.write_text("\n".join(lines) + "\n")


def table(forms, repetitions):
    """Lines of Markdown, a row for each form."""
    found = {name: [] for name in forms}
    for _ in range(repetitions):
        for name, root in forms.items():
            found[name].append(run(root))
    yield f"{found['files'][0]['about']}; median [least, greatest] of {repetitions}."
    yield ""
    yield "| CIFAR-10 as | MB | prepare, s | images/s | load, s | memory / training images |"
    yield "|---|--:|--:|--:|--:|--:|"
    for name, cells in found.items():
        seconds = [cell["prepare"] for cell in cells]
        loads = statistics.median(cell["load"] for cell in cells)
        yield (
            f"| {name} | {size(forms[name]) / 1e6:.0f} | {spread(seconds)} "
            f"| {60_000 / statistics.median(seconds):,.0f} | {loads:.2f} "
            f"| {max(cell['memory'] for cell in cells):.2f} |"
        )


def spread(values):
    return f"{statistics.median(values):.2f} [{min(values):.2f}, {max(values):.2f}]"


def size(root):
    """Bytes of a file, or of all files in a folder."""
    files = root.rglob("*") if root.is_dir() else [root]
    return sum(file.stat().st_size for file in files if file.is_file())


def run(root):
    """One measurement in a process of its own, with a cache of its own."""
    with tempfile.TemporaryDirectory() as cache:
        command = [sys.executable, __file__, "--cell", str(root)]
        done = subprocess.run(
            command,
            env=os.environ | {"ICLMSR_CACHE": cache},
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
    return json.loads(done.stdout)


def measure(root):
    """Seconds of prepare and load, and memory."""
    from iclmsr.data.sources import DataConfig, load, prepare

    warnings.simplefilter("ignore")  # the archives are not of the official size
    config = DataConfig("cifar10", root)
    before, start = peak(), time.perf_counter()
    arrays = {split: prepare(config, split).images.numel() for split in SPLITS}
    prepared, after = time.perf_counter() - start, peak()
    assert arrays == {"train": 50_000 * 3072, "test": 10_000 * 3072}
    start = time.perf_counter()
    for split in SPLITS:
        load(config, split)
    loaded = time.perf_counter() - start
    about = f"{platform.processor() or platform.machine()}, Python {platform.python_version()}"
    return {
        "prepare": prepared,
        "load": loaded,
        "memory": (after - before) / arrays["train"],
        "about": about,
    }


def peak():
    """Of the resident set, bytes; Linux's ru_maxrss begins with that of the parent process."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def make_forms(root, folder):
    """The same images in every form, by its name."""
    from iclmsr.data.sources import DataConfig, load

    forms = {"files": root}
    for name, mode in (("tar of the files", "w"), ("tar.gz of the files", "w:gz")):
        level = {"compresslevel": 6} if mode == "w:gz" else {}
        path = folder / f"cifar10.{'tar.gz' if mode == 'w:gz' else 'tar'}"
        with tarfile.open(path, mode, **level) as archive:
            archive.add(root, "cifar10")
        forms[name] = path
    train, test = (load(DataConfig("cifar10", root, cache=False), split) for split in SPLITS)
    names = {"label_names": list(train.classes)}
    python = {"batches.meta": pickle.dumps(names, 2)}
    binary = {"batches.meta.txt": "\n".join(train.classes).encode()}
    batches = [
        (f"data_batch_{part + 1}", train.take(order))
        for part, order in enumerate(shuffled(50_000).view(5, 10_000))
    ]
    for name, images in [*batches, ("test_batch", test)]:
        pixels, labels = images.images.flatten(1).numpy(), images.labels.tolist()
        python[name] = official({"data": pixels, "labels": labels})
        records = np.concatenate([np.array(labels, np.uint8)[:, None], pixels], 1)
        binary[f"{name}.bin"] = records.tobytes()
    for what, top, files in (
        ("python version", "cifar-10-batches-py", python),
        ("binary version", "cifar-10-batches-bin", binary),
    ):
        path = folder / f"cifar-10-{what.partition(' ')[0]}.tar.gz"
        with tarfile.open(path, "w:gz", compresslevel=6) as archive:
            for name, content in files.items():
                member = tarfile.TarInfo(f"{top}/{name}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        with tarfile.open(path) as archive:
            archive.extractall(folder, filter="data")
        forms |= {f"{what}, unpacked": folder / top, f"{what}, packed": path}
    return forms


class Pickler(pickle._Pickler):
    """Writes bytes as strings of Python 2, which wrote the official files."""

    dispatch = pickle._Pickler.dispatch.copy()

    def _save_bytes(self, value):
        self.write(pickle.BINSTRING + struct.pack("<i", len(value)) + value)
        self.memoize(value)

    dispatch[bytes] = _save_bytes


def official(value):
    """The pickle of a value, protocol 2."""
    stream = io.BytesIO()
    Pickler(stream, 2).dump(value)
    return stream.getvalue()


def shuffled(count):
    """All of 0..count - 1, the same on every call: the official files are in no order."""
    from torch import randperm

    from iclmsr.seeds import generator

    return randperm(count, generator=generator(0, "reading"))


if __name__ == "__main__":
    main()
