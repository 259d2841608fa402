# SPDX-License-Identifier: Apache-2.0
"""The how-to pages: what they tell people to write works, and their links lead somewhere."""

import re
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parent.parent / "docs" / "how-to"
PAGES = sorted(FOLDER.glob("*.md"))
MSR = FOLDER / "msr-in-your-loop.md"


def blocks(page):
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda p: p.stem)
def test_python_blocks_run_one_after_the_other(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "how_to"}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for number, block in enumerate(blocks(page), 1):
            exec(compile(block, f"{page.name}, block {number}", "exec"), namespace)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        assert "://" in link or (page.parent / link).exists(), link


def test_msr_in_your_loop_comes_first():
    index = (FOLDER / "README.md").read_text()
    assert re.findall(r"\]\(([^)]+\.md)\)", index)[0] == MSR.name


def test_the_page_needs_five_lines_and_names_the_examples():
    text = MSR.read_text()
    assert re.findall(r"# MSR (\d)\b", blocks(MSR)[0]) == list("12345")
    for example in (FOLDER.parent.parent / "examples").glob("*.py"):
        assert f"examples/{example.name}" in text
