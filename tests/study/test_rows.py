# SPDX-License-Identifier: Apache-2.0
import pytest

from iclmsr.errors import IclmsrError
from iclmsr.methods import METHODS
from iclmsr.study.rows import BASES, against, arms_of, bases_of, by_seed, held


def test_every_method_has_a_name():
    assert set(METHODS) <= set(BASES)


def test_numbers_by_seed(comparison):
    rows = comparison["rows"]
    path = ("results", "original", "linear")
    assert by_seed(rows, path, base="byol", arm="msr") == {0: 58.0, 1: 60.0, 2: 57.0}
    assert by_seed(rows, ("measures", "bg_gap", "knn"), base="byol", arm="msr") == {
        0: 10.0,
        1: 8.0,
        2: 6.0,
    }
    assert by_seed(rows, ("results", "only_fg", "linear"), base="byol", arm="msr") == {}


def test_what_is_not_there_yet_is_left_out(comparison):
    rows = comparison["rows"]
    path = ("results", "original", "linear")
    mine = [row for row in rows if row["base"] == "simclr" and row["arm"] == "msr"]
    mine[1]["results"]["original"] = None
    del mine[2]["results"]
    assert list(by_seed(rows, path, base="simclr", arm="msr")) == [0]
    assert against(rows, path, "msr", "plain", base="simclr").differences == {0: 2.0}
    assert against(rows, path, "msr-joint", "plain", base="simclr") is None


def test_two_rows_of_one_seed(comparison):
    rows = comparison["rows"] + comparison["rows"][:1]
    with pytest.raises(IclmsrError, match="two rows with base 'simclr', arm 'bg-random' have seed"):
        by_seed(rows, ("results", "original", "knn"), base="simclr", arm="bg-random")


def test_order_of_bases_and_arms(comparison):
    rows = [*comparison["rows"], {"base": "byol", "arm": "mine"}]
    assert bases_of(rows) == ["simclr", "byol"]
    assert arms_of(rows, "byol") == ["plain", "msr", "bg-random", "mine"]


def test_quantities_that_are_held(comparison):
    found = held(comparison["rows"], ("bg_gap", "only_fg", "swap_cosine", "worst_group"), "linear")
    assert [one.label for one in found] == ["BG-gap", "cosine of twins", "worst group"]
    with pytest.raises(IclmsrError, match="no quantity 'gap': choose from original, only_fg"):
        held(comparison["rows"], ("gap",), "linear")
    with pytest.raises(IclmsrError, match="no row holds any of only_fg"):
        held(comparison["rows"], ("only_fg",), "linear")
