# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from iclmsr.data.draw import Draw
from iclmsr.errors import IclmsrError
from iclmsr.seeds import generator


def test_without_a_limit_it_is_everything_in_order():
    assert Draw().order(4) == Draw().indices(4) == [0, 1, 2, 3]


def test_the_draw_follows_from_the_seed():
    order = torch.randperm(9, generator=generator(5, "limit"))
    draw = Draw(limit=4, seed=5)
    assert draw.order(9) == order.tolist()
    assert draw.indices(9) == order[:4].sort().values.tolist()
    assert Draw(limit=9, seed=5).indices(9) == list(range(9))
    assert Draw(limit=4, seed=6).indices(9) != draw.indices(9)


@pytest.mark.parametrize("limit", [0, -1, 10])
def test_limit_out_of_range(limit):
    message = rf"^data\.limit must be in \[1, 9\], the number of training images, got {limit}$"
    with pytest.raises(IclmsrError, match=message):
        Draw(limit=limit).indices(9)
