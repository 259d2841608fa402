# SPDX-License-Identifier: Apache-2.0
"""Every format holds the same numbers, and what was not run is empty in all of them."""

import csv
import io
import json
import re

import pytest
from grids import example, grid, run

from iclmsr.reproduce.cells import ROWS
from iclmsr.reproduce.summary import summarize
from iclmsr.reproduce.text import FORMATS

TABLE = example()


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_says_what_the_papers_numbers_are(form):
    plain = re.sub(r"\s+", " ", FORMATS[form](TABLE))
    assert "copied ReSSL's numbers from ReSSL's authors: 200 epochs of SGD, and a probe" in plain
    assert "re-runs by its authors with settings that they do not disclose" in plain
    assert "LMCL here is a re-implementation" in plain
    if form == "csv":
        rows = list(csv.DictReader(io.StringIO(FORMATS[form](TABLE))))
        marked = {row["method"]: row["paper_note"] for row in rows}
        assert "SGD" in marked["ressl"]
        assert "re-runs" in marked["relic"]
        assert marked["byol"] == ""
        return
    if form == "json":
        plain = json.dumps(json.loads(plain), ensure_ascii=False)
    one, two = ("$^1$", "$^2$") if form == "latex" else "¹²"
    for title in ("ReSSL", "ReSSL + MSR"):
        assert f"{title}{one}" in plain
    for title in ("LMCL", "LMCL + MSR", "SSL-HSIC", "RELIC"):
        assert f"{title}{two}" in plain
    assert not re.search(r"BYOL[¹²$]", plain)
    assert "ReSSL" not in FORMATS[form](summarize(grid(), ROWS[:1]))


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_says_what_stands_beside_the_numbers(form):
    text = FORMATS[form](TABLE)
    plain = re.sub(r"\s+", " ", text)
    assert "epochs 10 instead of 1,000; judged by w-mse-2021" in plain
    if form != "csv":
        assert "byol-cifar10-seed0" in plain
        assert "dino_small" in plain
        assert "config.json is not valid" in plain


def test_terminal():
    rows = [line.split() for line in FORMATS["terminal"](TABLE).splitlines()]
    whole, short = (row for row in rows if row[:1] == ["SimCLR"] and row[1] in "AB")
    if whole[3] != "1,000":
        whole, short = short, whole
    assert " ".join(whole[2:]) == ("2 1,000 91.80 91.00 ± 1.41 -0.80 88.42 80.00 ± 0.00 -8.42")
    assert short[2:] == ["1", "10", "91.80", "40.00", "-51.80", "88.42", "30.00", "-58.42"]
    assert ["BYOL", "91.73", "89.45"] in rows
    (gain,) = (row for row in rows if row[:2] == ["cifar10", "SimCLR"])
    assert gain[3:] == ["1", "+0.54", "+3.00", "+1.05", "+1.00"]
    assert max(map(len, FORMATS["terminal"](TABLE).splitlines())) <= 110


def test_markdown():
    text = FORMATS["markdown"](TABLE)
    assert "| 2 | 1,000 | 91.80 | 91.00 ± 1.41 | -0.80 | 88.42 | 80.00 ± 0.00 | -8.42 |" in text
    assert "| BYOL |  |  |  | 91.73 |  |  | 89.45 |  |  |" in text
    for block in re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE):
        assert len({line.count("|") for line in block.splitlines()}) == 1


def test_a_difference_that_rounds_to_nothing_has_no_minus():
    text = FORMATS["markdown"](summarize(grid(run("simclr", 0, 91.799, 88.419))))
    assert "| 91.80 | 91.80 | +0.00 | 88.42 | 88.42 | +0.00 |" in text


def test_csv_holds_numbers_in_full():
    rows = list(csv.DictReader(io.StringIO(FORMATS["csv"](TABLE))))
    assert len(rows) == 45  # one cell was run in two protocols
    (whole,) = (row for row in rows if row["seeds"] == "0 1")
    assert float(whole["linear_sd"]) == pytest.approx(2**0.5)
    assert float(whole["linear_difference"]) == pytest.approx(-0.8)
    (empty,) = (row for row in rows if (row["method"], row["dataset"]) == ("relic", "stl10"))
    assert [empty[name] for name in ("seeds", "epochs", "linear_mean", "knn5_sd")] == [""] * 4
    assert empty["linear_paper"] == "91.15"


def test_latex_has_ten_columns_and_no_bare_signs():
    lines = FORMATS["latex"](TABLE).splitlines()
    rows = [line for line in lines if line.endswith(r"\\") and "multicolumn" not in line]
    assert len(rows) == 1 + 45
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {9}
    assert any(r"91.00 $\pm$ 1.41 & -0.80" in row for row in rows)
    for line in lines:
        assert line.startswith("%") or not re.search(r"(?<!\\)[%_#±]", line)


def test_json():
    value = json.loads(FORMATS["json"](TABLE))
    assert set(value) == {
        "lines", "gains", "protocols", "notes", "unfinished", "foreign", "damaged"
    }  # fmt: skip
    (whole,) = (line for line in value["lines"] if line["seeds"] == [0, 1])
    assert whole["row"] == {"name": "simclr", "title": "SimCLR"}
    assert whole["linear"]["values"] == [90.0, 92.0]
    assert whole["linear"]["mean"] == 91.0
    assert value["gains"][0]["knn"]["mean"] == 1.0
    assert value["unfinished"] == [["byol-cifar10-seed0", 3, 1000]]
