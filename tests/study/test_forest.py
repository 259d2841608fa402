# SPDX-License-Identifier: Apache-2.0
import pytest

from iclmsr.errors import IclmsrError
from iclmsr.study.forest import forest
from iclmsr.study.look import BLUE, GREY, RED
from iclmsr.study.statistics import bootstrap_interval


def drawn(axes, marker):
    return [line for line in axes.lines if line.get_marker() == marker]


def test_values_above_and_differences_below(comparison):
    figure = forest(comparison, "simclr", wanted=("original", "bg_gap", "only_fg"))
    original, gap, less, less_gap = figure.axes  # only_fg is not there
    assert [line.get_xdata()[0] for line in drawn(original, "|")] == pytest.approx(
        [59.8333333, 62.3333333, 58.5833333]
    )
    assert drawn(original, "o")[1].get_xdata() == pytest.approx([62.0, 64.0, 61.0])
    assert [line.get_xdata()[0] for line in drawn(less, "D")] == pytest.approx([2.5, -1.25])
    ends = [line.get_xdata() for line in drawn(less, "|")]
    assert tuple(ends[0]) == bootstrap_interval([2.0, 2.5, 3.0])
    assert tuple(ends[1]) == bootstrap_interval([-1.0, -1.25, -1.5])
    assert [line.get_color() for line in drawn(less, "D")] == [BLUE, RED]
    assert [line.get_color() for line in drawn(less_gap, "D")] == [GREY, GREY]
    assert [text.get_text() for text in original.get_yticklabels()] == [
        "plain",
        "MSR",
        "BG_Random (masks)",
    ]
    assert gap.get_title() == "BG-gap\n(less is better)"
    assert less.get_xlabel() == "difference to plain\n(% points)"


def test_less_is_better_where_it_is(comparison):
    for row in comparison["rows"]:
        if row["arm"] == "msr":
            row["measures"]["bg_gap"]["linear"] -= 3
    *_, below = forest(comparison, "byol", wanted=("bg_gap",)).axes
    first, second = drawn(below, "D")
    assert (first.get_color(), second.get_color()) == (BLUE, GREY)
    assert first.get_xdata()[0] == pytest.approx(-3)


def test_no_such_base(comparison):
    with pytest.raises(IclmsrError, match="no row of base method 'dino'"):
        forest(comparison, "dino")


def test_another_reference(comparison):
    rows = [r for r in comparison["rows"] if r["base"] == "simclr"]
    for row in rows:
        if row["arm"] == "bg-random":
            row["arm"] = "plain-equal-time"
    upper, lower = forest({"rows": rows}, "simclr", wanted=("original",),
                          reference="plain-equal-time").axes  # fmt: skip
    assert [text.get_text() for text in lower.get_yticklabels()] == ["MSR"]
    assert drawn(lower, "D")[0].get_xdata()[0] == pytest.approx(3.75)
    assert lower.get_xlabel() == "difference to plain, equal time\n(% points)"
    (band,) = upper.patches
    assert band.get_x() + band.get_width() / 2 == pytest.approx(58.5833333)


def test_without_the_reference_there_are_no_differences(comparison):
    rows = [row for row in comparison["rows"] if row["arm"] != "plain"]
    (upper,) = forest({"rows": rows, "settings": {"split": "val"}}, "simclr", kind=None,
                      wanted=("swap_cosine",)).axes  # fmt: skip
    assert [text.get_text() for text in upper.get_yticklabels()] == ["MSR", "BG_Random (masks)"]
    assert "(embeddings, split val)" in upper.figure.get_suptitle()
