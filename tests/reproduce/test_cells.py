# SPDX-License-Identifier: Apache-2.0
import csv
from dataclasses import replace
from pathlib import Path

import pytest

from iclmsr import paper
from iclmsr.errors import IclmsrError
from iclmsr.recipes import recipe
from iclmsr.reproduce.cells import DATASETS, ROWS, Row, cells, changes, row_named

ROOTS = {dataset: Path("/nowhere") / dataset for dataset in DATASETS}


def test_the_grid_is_the_papers_own_file():
    file = Path(paper.__file__).parent / "paper-table.csv"
    rows = list(csv.DictReader(file.read_text().splitlines()))
    assert list(dict.fromkeys(row["method"].replace("+", " + ") for row in rows)) == [
        row.title for row in ROWS
    ]
    assert list(dict.fromkeys(row["dataset"] for row in rows)) == list(DATASETS)
    assert len(ROWS) * len(DATASETS) == len(rows) == 44


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_cell_is_the_recipe_that_expects_the_papers_number(row, dataset):
    """So ReSSL is its authors' protocol, which the paper quotes."""
    number = paper.TABLE[row.method, row.msr, dataset]
    found = row.recipe(dataset)
    assert found.expected == f"{number.linear:.2f} / {number.knn:.2f}"
    assert found.config.msr.enabled == row.msr
    assert found.config.method.name == row.method
    assert found.config.data.source == dataset


def test_a_grid_is_made_seed_by_seed():
    grid = cells(ROWS[:2], DATASETS[:2], [3, 1, 3], ROOTS)
    assert [(c.config.seed, c.dataset, c.row.name) for c in grid] == [
        (seed, dataset, row.name) for seed in (3, 1) for dataset in DATASETS[:2] for row in ROWS[:2]
    ]
    assert {c.config.data.root for c in grid} == {ROOTS[name] for name in DATASETS[:2]}


def test_folders_differ_exactly_where_numbers_may():
    (one,) = cells(ROWS[:1], ["cifar10"], [0], ROOTS)
    names = {one.folder}
    for config in (
        replace(one.config, epochs=3),
        replace(one.config, epochs=4),
        replace(one.config, seed=1),
        replace(one.config, data=replace(one.config.data, limit=9)),
        replace(one.config, method=replace(one.config.method, temperature=0.2)),
    ):
        names.add(replace(one, config=config).folder)
    assert len(names) == 6
    same = replace(one.config, device="cpu", data=replace(one.config.data, root="/x", workers=3))
    assert replace(one, config=same).folder == one.folder
    every = {c.folder for c in cells(ROWS, DATASETS, range(3), ROOTS)}
    assert len(every) == 44 * 3


def test_changes_name_the_options():
    base = recipe("byol-msr-cifar10").config
    config = replace(base, batch_size=64, msr=replace(base.msr, strata=4), log_every=1)
    assert changes(config, base) == {"batch-size": 64, "msr.strata": 4}


def test_unknown_names():
    assert row_named("ssl-hsic") == Row("ssl-hsic", False)
    with pytest.raises(IclmsrError, match=r"unknown method 'w-mse\+msr': did you mean"):
        row_named("w-mse+msr")
    with pytest.raises(IclmsrError, match="unknown data set 'cifar': did you mean 'cifar10'"):
        cells(ROWS, ["cifar"], [0], ROOTS)
    with pytest.raises(IclmsrError, match="where does stl10 lie.* pass --root stl10=PATH"):
        cells(ROWS, ["stl10"], [0], {})
