# SPDX-License-Identifier: Apache-2.0
import io

import numpy as np
import pytest
from PIL import Image

from iclmsr.data.cutouts import cut_out


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def cut(mask, erode):
    """The mask of what is cut out of an image of one colour."""
    image = np.full((*mask.shape, 3), 90, np.uint8)
    cutout = cut_out(png(image), png(mask * np.uint8(255)), "mask.png", erode)
    return np.asarray(cutout.mask) == 255


@pytest.mark.parametrize("erode", [0, 1, 2])
def test_pixels_off_the_edge(erode):
    mask = np.zeros((20, 24), np.bool_)
    mask[4:16, 5:19] = True
    mask[10, 12] = False
    rows, columns = np.mgrid[: 12 - 2 * erode, : 14 - 2 * erode] + erode
    hole = np.maximum(abs(rows - 6), abs(columns - 7)) <= erode
    assert (cut(mask, erode) == ~hole).all()


def test_nothing_is_taken_off_where_the_object_leaves_the_image():
    mask = np.zeros((9, 9), np.bool_)
    mask[2:, 3:] = True
    assert cut(mask, 2).shape == (5, 4)
    assert cut(np.ones((9, 9), np.bool_), 2).shape == (9, 9)


def test_thin_objects_keep_their_edge_however_much_is_taken_off():
    mask = np.zeros((9, 40), np.bool_)
    mask[4:6, 5:35] = True
    for erode in (1, 400):
        assert cut(mask, erode).shape == (2, 30)
