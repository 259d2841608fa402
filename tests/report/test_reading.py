# SPDX-License-Identifier: Apache-2.0
"""One bad file does not take the page away from the others."""

import pytest
from report_runs import write_run

from iclmsr.commands.report import report_command
from iclmsr.errors import IclmsrError
from iclmsr.report import write_report
from iclmsr.report.reading import collect


@pytest.mark.parametrize(
    "file",
    ["config.json", "environment.json", "metrics.jsonl", "evaluation.json", "weights.jsonl",
     "gallery/gallery.json", "backgrounds.json", "evaluation-stl10.json"],
)  # fmt: skip
def test_a_bad_run_is_left_out_and_said(tmp_path, file, capsys):
    write_run(tmp_path / "good")
    bad = write_run(tmp_path / "bad", msr=True, gallery=20)
    (bad / file).write_text("{\n")
    found = collect([tmp_path])
    assert [run.name for run in found.runs] == ["good"]
    assert list(found.unreadable) == [bad.resolve()]
    out = tmp_path / "report.html"
    report_command([str(tmp_path), "-o", str(out), "--no-gallery"])
    assert f"left out: {bad.resolve()} cannot be read: {bad / file}" in capsys.readouterr().out
    assert f"{bad.resolve()} cannot be read: {bad / file}" in out.read_text()
    with pytest.raises(IclmsrError, match=r"bad cannot be read: .*is not "):
        collect([bad])


def test_a_bad_study_or_table_is_left_out_and_said(tmp_path):
    write_run(tmp_path / "good")
    for name in ("table.json", "study.json"):
        (tmp_path / name).write_text("{")
    found = collect([tmp_path])
    assert [path.name for path in found.unreadable] == ["study.json", "table.json"]
    write_report([tmp_path], tmp_path / "report.html")
    assert "study.json cannot be read" in (tmp_path / "report.html").read_text()
