# SPDX-License-Identifier: Apache-2.0
import pytest

from iclmsr.study.statistics import bootstrap_interval, paired
from iclmsr.study.tables import (
    comparison_table,
    cost_table,
    difference_cell,
    four_settings_table,
    further_tables,
    sweep_table,
)


def cells(text):
    """Rows of all tables by their first two cells, the others as a list."""
    lines = [line[2:-2].split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {(line[0], line[1]): line[1:] for line in lines}


def test_four_settings(four_settings):
    text = four_settings_table(four_settings)
    found = cells(text)
    # 60, 61.5, 58: mean 59.83, sd 1.76; the other settings are shifted by -15, 10, -20
    assert found["SimCLR", "plain"][1:] == [
        *(f"{value} ± 1.8 (3)" for value in ("59.8", "44.8", "69.8", "39.8")),
        "45.0 ± 0.0 (3)",  # (59.8 - 44.8) - (39.8 - 69.8)
    ]
    low, high = bootstrap_interval([2.0, 2.5, 3.0])
    expected = f"+2.5 [+{low:.1f}, +{high:.1f}], 3 : 0, p 0.250"
    level = "+0.0 [+0.0, +0.0], 0 : 0, p 1.000"  # MSR adds to all four alike
    assert found["BYOL", "MSR less plain, points"][1:] == [*[expected] * 4, level]
    assert "linear probe" in text
    assert "background of foregrounds: gray" in text
    assert cells(four_settings_table(four_settings, kind="knn"))["SimCLR", "plain"][1] == (
        "52.8 ± 1.8 (3)"
    )


def test_what_msr_does_to_the_interaction(four_settings):
    for row in four_settings["rows"]:
        if (row["arm"], row["train"]) == ("msr", "full"):
            row["results"]["foreground"]["linear"] += 4.0  # a smaller drop, by 4 points
    found = cells(four_settings_table(four_settings))
    assert found["SimCLR", "MSR"][-1] == "41.0 ± 0.0 (3)"
    assert found["SimCLR", "MSR less plain, points"][-1] == "-4.0 [-4.0, -4.0], 0 : 3, p 0.250"


def test_an_unfinished_study(four_settings):
    four_settings["rows"] = [
        row for row in four_settings["rows"] if row["arm"] == "msr" or row["seed"] == 1
    ][:-1]
    found = cells(four_settings_table(four_settings))
    assert found["SimCLR", "plain"][1] == "61.5 (1)"
    assert found["SimCLR", "MSR less plain, points"][1] == "+2.5, 1 : 0, p 1.000"
    four_settings["rows"] = [row for row in four_settings["rows"] if row["seed"] != 1]
    assert "BYOL | plain" not in four_settings_table(four_settings)


def test_a_difference_that_rounds_to_nothing_has_no_minus():
    assert difference_cell(paired({0: 60.0}, {0: 60.01})).startswith("+0.0, ")


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


def longer(row, arm, lift):
    """The same run as another arm, its accuracy on the originals so much higher."""
    original = {"linear": row["results"]["original"]["linear"] + lift}
    return {**row, "arm": arm, "results": {**row["results"], "original": original}}


def test_differences_at_equal_time(comparison):
    rows = comparison["rows"]
    rows += [longer(row, "plain-equal-time", 0.5) for row in rows if row["arm"] == "plain"]
    settings = {"split": "val"}
    text = comparison_table({**comparison, "settings": settings}, wanted=("original",))
    assert "**SimCLR**, linear probe, split val." in text
    simclr = text.split("**BYOL**")[0]
    _, steps, time = (part.splitlines() for part in simclr.split("SimCLR: less "))
    assert steps[0] == "plain."
    assert time[0] == "plain, equal time."
    arms = [line.split(" | ")[0] for line in time if line.startswith("| ")]
    assert arms == ["| arm", "| MSR", "| BG_Random (masks)"]
    assert any(line.startswith("| MSR | +2.0 [+1.5, +2.5], 3 : 0") for line in time)
    assert any(line.startswith("| plain, equal time | +0.5 ") for line in steps)


def test_further_measures(comparison):
    for row in comparison["rows"]:
        row["measures"] |= {"background_chance": 12.5, "focus": 0.25, "bg_gap_low": {"linear": 1}}
        row["measures"]["worst_group"]["linear"]["mean"] = 40.0
    text = further_tables(comparison)
    tables = text.split("**SimCLR**, ")
    heads = [[x for x in part.splitlines() if x.startswith("| arm")] for part in tables[1:]]
    assert heads[0][0] == "| arm | worst group, % | mean over groups, % |"
    assert heads[1][0] == "| arm | cosine of twins | focus |"
    assert "| plain | 40.0 ± 0.0 (3) |" not in text
    assert "| 40.0 ± 0.0 (3) |" in text
    assert text.endswith("By chance, 12.5 % of the backgrounds would be told right.")
    assert further_tables({"rows": []}) == ""


def test_what_training_took(comparison):
    for row in comparison["rows"]:
        slow = 3.0 if row["seed"] == 0 else 1.0  # the machine was busy with the first seed of MSR
        row |= {"steps": 100, "seconds": 2.4 * slow if row["arm"] == "msr" else 2.0}
    found = cells(cost_table(comparison))
    assert found["SimCLR", "plain"][1:] == ["100", "2.0 ± 0.0 (3)", "20.0 ± 0.0 (3)", "1.00"]
    assert found["BYOL", "MSR"][4] == "1.20"
    assert found["BYOL", "MSR"][2] == "4.0 ± 2.8 (3)"


def test_sweep_where_plain_has_each_value(sweep):
    plain = [row for row in sweep["rows"] if "value" not in row]
    values = (0.1, 1.0)
    sweep["rows"] = [row for row in sweep["rows"] if row.get("value") in values]
    sweep["rows"] += [longer({**row, "value": v}, "plain", v) for row in plain for v in values]
    found = cells(sweep_table(sweep, wanted=("original",)))
    # seeds 0 and 1: 65 and 67, against 61 and 62.5 at the same value
    assert found["SimCLR", "1, MSR"][1].startswith("66.0 ± 1.4 (2) / +4.2 [+4.0, +4.5], 2 : 0")
    assert found["SimCLR", "1, plain"][1] == "60.8 ± 1.8 (3)"


def test_no_common_seed():
    assert difference_cell(None) == "-"


def test_many_seeds():
    found = paired(dict.fromkeys(range(25), 3.0), dict.fromkeys(range(25), 2.0))
    assert difference_cell(found) == "+1.0 [+1.0, +1.0], 25 : 0, p < 0.001"


@pytest.mark.parametrize("table", [four_settings_table])
def test_same_bytes(table, four_settings):
    assert table(four_settings) == table(four_settings)
