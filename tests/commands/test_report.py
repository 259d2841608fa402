# SPDX-License-Identifier: Apache-2.0
import re

import pytest
from report_runs import write_run

from iclmsr import cli, gallery
from iclmsr.config import PretrainConfig, encode
from iclmsr.errors import IclmsrError
from iclmsr.files import write_json


def run(*words, capsys):
    code = cli.main(["report", *map(str, words)])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "report needs a run folder"),
        (("/nowhere",), "/nowhere is not a folder"),
        (("x", "-o", "/tmp"), "/tmp is a folder: pass -o FILE.html"),
        (("x", "--points", "1"), "--points must be >= 2, got 1"),
        (("x", "--colour", "red"), "unrecognized arguments: --colour red"),
    ],
)
def test_bad_input(words, message, capsys):
    code, _, err = run(*words, capsys=capsys)
    assert code == 2
    assert message in err
    assert len(err.splitlines()) == 1


def test_galleries_of_first_seeds_are_made_once(tmp_path, monkeypatch, capsys):
    for seed in (0, 1):
        write_run(tmp_path / f"run-{seed}", seed=seed)
    asked = []

    def make(path, **options):
        asked.append((path.name, options))
        raise IclmsrError("data.root is not set: pass --data.root")

    monkeypatch.setattr(gallery, "make_gallery", make)
    out = tmp_path / "report.html"
    code, said, _ = run(tmp_path, "-o", out, "--data.root", "x", "--points", 9, capsys=capsys)
    assert code == 0
    assert asked == [("run-0", {"umap": False, "root": "x", "points": 9})]
    assert "left out: data.root is not set" in said
    assert said.splitlines()[-1].startswith(f"wrote {out}, ")
    assert "data.root is not set: pass --data.root" in out.read_text()
    run(tmp_path, "-o", out, "--no-gallery", capsys=capsys)
    assert len(asked) == 1


def test_a_single_run_is_held_against_its_recipe(tmp_path, capsys):
    path = write_run(tmp_path / "run")
    config = encode(PretrainConfig(recipe="simclr-cifar10", epochs=7, batch_size=32))
    write_json(path / "config.json", config)
    run(path, "-o", tmp_path / "report.html", "--no-gallery", capsys=capsys)
    text = (tmp_path / "report.html").read_text()
    rows = dict(re.findall(r'<th scope="row">([\w.]+)</th><td>[^<]*</td><td>([^<]*)</td>', text))
    assert rows["epochs"] == "7"
    assert rows["batch_size"] == "32"
