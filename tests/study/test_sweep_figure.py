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
    assert original.get_ylabel() == "SimCLR + MSR\naccuracy (%)"


@pytest.mark.parametrize(
    ("values", "scale"),
    [((0.0, 0.1, 1.0, 10.0), "symlog"), ((1, 2, 3, 4), "linear"), ((1, 2, 4, 8), "log")],
)
def test_the_axis_fits_the_values(sweep, values, scale):
    rows = [row for row in sweep["rows"] if row["value"] == 1.0]
    sweep["rows"] = [{**row, "value": value} for row in rows for value in values]
    axes = sweep_figure(sweep, wanted=("original",)).axes[0]
    assert axes.get_xscale() == scale
    assert axes.get_xticks().tolist() == list(values)


def test_two_values_have_no_spacing():
    assert not is_geometric([1.0, 100.0])
    assert not is_geometric([-1.0, 10.0, 100.0])


def test_what_cannot_be_drawn(sweep):
    plain = [row for row in sweep["rows"] if row["arm"] == "plain"]
    with pytest.raises(IclmsrError, match="no row but plain's"):
        sweep_figure({**sweep, "rows": plain})
    sweep["rows"][-1]["value"] = "fresh"
    with pytest.raises(IclmsrError, match="a number as value, got 'fresh'"):
        sweep_figure(sweep)
