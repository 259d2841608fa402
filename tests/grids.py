# SPDX-License-Identifier: Apache-2.0
"""Grids made up for tests."""

from pathlib import Path

from iclmsr.paper import Accuracy
from iclmsr.reproduce.cells import Row
from iclmsr.reproduce.collect import Collected, Data, Finished, Protocol

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
