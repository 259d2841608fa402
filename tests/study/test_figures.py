# SPDX-License-Identifier: Apache-2.0
import io

import numpy as np
import pytest
import torch
from PIL import Image

from iclmsr.errors import IclmsrError
from iclmsr.study.figures import base_against_msr, four_bars, variants_strip
from iclmsr.study.look import save, spread


def bars(axes):
    return [patch.get_height() for patch in axes.patches]


def dots(axes):
    return [line.get_ydata().tolist() for line in axes.lines if line.get_marker() == "o"]


def texts(figure):
    figure.draw_without_rendering()
    return [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]


def test_four_bars_show_means_and_every_seed(four_settings):
    figure = four_bars(four_settings)
    (axes,) = figure.axes
    plain = np.array([60.0, 61.5, 58.0])
    shifts = [0, -15, 10, -20, -4, -19, 6, -24]
    assert bars(axes) == pytest.approx([plain.mean() + shift for shift in shifts])
    assert dots(axes) == [pytest.approx((plain + shift).tolist()) for shift in shifts]
    assert axes.get_ylabel() == "top-1 accuracy of the linear probe (%)"
    assert [bool(patch.get_hatch()) for patch in axes.patches[:4]] == [False, True, True, False]
    colours = [patch.get_facecolor() for patch in axes.patches[:4]]
    assert colours[0] == colours[1] != colours[2] == colours[3]
    assert {"SimCLR", "BYOL", "59.8", "3: train foreground, test foreground"} <= set(texts(figure))
    assert any("background gray" in text for text in texts(figure))
    lowest, highest = axes.get_ylim()
    assert lowest == 0
    assert highest > 71.5
    assert bars(four_bars(four_settings, arm="msr").axes[0])[0] == pytest.approx(plain.mean() + 2.5)


def test_base_against_msr_joins_seeds_and_tells_the_difference(four_settings):
    figure = base_against_msr(four_settings, kind="knn")
    left, right = figure.axes
    mean = 59.8333333 - 7
    assert bars(left) == pytest.approx([mean, mean + 2.5, mean - 4, mean - 1.5])
    assert bars(right) == pytest.approx([value - 15 for value in bars(left)])
    assert dots(left)[:3] == [[53.0, 55.0], [54.5, 57.0], [51.0, 54.0]]
    assert any("SimCLR\n+2.5 points\n[+2.0, +3.0]" in text for text in texts(figure))
    highest = left.get_ylim()[1]
    assert highest > max(bars(left) + bars(right))
    assert left.get_ylim() == right.get_ylim()


def test_a_study_under_way(four_settings):
    rows = four_settings["rows"]
    four_settings["rows"] = [row for row in rows if row["arm"] == "plain" and row["seed"] == 0]
    assert len(bars(four_bars(four_settings).axes[0])) == 8
    assert len(bars(base_against_msr(four_settings).axes[0])) == 2
    with pytest.raises(IclmsrError, match="no run of arm 'msr'"):
        four_bars(four_settings, arm="msr")
    four_settings["rows"] = [row for row in rows if row["train"] == "foreground"]
    with pytest.raises(IclmsrError, match="no run trained on full images"):
        base_against_msr(four_settings)


def test_same_study_same_bytes(four_settings, tmp_path):
    for name in ("a.png", "b.png"):
        save(base_against_msr(four_settings), tmp_path / name)
    first, second = ((tmp_path / name).read_bytes() for name in ("a.png", "b.png"))
    assert first == second
    with Image.open(io.BytesIO(first)) as picture:
        assert picture.format == "PNG"
        assert "Software" not in picture.info
        assert picture.width > 1000


def test_the_strip_shows_each_image_under_each_variant():
    known = {
        name: torch.full((2, 3, 4, 4), level, dtype=torch.uint8)
        for name, level in (("original", 10), ("mixed_rand", 20), ("mine", 30))
    }
    figure = variants_strip(known, title="ETH-80")
    assert [axes.images[0].get_array()[0, 0, 0] for axes in figure.axes] == [10, 20, 30] * 2
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["original", "mixed,\nrandom class", "mine", "", "", ""]
    known["mine"] = known["mine"][:1]
    with pytest.raises(IclmsrError, match=r"the same images in each variant, got \[1, 2\]"):
        variants_strip(known)


def test_dots_lie_within_their_width():
    assert spread(3.0, 1, 0.5) == [3.0]
    assert spread(3.0, 3, 0.5) == [2.75, 3.0, 3.25]
