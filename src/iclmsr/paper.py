# SPDX-License-Identifier: Apache-2.0
"""The paper's table: what ICL-MSR reports of every method, with and without MSR."""

import csv
from importlib.resources import files
from typing import NamedTuple


class Accuracy(NamedTuple):
    """Top-1 accuracy in percent.

    Attributes:
        linear: Of the linear probe.
        knn: Of the 5 nearest neighbours.
    """

    linear: float
    knn: float


def _read() -> dict[tuple[str, bool, str], Accuracy]:
    """The table that lies beside this file."""
    text = files("iclmsr").joinpath("paper-table.csv").read_text()
    return {
        (row["base"].lower(), row["regularizer"] == "msr", row["dataset"]): Accuracy(
            float(row["linear_top1"]), float(row["knn5_top1"])
        )
        for row in csv.DictReader(text.splitlines())
    }


TABLE = _read()
"""By method, whether with MSR, and data set; MSR was reported of four methods only.

Source: ICL-MSR (Qiang et al. 2022), "Comparison with self-supervised learning methods". Its rows
without MSR are the W-MSE paper's (SimCLR, BYOL, W-MSE with 4 views), ReSSL's own, or its authors'
re-runs.

>>> TABLE["simclr", True, "cifar10"]
Accuracy(linear=92.34, knn=89.47)
"""
