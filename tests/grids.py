# SPDX-License-Identifier: Apache-2.0
"""Grids made up for tests."""

from pathlib import Path

from iclmsr.paper import Accuracy
from iclmsr.reproduce.cells import Row
from iclmsr.reproduce.collect import Collected, Data, Finished, Protocol
from iclmsr.reproduce.summary import summarize

DATA = Data("official", 50_000, 50_000, 50_000, 10_000, ("a", "b", "c"))
WHOLE = Protocol("", (), "w-mse-2021", DATA)
SHORT = Protocol("", (("epochs", "10"),), "w-mse-2021", DATA)


def run(name, seed, linear, knn=50.0, *, protocol=WHOLE, dataset="cifar10", epochs=1000):
    method, _, msr = name.partition("+")
    recipe = ("1,000",) * len(protocol.changed)
    return Finished(
        Row(method, bool(msr)), dataset, seed, epochs, protocol, recipe,
        Accuracy(linear, knn), Path("nowhere"),
    )  # fmt: skip


def grid(*runs, **more):
    return Collected(
        tuple(runs), more.get("unfinished", ()), more.get("foreign", ()), more.get("damaged", ())
    )


def example():
    """A table with two protocols, unfinished, foreign and damaged folders."""
    return summarize(
        grid(
            run("simclr", 0, 90.0, 80.0), run("simclr", 1, 92.0, 80.0),
            run("simclr", 0, 40.0, 30.0, protocol=SHORT, epochs=10),
            run("simclr+msr", 0, 93.0, 81.0),
            unfinished=(("byol-cifar10-seed0", 3, 1000),),
            foreign=("dino_small",),
            damaged=(("lmcl-cifar10-seed1", "config.json is not valid"),),
        )
    )  # fmt: skip
