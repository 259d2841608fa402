# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import pytest
from grids import DATA, SHORT, WHOLE, grid, run

from iclmsr.data import imagenet, stl10
from iclmsr.data.cifar import CIFAR10, CIFAR100
from iclmsr.reproduce.cells import DATASETS, ROWS
from iclmsr.reproduce.summary import OFFICIAL, fidelity, summarize


def lines(table, name, dataset="cifar10"):
    return [one for one in table.lines if (one.row.name, one.dataset) == (name, dataset)]


def test_nothing_run_is_an_empty_line_for_each_of_the_44_cells():
    table = summarize(grid())
    assert len(table.lines) == 44
    assert not table.protocols and not table.gains  # noqa: PT018
    for line in table.lines:
        assert (line.protocol, line.seeds, line.epochs) == ("", (), None)
        for figure in (line.linear, line.knn):
            assert (figure.mean, figure.sd, figure.difference) == (None, None, None)
            assert figure.paper > 30


def test_mean_spread_and_difference():
    """Values by hand: 90, 92 and 94 have mean 92 and standard deviation 2 with n - 1."""
    table = summarize(
        grid(run("simclr", 2, 94.0, 80.0), run("simclr", 0, 90.0), run("simclr", 1, 92.0))
    )
    (line,) = lines(table, "simclr")
    assert (line.seeds, line.epochs, line.protocol) == ((0, 1, 2), 1000, "A")
    assert (line.linear.mean, line.linear.sd) == (92.0, 2.0)
    assert line.linear.difference == pytest.approx(92.0 - 91.80)
    assert line.knn.values == (50.0, 50.0, 80.0)
    (alone,) = lines(summarize(grid(run("byol", 0, 50.0))), "byol")
    assert (alone.linear.mean, alone.linear.sd) == (50.0, None)


@pytest.mark.parametrize(
    "other",
    [
        SHORT,
        replace(WHOLE, judged="w-mse-2021, changed, k 20"),
        replace(WHOLE, recipe="ressl-wmse-cifar10"),
        replace(WHOLE, data=replace(DATA, form="folder")),
        replace(WHOLE, data=replace(DATA, pretrain=10)),
        replace(WHOLE, data=replace(DATA, sha256=("a", "b", "z"))),
    ],
)
def test_other_protocols_never_share_a_line(other):
    table = summarize(grid(run("byol", 0, 90.0), run("byol", 1, 10.0, protocol=other)))
    found = lines(table, "byol")
    assert [line.linear.values for line in found] in ([(90.0,), (10.0,)], [(10.0,), (90.0,)])
    assert {line.protocol for line in found} == {"A", "B"} == set(table.protocols)
    assert table.protocols["A"] != table.protocols["B"]  # what differs is said


def test_one_label_for_all_rows_of_a_protocol_and_data_set():
    table = summarize(
        grid(
            run("simclr", 0, 1.0, protocol=SHORT),
            run("byol+msr", 0, 2.0, protocol=SHORT),
            run("byol", 0, 3.0, dataset="stl10"),
        )
    )
    assert lines(table, "simclr")[0].protocol == lines(table, "byol+msr")[0].protocol == "A"
    assert lines(table, "byol", "stl10")[0].protocol == "B"
    assert table.protocols["A"].startswith("epochs 10 instead of 1,000; judged by w-mse-2021; cif")
    assert table.protocols["B"].startswith("the whole recipe; judged by w-mse-2021; stl10 as")


def test_gains_pair_seeds_of_one_protocol():
    table = summarize(
        grid(
            run("simclr", 0, 50.0), run("simclr", 1, 60.0), run("simclr", 3, 0.0),
            run("simclr+msr", 0, 51.0), run("simclr+msr", 1, 63.0), run("simclr+msr", 2, 99.0),
            run("byol", 0, 1.0), run("byol+msr", 0, 1.0, protocol=SHORT),
        )
    )  # fmt: skip
    (gain,) = table.gains
    assert (gain.method, gain.seeds) == ("simclr", (0, 1))
    assert gain.linear.values == (1.0, 3.0)
    assert gain.linear.paper == pytest.approx(92.34 - 91.80)


def test_only_what_is_asked_for_is_shown():
    table = summarize(grid(run("byol", 0, 1.0)), ROWS[:1], ["stl10"])
    assert [(line.row, line.dataset) for line in table.lines] == [(ROWS[0], "stl10")]
    assert not table.protocols


def test_fidelity_says_what_is_missing():
    assert fidelity("cifar10", DATA).startswith(
        "cifar10 as official files, 50,000 images to pretrain on, 50,000 to learn classes from, "
        "10,000 to test on: as many as the official set; sha256"
    )
    less = replace(DATA, form="folder", pretrain=100, available=9000, train=9000, test=1000)
    assert fidelity("cifar10", less).startswith(
        "cifar10 as images by class, 100 of 9,000 images to pretrain on, 9,000 to learn classes "
        "from, 1,000 to test on: not the official set, which has 50,000 to pretrain on, 50,000 "
        "to learn classes from, 10,000 to test on;"
    )
    assert "of unknown origin" in fidelity("cifar10", replace(DATA, form="unknown"))


def test_official_counts_are_the_readers():
    for name, cifar in (("cifar10", CIFAR10), ("cifar100", CIFAR100)):
        for layout in cifar.layouts:
            train, test = (
                len(layout.parts[split]) * layout.counts[split] for split in ("train", "test")
            )
            assert OFFICIAL[name] == (train, train, test)
    train, unlabeled, test = (stl10.COUNTS[f"{n}_X.bin"] for n in ("train", "unlabeled", "test"))
    assert OFFICIAL["stl10"] == (train + unlabeled, train, test)
    train, test = (imagenet.COUNTS[split] for split in ("train", "test"))
    assert OFFICIAL["tiny-imagenet"] == (train, train, test)
    assert tuple(OFFICIAL) == DATASETS
