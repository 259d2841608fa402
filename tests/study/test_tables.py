# SPDX-License-Identifier: Apache-2.0
import pytest

from iclmsr.study.statistics import bootstrap_interval
from iclmsr.study.tables import comparison_table, difference_cell, four_settings_table, sweep_table


def cells(text):
    """Rows of all tables by their first two cells, the others as a list."""
    lines = [line[2:-2].split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {(line[0], line[1]): line[1:] for line in lines}


def test_four_settings(four_settings):
    text = four_settings_table(four_settings)
    found = cells(text)
    # 60, 61.5, 58: mean 59.83, sd 1.76; the other settings are shifted by -15, 10, -20
    assert found["SimCLR", "plain"][1:] == [
        f"{value} ± 1.8 (3)" for value in ("59.8", "44.8", "69.8", "39.8")
    ]
    low, high = bootstrap_interval([2.0, 2.5, 3.0])
    expected = f"+2.5 [+{low:.1f}, +{high:.1f}], 3 : 0, p 0.250"
    assert found["BYOL", "MSR less plain, points"][1:] == [expected] * 4
    assert "linear probe" in text
    assert "background of foregrounds: gray" in text
    assert cells(four_settings_table(four_settings, kind="knn"))["SimCLR", "plain"][1] == (
        "52.8 ± 1.8 (3)"
    )


def test_an_unfinished_study(four_settings):
    four_settings["rows"] = [
        row for row in four_settings["rows"] if row["arm"] == "msr" or row["seed"] == 1
    ][:-1]
    found = cells(four_settings_table(four_settings))
    assert found["SimCLR", "plain"][1] == "61.5 (1)"
    assert found["SimCLR", "MSR less plain, points"][1] == "+2.5, 1 : 0, p 1.000"
    four_settings["rows"] = [row for row in four_settings["rows"] if row["seed"] != 1]
    assert "BYOL | plain" not in four_settings_table(four_settings)


def test_comparison(comparison):
    text = comparison_table(comparison, wanted=("original", "bg_gap", "swap_cosine"))
    simclr, byol = text.split("**BYOL**")
    reached, differences = (cells(part) for part in simclr.split("less plain.", 1))
    assert ("plain", "59.8 ± 1.8 (3)") in reached
    assert reached["arm", "original, %"] == ["original, %", "BG-gap, points", "cosine of twins"]
    (changed,) = (line for name, line in differences.items() if name[0] == "BG_Random (masks)")
    assert changed[0].startswith("-1.2 [-1.5, -1.0], 0 : 3, p 0.250")
    assert changed[1].startswith("+0.0 [+0.0, +0.0], 0 : 0, p 1.000")
    assert changed[2].startswith("-0.001 [")
    assert not any(name[0] == "plain" for name in differences)
    assert byol.count("less plain.") == 1


def test_sweep(sweep):
    found = cells(sweep_table(sweep, wanted=("original",)))
    assert found["SimCLR", "plain"][1:] == ["59.8 ± 1.8 (3)"]
    # seeds 0 and 1: 65 and 67 with 3 more, against 60 and 61.5
    assert found["SimCLR", "1"][1].startswith("66.0 ± 1.4 (2) / +5.2 [+5.0, +5.5], 2 : 0, p 0.500")
    assert [key[1] for key in found] == ["value", "plain", "0.1", "1", "10"]


def test_no_common_seed():
    assert difference_cell(None) == "-"


@pytest.mark.parametrize("table", [four_settings_table])
def test_same_bytes(table, four_settings):
    assert table(four_settings) == table(four_settings)
