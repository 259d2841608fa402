# SPDX-License-Identifier: Apache-2.0
import json
import subprocess
import sys

from report_runs import write_run

from iclmsr import cli


def test_a_table(tmp_path, capsys):
    write_run(tmp_path / "done", linear=61.24, knn=52.0)
    write_run(tmp_path / "deep" / "half", method="byol", source="stl10", done=2, seed=3)
    (tmp_path / "deep" / "half" / "evaluation.json").unlink()
    bad = write_run(tmp_path / "bad")
    (bad / "config.json").write_text("{")
    assert cli.main(["runs", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    [done] = [line for line in lines if "finished" in line]
    assert all(cell in done for cell in ("simclr-cifar10", "4/4", "61.2 / 52.0"))
    [half] = [line for line in lines if "resumable" in line]
    assert all(cell in half for cell in ("deep/half", "byol-stl10", "stl10", "2/4", " 3 "))
    assert any(line.startswith(f"{bad}: ") and "not valid JSON" in line for line in lines)


def test_json(tmp_path, capsys):
    write_run(tmp_path / "done")
    cli.main(["runs", str(tmp_path), "--json"])
    [found] = json.loads(capsys.readouterr().out)
    assert found["state"] == "finished"
    assert found["path"] == str(tmp_path / "done")
    assert found["best"] == {"linear": 60.0, "knn": 50.0}


def test_no_runs(tmp_path, capsys):
    cli.main(["runs", str(tmp_path)])
    assert f"no runs in {tmp_path}" in capsys.readouterr().out
    assert cli.main(["runs", str(tmp_path / "x")]) == 2
    assert "is not a folder" in capsys.readouterr().err


def test_it_does_not_wait_for_torch(tmp_path):
    write_run(tmp_path / "done")
    script = (
        f"import sys; from iclmsr import cli; cli.main(['runs', {str(tmp_path)!r}]); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.DEVNULL)
