# SPDX-License-Identifier: Apache-2.0
import re

import pytest
from report_runs import write_run

from iclmsr.files import write_json
from iclmsr.report.groups import group
from iclmsr.report.reading import collect
from iclmsr.report.studies import challenge, study_sections


def result(linear, knn=None):
    return {"linear": linear, "knn": linear - 5 if knn is None else knn}


def cells(text):
    rows = re.findall(r"<tr>(.*?)</tr>", text, re.DOTALL)
    return {c[0]: c[1:] for c in (re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", r) for r in rows)}


def sections_of(path):
    return "".join(study_sections(collect([path]).studies))


def test_four_settings(tmp_path):
    rows = [
        {"base": "simclr", "arm": arm, "seed": seed, "train": train, "run": "r",
         "results": {"full": result(base + seed), "foreground": result(base - 20 + seed)}}
        for arm in ("plain", "msr") for seed in (0, 2)
        for train, base in (("full", 70), ("foreground", 60))
    ]  # fmt: skip
    write_json(tmp_path / "study.json", {"study": "four-settings", "filler": "mean", "rows": rows})
    text = sections_of(tmp_path)
    found = cells(text)
    names = ["full → full", "full → foreground", "foreground → full", "foreground → foreground"]
    assert found[""] == [*names, "seeds"]
    expected = ["71.0 ± 1.4", "51.0 ± 1.4", "61.0 ± 1.4", "41.0 ± 1.4", "2"]
    assert found["simclr, plain"] == found["simclr, msr"] == expected
    assert "a foreground lies on mean" in text
    assert "full → full, plain: 71 ± 1.41, 2 seeds" in text
    assert "full → full, plain: 66 ± 1.41, 2 seeds" in text  # 5-nn
    assert text.count("<figure") == 2


def row(seed, value=None, **measures):
    known = {"base": "byol", "arm": "msr", "seed": seed, "run": "r", "measures": measures}
    known["results"] = {"original": result(50 + seed), "only_fg": result(40 + seed)}
    return known if value is None else {**known, "value": value}


def test_comparison(tmp_path):
    rows = [row(0, bg_gap=6.0, worst_group=10.0), row(1, bg_gap=8.0, worst_group=12.0)]
    value = {"study": "comparison", "settings": {"split": "val"}, "rows": rows}
    write_json(tmp_path / "comparison.json", value)
    text = sections_of(tmp_path)
    assert "Background challenge, split val" in text
    assert cells(text)["byol, msr"] == ["50.5 ± 0.7", "40.5 ± 0.7", "2"]
    assert "BG-gap" in text
    assert "byol, msr: 7 ± 1.41, 2 seeds" in text
    assert "Worst group" in text
    assert "Foreground drop" not in text


def test_sweep_over_numbers_is_a_line_and_over_words_are_dots(tmp_path):
    rows = [row(seed, value, bg_gap=value) for seed in (0, 1) for value in (0.1, 1.0, 10.0)]
    write_json(tmp_path / "sweep.json", {"study": "sweep", "axis": "msr.lr", "rows": rows})
    text = sections_of(tmp_path)
    assert "Over msr.lr" in text
    assert text.count("data-lines") == 3  # original, only_fg, bg_gap
    assert "&quot;points&quot;:[[0.1,0.1],[1.0,1.0],[10.0,10.0]]" in text
    assert ", true]" in text  # from 0.1 to 10 is drawn by ratios
    plain = [{**row(seed), "arm": "plain"} for seed in (0, 1)]
    value = {"study": "sweep-msr.lr", "axis": "msr.lr", "rows": [*rows, *plain]}
    write_json(tmp_path / "sweep.json", value)
    assert "byol, plain&quot;,&quot;points&quot;:[[0.1,50.5],[10.0,50.5]]" in sections_of(tmp_path)
    words = [row(0, value) for value in ("sigmoid", "softmax")]
    write_json(tmp_path / "sweep.json", {"study": "sweep", "axis": "msr.bound", "rows": words})
    text = sections_of(tmp_path)
    assert "data-lines" not in text
    assert "softmax, msr: 50" in text


def test_rows_that_miss_something(tmp_path):
    rows = [{"base": "b", "arm": "a", "seed": 0, "train": "full", "results": {"full": {}}}]
    write_json(tmp_path / "study.json", {"study": "four-settings", "rows": rows})
    assert cells(sections_of(tmp_path))["b, a"] == ["-", "-", "-", "-", "1"]


@pytest.mark.parametrize("file", ["study.json", "comparison.json", "sweep-msr.lr.json"])
def test_runs_in_a_study_are_reported_with_it(tmp_path, file):
    write_json(tmp_path / "other.json", [1])
    write_json(tmp_path / file, {"study": file.removesuffix(".json"), "rows": []})
    write_run(tmp_path / "runs" / "one")
    found = collect([tmp_path])
    assert [run.name for run in found.runs] == ["one"]
    assert list(found.studies[0].results) == [file]


def test_measures_of_each_classifier_and_unknown_ones(tmp_path):
    rows = [row(s, bg_gap={"linear": 4.0, "knn": 6.0}, swap_cosine=0.5, note="x") for s in (0, 1)]
    write_json(tmp_path / "c.json", {"study": "comparison", "rows": rows, "missing": ["cell"]})
    text = sections_of(tmp_path)
    titles = re.findall(r"<figcaption>(.*?)</figcaption>", text)
    assert titles[:3] == ["BG-gap, linear probe", "BG-gap, 5-nn", "swap cosine"]
    assert "byol, msr: 6 ± 0, 2 seeds" in text
    assert "1 runs of the study are not done yet" in text


def test_the_challenge_of_runs(tmp_path):
    for seed in (0, 1):
        run = write_run(tmp_path / str(seed), seed=seed)
        measures = {"bg_gap": {"linear": 3.0 + 2 * seed}}
        results = {"original": result(60 + 2 * seed)}
        write_json(run / "backgrounds.json", {"results": results, "measures": measures})
    text = challenge(group(collect([tmp_path]).runs))
    assert "simclr, encoder: 4 ± 1.41, 2 seeds" in text
    assert cells(text)["simclr, encoder"] == ["61.0 ± 1.4", "2"]
