# SPDX-License-Identifier: Apache-2.0
import base64
import io
import re

import numpy as np
from matplotlib import colormaps
from PIL import Image
from report_runs import write_run

from iclmsr.report.groups import group
from iclmsr.report.heat import weights_section
from iclmsr.report.reading import collect


def section_of(path):
    return weights_section(group(collect([path]).runs))


def pixels(text):
    """The heat maps and colour bars of a section."""
    found = re.findall(r"data:image/png;base64,([^\"]+)", text)
    return [np.array(Image.open(io.BytesIO(base64.b64decode(one)))) for one in found]


def test_a_pixel_is_the_colour_of_its_weight(tmp_path):
    text = section_of(write_run(tmp_path / "run", msr=True, epochs=5))
    value, _, change, _ = pixels(text)
    assert value.shape == change.shape == (12, 5, 3)  # 3 strata of 4 dimensions, 5 epochs

    def colour(name, share):
        return np.round(np.array(colormaps[name](share)[:3]) * 255)

    assert (value[0, 1] == colour("cividis", 0.4)).all()  # the weight is 0.2 + 0.1 epoch
    assert (value[5, 3] == colour("cividis", 0.35)).all()  # stratum 2, second kept dimension
    assert (change[0, 4] == colour("PuOr", 1.0)).all()  # the largest change
    assert (change[5, 3] == colour("PuOr", 0.5)).all()  # none
    assert "4 of 8 dimensions" in text
    assert "How far the strata are apart" in text


def test_many_epochs_are_thinned(tmp_path):
    run = write_run(tmp_path / "run", msr=True, epochs=700)
    assert pixels(section_of(run))[0].shape == (12, 240, 3)


def test_without_the_regularizer_there_is_no_section(tmp_path):
    assert section_of(write_run(tmp_path / "run")) is None


def test_one_epoch(tmp_path):
    text = section_of(write_run(tmp_path / "run", msr=True, epochs=1))
    assert pixels(text)[0].shape == (12, 1, 3)
