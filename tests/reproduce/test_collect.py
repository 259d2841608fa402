# SPDX-License-Identifier: Apache-2.0
import json
from dataclasses import replace

import pytest

from iclmsr.config import encode
from iclmsr.errors import IclmsrError
from iclmsr.evaluate import EvaluateConfig
from iclmsr.files import write_json
from iclmsr.recipes import recipe
from iclmsr.reproduce.cells import Row
from iclmsr.reproduce.collect import collect
from iclmsr.reproduce.runner import SOURCE
from iclmsr.reproduce.summary import summarize
from iclmsr.runs import RunFolder


def made(out, name, config, *, linear=60.0, epoch=None, source=True, **changed):
    """A run folder as it is after a judgement, without any training."""
    run = out / name
    RunFolder.create(run, encode(config), {"images": config.data.limit or 24, "data": "aa"})
    judgement = replace(EvaluateConfig.of_run(run), **changed)
    report = {
        "protocol": "w-mse-2021",
        "epoch": config.epochs if epoch is None else epoch,
        "results": {"encoder": {"linear": {"top1": linear}, "knn": {"k": 5, "top1": 50.0}}},
        "config": encode(judgement),
        "data": {
            "train": {"images": 24, "sha256": "bb"},
            "test": {"images": 8, "sha256": "cc"},
        },
    }
    write_json(run / "evaluation.json", report)
    if source:
        write_json(run / SOURCE, {"form": "folder", "images": {"pretrain": 24}})
    return run


SIMCLR = replace(recipe("simclr-cifar10").config, epochs=3)


def test_runs_that_differ_only_in_seed_and_place_share_a_protocol(tmp_path):
    made(tmp_path, "a", SIMCLR)
    moved = replace(SIMCLR, seed=1, device="cpu", data=replace(SIMCLR.data, root="/x", workers=1))
    made(tmp_path, "b", moved)
    one, two = collect(tmp_path).finished
    assert one.protocol == two.protocol
    assert (one.row, one.dataset, one.seed, two.seed) == (Row("simclr", False), "cifar10", 0, 1)
    assert one.protocol.changed == (("epochs", "3"),)
    assert one.recipe == ("1,000",)
    assert one.accuracy == (60.0, 50.0)
    assert (one.protocol.data.form, one.protocol.data.available) == ("folder", 24)


@pytest.mark.parametrize(
    ("change", "judgement", "word"),
    [
        ({"epochs": 4}, {}, "epochs"),
        ({"batch_size": 64}, {}, "batch-size"),
        ({"encoder": replace(SIMCLR.encoder, width=8)}, {}, "encoder.width"),
        ({"data": replace(SIMCLR.data, limit=9)}, {}, "data.limit"),
        ({"precision": "bf16"}, {}, "precision"),
        ({}, {"k": 20}, "k 20"),
        ({}, {"linear_probe": replace(EvaluateConfig().linear_probe, epochs=9)}, "epochs 9"),
        ({}, {"data": replace(SIMCLR.data, image_size=24)}, "data.image-size 24"),
    ],
)
def test_whatever_may_change_a_number_makes_another_protocol(tmp_path, change, judgement, word):
    made(tmp_path, "a", SIMCLR)
    made(tmp_path, "b", replace(SIMCLR, seed=1, **change), **judgement)
    one, two = (run.protocol for run in collect(tmp_path).finished)
    assert one != two
    assert word in f"{two.changed} {two.judged}"


def test_how_a_judgement_is_computed_is_no_protocol(tmp_path):
    made(tmp_path, "a", SIMCLR)
    made(tmp_path, "b", replace(SIMCLR, seed=1), device="cpu", batch_size=3, baselines=True)
    one, two = collect(tmp_path).finished
    assert one.protocol == two.protocol


def test_versions_of_a_protocol_are_apart(tmp_path):
    for version in (1, 2):
        run = made(tmp_path, str(version), replace(SIMCLR, seed=version))
        report = json.loads((run / "evaluation.json").read_text())
        write_json(run / "evaluation.json", {**report, "protocol_version": version})
    one, two = (run.protocol.judged for run in collect(tmp_path).finished)
    assert (one, two) == ("w-mse-2021", "w-mse-2021, version 2")


def test_a_recipe_of_another_protocol_is_named(tmp_path):
    """ReSSL's, of which the table has its authors' own, never shares a letter with the others."""
    for name in ("ressl-native", "ressl-native-msr", "ressl-wmse", "simclr"):
        made(tmp_path, name, recipe(f"{name}-cifar10").config)
    collected = collect(tmp_path)
    assert [run.protocol.recipe for run in collected.finished] == [
        "ressl-native-cifar10", "ressl-native-cifar10", "ressl-wmse-cifar10", ""
    ]  # fmt: skip
    assert not any(run.protocol.changed for run in collected.finished)
    table = summarize(collected)
    letters = {(line.row.name, line.protocol) for line in table.lines if line.protocol}
    assert len(letters) == 4
    assert len({letter for _, letter in letters}) == 3
    assert [gain.method for gain in table.gains] == ["ressl"]
    assert any(text.startswith("recipe ressl-native-cifar10;") for text in table.protocols.values())


def test_what_does_not_count_is_named(tmp_path):
    made(tmp_path, "stale", SIMCLR, epoch=2)
    made(tmp_path, "transfer", SIMCLR, data=replace(SIMCLR.data, source="cifar100"))
    (tmp_path / "timm").mkdir()
    write_json(tmp_path / "timm" / "config.json", {"architecture": "resnet18"})
    made(tmp_path, "dino", recipe("dino-cifar10").config)
    made(tmp_path, "shapes", recipe("simclr-synthetic").config)
    made(tmp_path, "w-mse-msr", recipe("w-mse-msr-cifar10").config)
    (made(tmp_path, "broken", SIMCLR) / "config.json").write_text("{")
    made(tmp_path, "unknown", replace(SIMCLR, seed=4), source=False)
    found = collect(tmp_path)
    assert found.unfinished == (("stale", 0, 3), ("transfer", 0, 3))
    assert found.foreign == ("dino", "shapes", "w-mse-msr")
    assert [name for name, _ in found.damaged] == ["broken"]
    (one,) = found.finished
    assert (one.protocol.data.form, one.protocol.data.available) == ("unknown", None)


def test_a_seed_counts_once(tmp_path):
    made(tmp_path, "a", SIMCLR, linear=10.0)
    made(tmp_path, "b", SIMCLR, linear=90.0)
    with pytest.warns(UserWarning, match=r"b is left out: .*a is the same cell"):
        (one,) = collect(tmp_path).finished
    assert one.accuracy.linear == 10.0


def test_a_judgement_of_another_form_says_what_to_do(tmp_path):
    run = made(tmp_path, "a", SIMCLR)
    report = json.loads((run / "evaluation.json").read_text())
    del report["results"]["encoder"]["knn"]
    write_json(run / "evaluation.json", report)
    ((_, why),) = collect(tmp_path).damaged
    assert "lacks 'knn': judge it again with: iclmsr evaluate" in why


def test_nothing_there(tmp_path):
    assert collect(tmp_path).finished == ()
    with pytest.raises(IclmsrError, match="none is not a folder: nothing has been run there yet"):
        collect(tmp_path / "none")
