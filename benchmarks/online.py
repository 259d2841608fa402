# SPDX-License-Identifier: Apache-2.0
"""What a look at the encoder during training costs, as a share of the epochs' time.

    python benchmarks/online.py                        # the demo's run: a minute, 2 cores
    python benchmarks/online.py --every 4 --epochs 12
    python benchmarks/online.py --recipe simclr-cifar10 --root CIFAR10 --limit 5000

Trains with ``online.every-epochs`` and reads metrics.jsonl; the first look is left out: it warms
up.
With ``--cpu`` the clock is the process's own time on the processor: for a machine that is busy with
other work; start it with OMP_NUM_THREADS=1.
"""

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from iclmsr.config import OnlineConfig
from iclmsr.demo import RECIPE
from iclmsr.evaluate.online import SHARE
from iclmsr.pretrain import pretrain
from iclmsr.recipes import recipe
from iclmsr.runs import RunFolder


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", default=RECIPE)
    parser.add_argument("--root", help="where the data lie, if they lie anywhere")
    parser.add_argument("--limit", type=int, help="of the training images")
    parser.add_argument("--epochs", type=int, default=4, help="at least two looks")
    parser.add_argument("--every", type=int, default=1, help="epochs between two looks")
    parser.add_argument("--images", type=int, help="that are looked at; as many as usual")
    parser.add_argument("--cpu", action="store_true", help="count the process's own time only")
    options = parser.parse_args()
    if options.cpu:
        time.monotonic = time.process_time
    config = recipe(options.recipe).config
    config = replace(
        config,
        epochs=options.epochs,
        data=replace(config.data, root=options.root or config.data.root, limit=options.limit),
        online=OnlineConfig(every_epochs=options.every, images=options.images),
    )
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(pretrain(config, Path(folder) / "run"))
        records, count = run.metrics(), config.online.count(run.environment()["images"])
    epochs = [one["seconds"] for one in records if one["event"] == "epoch"][1:]
    looks = [one for one in records if one["event"] == "online"][1:]
    share = statistics.median(one["share"] for one in looks)
    print(
        f"{config.recipe}: an epoch takes {statistics.median(epochs):.2f} s, every {options.every}"
    )
    print(f"a look at {count} images {statistics.median(one['seconds'] for one in looks):.3f} s")
    print(f"{100 * share:.2f} % of the epochs' time, at most {100 * SHARE:.0f} % is wanted")


if __name__ == "__main__":
    main()
