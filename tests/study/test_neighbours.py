# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import pytest
import torch
from matplotlib.colors import to_rgba
from torch import nn

from iclmsr.data.images import ImageSet
from iclmsr.encoders import LoadedEncoder
from iclmsr.errors import IclmsrError
from iclmsr.study.look import BLUE, save
from iclmsr.study.neighbours import (
    ROWS,
    nearest,
    neighbour_grid,
    neighbours_of,
    one_of_each_class,
    shares,
)


def images(labels, backgrounds, seed=0):
    draw = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (len(labels), 3, 4, 4), generator=draw, dtype=torch.uint8)
    known = None if backgrounds is None else torch.tensor(backgrounds)
    return ImageSet(pixels, torch.tensor(labels), ("a", "b", "c"), backgrounds=known)


def test_nearest_against_a_double_loop():
    draw = torch.Generator().manual_seed(0)
    queries, gallery = torch.randn(ROWS + 3, 5, generator=draw), torch.randn(9, 5, generator=draw)
    found = nearest(queries, gallery, k=4)
    for query, row in zip(queries[-20:], found[-20:], strict=True):
        cosines = [float(query @ key / query.norm() / key.norm()) for key in gallery]
        assert row.tolist() == sorted(range(9), key=lambda index: -cosines[index])[:4]


def test_length_does_not_count_and_equals_go_by_index():
    gallery = torch.tensor([[0.0, 1.0], [9.0, 0.0], [1.0, 0.0]])
    assert nearest(torch.tensor([[2.0, 0.0]]), gallery, k=3).tolist() == [[1, 2, 0]]
    for k in (0, 4):
        with pytest.raises(IclmsrError, match=rf"k must be in \[1, 3\], the gallery, got {k}"):
            nearest(gallery, gallery, k=k)


def test_shares_by_hand():
    queries = images([0, 1], [0, 1])
    gallery = images([0, 0, 1, 2], [0, 1, 1, 0])
    index = torch.tensor([[0, 1, 3], [2, 1, 3]])
    # query 0: both, class only, background only; query 1: both, background only, neither
    assert shares(index, queries, gallery) == pytest.approx((50.0, 400 / 6, 100 / 6, 200 / 6))
    assert shares(index, images([0, 1], None), gallery)[1:] == (None, None, None)
    named = replace(gallery, background_names=("sea", "land"))
    assert shares(index, queries, named)[1:] == (None, None, None), "two numberings"


def test_neighbours_in_the_encoders_space():
    queries, gallery = images([0, 1], None, seed=1), images([0, 1, 2], None)
    gallery.images[2] = queries.images[0]
    encoder = LoadedEncoder(nn.Flatten(), "pixels", (0.5,) * 3, (0.25,) * 3, 4, "")
    found = neighbours_of(encoder, queries, gallery, k=1)
    assert found.shape == (2, 1)
    assert found[0].item() == 2
    mean = torch.full((3,), 0.5)[:, None, None]
    vectors = [((x.images / 255 - mean) / 0.25).flatten(1) for x in (queries, gallery)]
    assert torch.equal(found, nearest(*vectors, k=1))


def test_queries_are_the_first_on_an_unusual_background():
    known = images([2, 0, 0, 0, 2, 0], [1, 0, 0, 1, 1, 2])
    assert one_of_each_class(known).tolist() == [3, 0]
    assert one_of_each_class(images([2, 0, 0], None)).tolist() == [1, 0]
    assert one_of_each_class(known, most=1).tolist() == [3]


def test_frames_tell_the_class_and_corners_the_background(tmp_path):
    queries, gallery = images([0, 1], [0, 1]), images([0, 0, 1, 2], [0, 1, 1, 0])
    found = {
        "plain": torch.tensor([[0, 1], [2, 3]]),
        "MSR": torch.tensor([[3, 2], [2, 2]]),
    }
    figure = neighbour_grid(queries, gallery, found, [0])
    query, *marked = figure.axes
    assert (query.images[0].get_array() == queries.images[0].permute(1, 2, 0).numpy()).all()
    shown = [axes.images[0].get_array()[0, 0].tolist() for axes in marked]
    assert shown == [gallery.images[index, :, 0, 0].tolist() for index in (0, 1, 3, 2)]
    same = [axes.spines["left"].get_linestyle() == "-" for axes in marked]
    assert same == [True, True, False, False]
    assert marked[0].spines["left"].get_edgecolor() == to_rgba(BLUE)
    assert [len(axes.patches) for axes in marked] == [1, 0, 1, 0]
    titles = [text.get_text() for text in figure.texts]
    assert "plain: 75 % of neighbours have the query's class,\n50 % its background" in titles
    for name in ("a.png", "b.png"):
        save(neighbour_grid(queries, gallery, found, [1, 0]), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with pytest.raises(IclmsrError, match="at least one encoder and one query"):
        neighbour_grid(queries, gallery, found, [])
