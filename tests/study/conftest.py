# SPDX-License-Identifier: Apache-2.0
"""Studies with numbers that nobody has measured: a formula, so that tests can say what comes."""

import pytest


def accuracy(base, arm, seed, shift=0.0):
    """Percent; arms differ by another amount in each seed."""
    lift = {"plain": 0.0, "msr": 2.0 + 0.5 * seed, "bg-random": -1.0 - 0.25 * seed}.get(arm, 0.0)
    return 60.0 + {"simclr": 0.0, "byol": -4.0}[base] + [0.0, 1.5, -2.0][seed] + lift + shift


@pytest.fixture
def four_settings():
    shifts = {
        ("full", "full"): 0.0,
        ("full", "foreground"): -15.0,
        ("foreground", "foreground"): 10.0,
        ("foreground", "full"): -20.0,
    }
    rows = [
        {
            "base": base,
            "arm": arm,
            "seed": seed,
            "train": train,
            "run": f"runs/{base}-{arm}-{seed}-{train}",
            "results": {
                test: {
                    "linear": accuracy(base, arm, seed, shifts[train, test]),
                    "knn": accuracy(base, arm, seed, shifts[train, test] - 7),
                }
                for test in ("full", "foreground")
            },
        }
        for base in ("simclr", "byol")
        for arm in ("plain", "msr")
        for seed in range(3)
        for train in ("full", "foreground")
    ]
    return {"study": "four-settings", "filler": "gray", "rows": rows}


def row(base, arm, seed, lift=0.0, **more):
    original = accuracy(base, arm, seed, lift)
    same, mixed = original - 4, original - 14 + 2 * seed
    return {
        "base": base,
        "arm": arm,
        "seed": seed,
        "run": f"runs/{base}-{arm}-{seed}",
        "results": {
            "original": {"linear": original, "knn": original - 5},
            "mixed_same": {"linear": same, "knn": same - 5},
            "mixed_rand": {"linear": mixed, "knn": mixed - 5},
        },
        "measures": {
            "bg_gap": {"linear": same - mixed, "knn": same - mixed},
            "worst_group": {"linear": {"accuracy": mixed - 20}},
            "swap_cosine": 0.4 + 0.001 * original,
        },
        **more,
    }


@pytest.fixture
def comparison():
    arms = ("bg-random", "msr", "plain")
    rows = [row(b, a, s) for b in ("simclr", "byol") for a in arms for s in range(3)]
    return {"study": "comparison", "rows": rows}


@pytest.fixture
def sweep():
    rows = [row("simclr", "plain", seed) for seed in range(3)]
    rows += [
        row("simclr", "msr", seed, lift, value=value)
        for value, lift in ((0.1, 0.0), (1.0, 3.0), (10.0, -5.0))
        for seed in range(2)
    ]
    return {"study": "sweep", "axis": "msr.loss-weight", "rows": rows}
