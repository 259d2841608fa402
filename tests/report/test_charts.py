# SPDX-License-Identifier: Apache-2.0
import json
import re
from html import unescape
from xml.etree import ElementTree

import pytest

from iclmsr.report.axes import Scale, around
from iclmsr.report.charts import POINTS, Series, average, dot_chart, line_chart


def paths(chart):
    root = ElementTree.fromstring(chart)
    return [p for p in root.iter("path") if "line" in p.get("class")]


def numbers(path):
    return [float(number) for number in re.findall(r"-?[\d.]+", path.get("d"))]


def test_a_line_goes_where_its_points_are():
    chart = line_chart(
        "t", [Series("a", [[(0, 1.0), (5, 3.0), (10, 2.0)]], 0)], x_label="epoch", y_label="nats"
    )
    [line] = paths(chart)
    x0, y0, x1, y1, x2, y2 = numbers(line)
    assert (x0, x2) == (56, 350)
    assert x1 == pytest.approx((x0 + x2) / 2, abs=0.1)
    assert y0 > y2 > y1  # up is down
    assert y2 == pytest.approx((y0 + y1) / 2, abs=0.1)
    texts = [element.text for element in ElementTree.fromstring(chart).iter("text")]
    assert {"epoch", "nats", "0", "10"} <= set(texts)


def test_several_seeds_are_thin_under_their_mean():
    lines = [[(1, 1.0), (2, 5.0)], [(1, 3.0), (2, 7.0), (3, 9.0)]]
    chart = line_chart("t", [Series("a", lines, 1)], x_label="x", y_label="y")
    kinds = [path.get("class") for path in paths(chart)]
    assert [("thin" in kind) for kind in kinds] == [True, True, False]
    data = json.loads(unescape(re.search(r'data-lines="([^"]*)"', chart)[1]))
    assert data == [{"name": "a", "points": [[1, 2.0], [2, 6.0]]}]
    assert average(lines) == [(1, 2.0), (2, 6.0)]


def test_long_lines_are_thinned_and_keep_their_ends():
    points = [(x, float(x)) for x in range(5000)]
    [line] = paths(line_chart("t", [Series("a", [points], 0)], x_label="x", y_label="y"))
    found = numbers(line)
    assert len(found) == 2 * POINTS
    assert (found[0], found[-2]) == (56, 350)


def test_one_point_is_a_dot():
    [line] = paths(line_chart("t", [Series("a", [[(1, 2.0)]], 0)], x_label="x", y_label="y"))
    assert "lone" in line.get("class")


def test_colours_come_again_dashed():
    [line] = paths(line_chart("t", [Series("a", [[(1, 2.0)]], 9)], x_label="x", y_label="y"))
    assert {"c2", "d1"} <= set(line.get("class").split())


def test_dots_show_seeds_mean_and_deviation():
    root = ElementTree.fromstring(dot_chart("t", {"row": {0: [10.0, 20.0, 30.0]}}, ["arm"], "%"))
    where = {c.get("class").split()[0]: [] for c in root.iter("circle")}
    for circle in root.iter("circle"):
        where[circle.get("class").split()[0]].append(float(circle.get("cx")))
    assert len(where["seed"]) == 3
    assert where["dot"] == [pytest.approx(where["seed"][1])]
    [bar] = list(root.iter("path"))
    begin, _, end = numbers(bar)
    assert begin == pytest.approx(where["seed"][0], abs=0.1)  # the deviation is 10, too
    assert end == pytest.approx(where["seed"][2], abs=0.1)
    assert root.find(".//g/title").text == "row, arm: 20 ± 10, 3 seeds"


def test_scales():
    scale = Scale(1, 100, 0, 200, logarithmic=True)
    assert scale.at(10) == 100
    assert scale.ticks(5) == [1, 2, 5, 10, 20, 50, 100]
    assert Scale(0.0, 1.0, 0, 1).ticks(4) == [0, 0.5, 1]
    assert around([0.0, 0.0])[0] == 0  # a share is never negative
    assert around([3.0, 5.0], whole=True) == (3, 5)
    low, high = around([7.0], whole=True)
    assert low < 7 < high


@pytest.mark.parametrize("ends", [(0, 1), (-3, 4e6), (0.0012, 0.0013), (11.1, 11.4)])
def test_ticks_are_round_and_inside(ends):
    low, high = ends
    ticks = Scale(low, high, 0, 1).ticks(5)
    assert 2 <= len(ticks) <= 6
    assert all(low <= tick <= high for tick in ticks)
