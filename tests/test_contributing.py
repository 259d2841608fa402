# SPDX-License-Identifier: Apache-2.0
"""The worked example of CONTRIBUTING.md, made from that page and run in a copy of the package."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text()


def test_a_method_takes_three_files(tmp_path):
    assert PAGE.startswith("# Contributing\n\n## Add a method: 3 files\n")
    method, test = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (patch,) = re.findall(r"```diff\n(.*?)```", PAGE, re.DOTALL)
    shutil.copytree(ROOT / "src/iclmsr", tmp_path / "src/iclmsr")
    shutil.copytree(ROOT / "tests/contract", tmp_path / "tests/contract")
    for name in ("conftest.py", "bits.py"):
        shutil.copy(ROOT / "tests" / name, tmp_path / "tests")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "src/iclmsr/methods/align_uniform.py").write_text(method)
    (tmp_path / "tests/methods").mkdir()
    (tmp_path / "tests/methods/test_align_uniform.py").write_text(test)
    apply(patch, tmp_path / "src/iclmsr/methods/__init__.py")

    def run(*command):
        environment = {**os.environ, "PYTHONPATH": str(tmp_path / "src")}
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert '"uniformity": 1.0' in run("iclmsr", "recipes", "align-uniform-msr-stl10")
    said = run(
        "pytest", "-m", "not long", "-k", "align", "tests", "src/iclmsr/methods/align_uniform.py"
    )
    assert int(re.findall(r"(\d+) passed", said)[0]) >= 15, said


def apply(patch, path):
    """Puts each hunk's new lines where its old ones stand."""
    text = path.read_text()
    for hunk in patch.strip("\n").split("\n...\n"):
        old, new = (
            "\n".join(line[1:] for line in hunk.splitlines() if line[0] in marks)
            for marks in (" ", " +")
        )
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path.write_text(text)
