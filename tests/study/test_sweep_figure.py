# SPDX-License-Identifier: Apache-2.0
import pytest

from iclmsr.errors import IclmsrError
from iclmsr.study.sweep_figure import is_geometric, sweep_figure


def test_every_seed_means_and_plain(sweep):
    figure = sweep_figure(sweep, wanted=("original", "bg_gap"))
    original, gap = figure.axes
    (means,) = (line for line in original.lines if line.get_marker() == "D")
    assert means.get_xdata().tolist() == [0.1, 1.0, 10.0]
    assert means.get_ydata() == pytest.approx([63.0, 66.0, 58.0])
    seen = [line.get_ydata().tolist() for line in original.lines if line.get_marker() == "o"]
    assert seen == [[62.0, 64.0], [65.0, 67.0], [57.0, 59.0]]
    (plain,) = (line for line in original.lines if line.get_linestyle() == "--")
    assert plain.get_ydata()[0] == pytest.approx(59.8333333)
    (band,) = original.patches
    assert band.get_height() == pytest.approx(2 * 1.7559423)
    assert original.get_xscale() == "log"
    assert [text.get_text() for text in gap.get_xticklabels()] == ["0.1", "1", "10"]
    assert gap.get_xlabel() == "λ, weight of the interventional loss"
    assert original.get_ylabel() == "SimCLR, MSR\naccuracy (%)"


@pytest.mark.parametrize(
    ("values", "scale"),
    [((0.0, 0.1, 1.0, 10.0), "symlog"), ((1, 2, 3, 4), "linear"), ((1, 2, 4, 8), "log")],
)
def test_the_axis_fits_the_values(sweep, values, scale):
    rows = [row for row in sweep["rows"] if row.get("value") == 1.0]
    sweep["rows"] = [{**row, "value": value} for row in rows for value in values]
    axes = sweep_figure(sweep, wanted=("original",)).axes[0]
    assert axes.get_xscale() == scale
    assert axes.get_xticks().tolist() == list(values)


def test_two_values_have_no_spacing():
    assert not is_geometric([1.0, 100.0])
    assert not is_geometric([-1.0, 10.0, 100.0])


def test_values_that_are_no_numbers_stand_side_by_side(sweep):
    names = {0.1: "same", 1.0: None, 10.0: [0.2, 1]}
    rows = [{**r, "value": names[r["value"]]} if "value" in r else r for r in sweep["rows"]]
    axes = sweep_figure({**sweep, "rows": rows}, wanted=("original",)).axes[0]
    labels = [text.get_text() for text in axes.get_xticklabels()]
    assert labels == ["same", "null", "[0.2, 1]"]
    (means,) = (line for line in axes.lines if line.get_marker() == "D")
    assert means.get_ydata() == pytest.approx([63.0, 66.0, 58.0])
    assert means.get_linestyle() == "None"


def test_plain_with_each_value(sweep):
    plain = [
        {**row, "value": value}
        for row in sweep["rows"]
        if "value" not in row
        for value in (0.1, 1.0)
    ]
    for row in plain:
        row["results"] = {"original": {"linear": 50.0 + row["value"] + row["seed"]}}
    rows = [row for row in sweep["rows"] if row.get("value") in (0.1, 1.0)] + plain
    axes = sweep_figure({**sweep, "rows": rows}, wanted=("original",)).axes[0]
    (line,) = (line for line in axes.lines if line.get_linestyle() == "--")
    assert line.get_xdata() == pytest.approx([0.1, 1.0])
    assert line.get_ydata() == pytest.approx([51.1, 52.0])
    (band,) = axes.collections
    assert band.get_paths()[0].get_extents().ymin == pytest.approx(50.1)


def test_what_cannot_be_drawn(sweep):
    plain = [row for row in sweep["rows"] if row["arm"] == "plain"]
    with pytest.raises(IclmsrError, match="no row with a value"):
        sweep_figure({**sweep, "rows": plain})
