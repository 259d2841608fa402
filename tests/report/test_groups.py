# SPDX-License-Identifier: Apache-2.0
from statistics import stdev

from report_runs import write_run

from iclmsr.files import write_json
from iclmsr.report.groups import differences, group, spread
from iclmsr.report.reading import collect


def grouped(path):
    return group(collect([path]).runs)


def test_runs_that_differ_in_their_seed_are_one_group(tmp_path):
    for seed in (2, 0, 1):
        write_run(tmp_path / f"plain-{seed}", seed=seed)
    write_run(tmp_path / "msr", msr=True)
    found = {each.label: [run.config["seed"] for run in each.runs] for each in grouped(tmp_path)}
    assert found == {"simclr": [0, 1, 2], "simclr + MSR": [0]}


def test_what_changes_no_number_does_not_tell_groups_apart(tmp_path):
    write_run(tmp_path / "a", loggers=["wandb"], log_every=1)
    write_run(tmp_path / "b", seed=1, loggers=[], log_every=50)
    assert len(grouped(tmp_path)) == 1
    places = {"root": "/x", "cache": False, "resident": "disk", "shard_cache": 1.0, "workers": 2}
    data = {"source": "cifar10", "limit": None, **places}
    write_run(tmp_path / "c", seed=2, data=data, device="cuda:1", online={"every_epochs": 3})
    assert len(grouped(tmp_path)) == 1


def test_other_images_make_another_group_wherever_they_lie(tmp_path):
    for seed in range(3):
        run = write_run(tmp_path / str(seed), source="folder", seed=seed)
        write_json(run / "environment.json", {"data": "ab" if seed < 2 else "cd"})
    assert [len(each.runs) for each in grouped(tmp_path)] == [2, 1]


def test_labels_say_what_differs(tmp_path):
    write_run(tmp_path / "short", epochs=4)
    write_run(tmp_path / "long", epochs=8)
    write_run(tmp_path / "other", method="byol", epochs=4)
    assert {each.label for each in grouped(tmp_path)} == {
        "simclr, epochs 4", "simclr, epochs 8", "byol"
    }  # fmt: skip
    more = tmp_path / "more"
    write_run(more / "cifar")
    write_run(more / "stl", source="stl10")
    assert {each.label for each in grouped(more)} == {"simclr, cifar10", "simclr, stl10"}


def test_differences_name_missing_settings():
    found = differences([{"a": 1, "deep": {"b": 2}}, {"a": 1, "deep": {"b": 3, "c": "x"}}])
    assert found == {"deep.b": ["2", "3"], "deep.c": [None, "x"]}


def test_spread_is_the_sample_deviation():
    assert spread([60.0, 62.0, 67.0]) == f"63.00 ± {stdev([60, 62, 67]):.2f}" == "63.00 ± 3.61"
