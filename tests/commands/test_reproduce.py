# SPDX-License-Identifier: Apache-2.0
import subprocess
import sys

import pytest

from iclmsr import cli


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("table --methods simclr", "where does cifar10 lie? pass --root cifar10=PATH"),
        ("table --methods simclrr --datasets stl10", "unknown method 'simclrr': did you mean"),
        ("table --datasets cifar11", "unknown data set 'cifar11': did you mean"),
        ("table --root x", "--root must be DATASET=PATH, got 'x'"),
        ("table --datasets stl10 --root cifar11=x", "unknown data set 'cifar11': did you mean"),
        ("table --datasets stl10 --root cifar10=x", "where does stl10 lie?"),
        ("table --datasets stl10 --root x --seeds 1.5", "--seeds must be whole numbers >= 0"),
        ("table --datasets stl10 --root x --epochs 0", "epochs must be >= 1, got 0"),
        ("table --datasets stl10 --root x --epoch 3", "unknown option '--epoch': did you mean"),
        ("table --datasets stl10 --root x --data.root y", "--data.root is decided by the grid"),
        ("table --datasets stl10 --root x --seed 1", "use --seeds instead"),
        ("table --datasets stl10 --root x --msr.enabled", "use --methods METHOD+msr instead"),
        ("table --datasets stl10 --root nowhere", "nowhere does not exist"),
        ("table --table-only --out nowhere", "nowhere is not a folder: nothing has been run"),
        ("table --table-only --epochs 3 more", "unknown argument 'more'"),
        ("show nowhere", "nowhere is not a folder: nothing has been run there yet"),
        ("show --format word", "invalid choice: 'word'"),
        ("tables", "unknown command 'reproduce tables': did you mean 'table'"),
    ],
)
def test_mistakes(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["reproduce", *words.split()]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_an_empty_folder_shows_the_papers_numbers_alone(capsys, tmp_path):
    assert cli.main(["reproduce", "show", str(tmp_path), "--format", "csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 45
    assert lines[1] == "cifar10,simclr,,,,91.8,,,,88.42,,,,,"
    part = ["--methods", "byol,relic", "--datasets", "stl10", "--format", "csv"]
    assert cli.main(["reproduce", "show", str(tmp_path), *part]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[:11] for line in lines[1:]] == ["stl10,byol,", "stl10,relic"]


def test_help_is_instant():
    script = (
        "import sys, iclmsr.cli as cli; cli.main(['reproduce', 'table', '--help']); "
        "assert not {'torch', 'numpy', 'tyro', 'rich'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.DEVNULL)
