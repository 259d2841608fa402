# SPDX-License-Identifier: Apache-2.0
import math

import torch

from iclmsr.evaluate.candidates import find_candidates, largest
from iclmsr.seeds import generator


def rows(count: int, name: str) -> torch.Tensor:
    return torch.randn(count, 64, generator=generator(0, "rows", name))


def test_the_bound_holds_for_every_row_that_is_no_candidate():
    train, test = rows(500, "train"), rows(50, "test")
    squares = torch.cdist(test.double(), train.double()).square()
    centre = train.mean(0)
    for dtype in (torch.bfloat16, torch.float32, torch.float64):
        places, bound = find_candidates(test, train, centre, 5, 2**16, dtype)
        others = squares.scatter(1, places, math.inf).amin(1)
        assert (others > bound).all()
        assert (bound > 0.8 * others).all()  # and is no empty promise


def test_groups_hold_the_largest():
    values = torch.randint(50, (20, 5003), generator=generator(0, "values")).float()  # many ties
    found, columns = largest(values, 7)
    assert torch.equal(found, values.gather(1, columns))
    assert torch.equal(found.sort(1).values, values.topk(7).values.sort(1).values)
    assert all(len(set(row)) == 7 for row in columns.tolist())
