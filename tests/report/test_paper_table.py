# SPDX-License-Identifier: Apache-2.0
"""The reproduced table on the page says what table.json says."""

import re

import pytest
from grids import example
from report_runs import write_evaluation, write_run

from iclmsr.files import read_json, write_json
from iclmsr.report import write_report
from iclmsr.reproduce.text import as_json


@pytest.fixture
def folder(tmp_path):
    """A grid of run folders with its table, as ``reproduce table`` leaves them."""
    folder = tmp_path / "runs" / "paper-table"
    write_run(folder / "simclr-cifar10-seed0")
    write_run(folder / "simclr-msr-cifar10-seed0", msr=True)
    table = example()
    (folder / "table.json").write_text(as_json(table))
    return folder


def page(tmp_path, *paths):
    write_report(paths, tmp_path / "report.html")
    return (tmp_path / "report.html").read_text()


def rows_of(text):
    rows = re.findall(r"<tr>(.*?)</tr>", text, re.DOTALL)
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in rows]


def test_lines_gains_and_protocols(tmp_path, folder):
    text = page(tmp_path, folder)
    rows = rows_of(text)
    whole = ["A", "2", "1000", "91.80", "91.00 ± 1.41", "-0.80", "88.42", "80.00 ± 0.00", "-8.42"]
    protocols = dict(re.findall(r"<dt>([A-Z])</dt><dd>(.*?)</dd>", text))
    short = next(name for name, words in protocols.items() if "epochs 10 instead" in words)
    whole[0] = next(name for name in protocols if name != short)
    assert ["SimCLR", *whole] in rows
    assert [
        "SimCLR",
        short,
        "1",
        "10",
        "91.80",
        "40.00",
        "-51.80",
        "88.42",
        "30.00",
        "-58.42",
    ] in rows
    assert ["BYOL", "", "", "", "91.73", "", "", "89.45", "", ""] in rows
    assert ["cifar10", "simclr", whole[0], "1", "+0.54", "+3.00", "+1.05", "+1.00"] in rows
    assert "stl10: nothing was run yet" in text
    assert "byol-cifar10-seed0, 3 of 1000 epochs" in text
    assert "No cells of the table: dino_small" in text
    assert "lmcl-cifar10-seed1: config.json is not valid" in text


def test_its_runs_are_in_no_second_table(tmp_path, folder):
    text = page(tmp_path, folder)
    assert text.count('id="table-0"') == 1
    assert 'id="paper"' not in text
    write_run(tmp_path / "runs" / "other", method="byol")
    text = page(tmp_path, tmp_path / "runs")
    assert text.count('id="table-0"') == 1
    assert "byol, cifar10" in text[text.index('id="paper"') :]
    assert 'id="table-0"' not in page(tmp_path, folder / "simclr-cifar10-seed0")


def test_a_table_without_its_runs(tmp_path, folder):
    alone = tmp_path / "alone"
    alone.mkdir()
    (folder / "table.json").rename(alone / "table.json")
    text = page(tmp_path, alone)
    assert "<h1>The paper&#x27;s table</h1>" in text
    assert "91.00 ± 1.41" in text


def test_its_own_notes_are_shown(tmp_path, folder):
    value = read_json(folder / "table.json")
    write_json(folder / "table.json", value | {"notes": ["[1] so & so"]})
    text = page(tmp_path, folder)
    assert "[1] so &amp; so" in text
    assert "whatever the protocol" not in text
    write_json(folder / "table.json", {k: v for k, v in value.items() if k != "notes"})
    assert "whatever the protocol" in page(tmp_path, folder)


def test_a_table_of_another_form_is_said(tmp_path, folder):
    (folder / "table.json").write_text('{"lines": [{}], "gains": [], "protocols": {}}')
    text = page(tmp_path, folder)
    assert "table.json cannot be read, it lacks &#x27;dataset&#x27;" in text
    write_evaluation(folder / "simclr-cifar10-seed0", 1.0)
    assert "iclmsr reproduce table" in text
