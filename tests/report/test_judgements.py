# SPDX-License-Identifier: Apache-2.0
"""Numbers of different judgements are never averaged, and a reader is told what each is of."""

import re

import pytest
from report_runs import write_evaluation, write_run

from iclmsr.report.accuracy import accuracy, against_paper
from iclmsr.report.groups import group
from iclmsr.report.judgements import judged
from iclmsr.report.reading import collect


def groups_in(path):
    return group(collect([path]).runs)


def rows_of(html):
    rows = re.findall(r"<tr>(.*?)</tr>", html, re.DOTALL)
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in rows][1:]


@pytest.fixture
def runs(tmp_path):
    """Three seeds, judged alike; and what becomes of them when the last is judged otherwise."""
    for seed in (0, 1, 2):
        write_run(tmp_path / f"run-{seed}", seed=seed, linear=60.0 + seed, knn=40.0 + seed)
    return tmp_path


def test_runs_judged_alike_are_one_row(runs):
    [row] = rows_of(accuracy(groups_in(runs)))
    assert row == [
        "simclr", "61.00 ± 1.00", "41.00 ± 1.00", "5", "3", "4", "cifar10", "w-mse-2021"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("otherwise", "said"),
    [
        ({"protocol": "linear-lbfgs"}, "linear-lbfgs"),
        ({"version": 2}, "w-mse-2021, version 2"),
        ({"source": "stl10", "images": "ffff"}, "stl10"),
        ({"data": {"variant": "mixed_rand"}}, "cifar10, mixed_rand"),
        ({"epoch": 3}, "epoch 3"),
        ({"k": 20}, "k = 20"),
        ({"images": "ffff"}, "images ffff, ffff"),
        ({"linear_probe": {"epochs": 10}}, "linear_probe.epochs 10"),
        ({"data": {"image_size": 64}}, "data.image_size 64"),
    ],
)
def test_whatever_moves_a_number_makes_a_row(runs, otherwise, said):
    write_evaluation(runs / "run-2", 10.0, 20.0, **otherwise)
    alike, other = judged(groups_in(runs))
    assert (alike.scores("linear"), other.scores("linear")) == ([60.0, 61.0], [10.0])
    assert other.label == f"simclr, {said}"
    first, second = rows_of(accuracy(groups_in(runs)))
    assert first[1:5] == ["60.50 ± 0.71", "40.50 ± 0.71", "5", "2"]
    assert second[:3] == [other.label, "10.00", "20.00"]


@pytest.mark.parametrize(
    "otherwise",
    [
        {"batch_size": 7, "device": "cuda", "out": "x", "baselines": True},
        {"linear_lbfgs": {"folds": 3}},
        {"neighbours": [1], "few_labels": {"draws": 2}, "fine_tune": {"epochs": 3}},
        {"data": {"root": "/elsewhere", "workers": 3, "masks": "m"}},
    ],
)
def test_what_moves_no_number_makes_none(runs, otherwise):
    write_evaluation(runs / "run-2", 62.0, 42.0, **otherwise)
    assert len(judged(groups_in(runs))) == 1


def test_what_is_different_is_said_though_the_protocol_is_too(runs):
    probes = {"linear_probe": {"epochs": 9}, "linear_lbfgs": {"folds": 3}}
    for seed, size in enumerate((32, 32, 16)):
        protocol = "w-mse-2021" if size == 32 else "linear-lbfgs"
        more = {"protocol": protocol, "data": {"image_size": size}, "images": f"{size}"}
        write_evaluation(runs / f"run-{seed}", **more, **probes)
    assert [one.label for one in judged(groups_in(runs))] == [
        "simclr, w-mse-2021, data.image_size 32", "simclr, linear-lbfgs, data.image_size 16"
    ]  # fmt: skip


def test_transfer_is_a_row_of_its_own_beside_the_run_s_result(runs):
    write_evaluation(runs / "run-0", 30.0, 20.0, name="evaluation-stl10.json", source="stl10")
    own, transfer = rows_of(accuracy(groups_in(runs)))
    assert own[:2] == ["simclr, cifar10", "61.00 ± 1.00"]
    assert (transfer[0], transfer[1], transfer[6]) == ("simclr, stl10", "30.00", "stl10")


def test_a_run_counts_once(runs):
    write_evaluation(runs / "run-0", 99.0, 99.0, name="evaluation-again.json")
    [row] = rows_of(accuracy(groups_in(runs)))
    assert row[1:5] == ["61.00 ± 1.00", "41.00 ± 1.00", "5", "3"]


def test_baselines_are_kept_apart_too(runs):
    for seed in (0, 1):
        write_evaluation(runs / f"run-{seed}", untrained=(30.0 + seed, 20.0))
    write_evaluation(runs / "run-2", protocol="linear-lbfgs", untrained=(50.0, 20.0))
    found = {row[0]: row[1] for row in rows_of(accuracy(groups_in(runs)))}
    assert found["untrained encoder, w-mse-2021"] == "30.50 ± 0.71"
    assert found["untrained encoder, linear-lbfgs"] == "50.00"


def test_beside_the_paper_only_what_was_judged_on_the_data_of_the_run(runs):
    write_evaluation(runs / "run-0", 30.0, 20.0, source="stl10")
    write_evaluation(runs / "run-1", 61.0, 41.0, data={"variant": "mixed_rand"})
    [row] = rows_of(against_paper(groups_in(runs)))
    assert row[:4] == ["simclr, cifar10", "62.00", "91.80", "-29.80"]


def test_beside_the_paper_stands_the_epoch_that_was_judged(runs):
    write_evaluation(runs / "run-0", epoch=2)
    epochs = [(row[7], row[8]) for row in rows_of(against_paper(groups_in(runs)))]
    assert epochs == [("1", "2"), ("2", "4")]


def test_other_neighbours_are_not_beside_the_paper_s_five(runs):
    write_evaluation(runs / "run-0", 30.0, 20.0, k=20)
    other, _ = rows_of(against_paper(groups_in(runs)))
    assert other[1:7] == ["30.00", "91.80", "-61.80", "-", "88.42", "-"]
