# SPDX-License-Identifier: Apache-2.0
"""The examples run, MSR is five lines in each, and their assertions can fail."""

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from iclmsr.regularizer import MetaSemanticRegularizer

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))
each_example = pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
LINE = re.compile(r"loss \d+\.\d{4}, the regularizer's weights moved by up to 0\.\d*[1-9]\d*")


LIGHTNING = pytest.mark.filterwarnings(  # of its own making, or of a data set this small
    "ignore:.isinstance.treespec, LeafSpec:FutureWarning",
    "ignore:The '.*dataloader' does not have many workers:UserWarning",
)


def load(path):
    spec = importlib.util.spec_from_file_location(f"example_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_there_are_three():
    assert len(EXAMPLES) == 3


@each_example
def test_runs_and_reports(path, tmp_path):
    done = subprocess.run(
        [sys.executable, str(path), "--steps", "3", "--batch-size", "8"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert LINE.fullmatch(done.stdout.splitlines()[-1])


@each_example
def test_only_the_regularizer_is_imported_from_the_package(path):
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    froms = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    assert not {name for name in names if name.startswith("iclmsr")}
    (ours,) = [node for node in froms if node.module.startswith("iclmsr")]
    assert ours.module == "iclmsr.regularizer"
    assert [alias.name for alias in ours.names] == ["MetaSemanticRegularizer"]


@each_example
def test_msr_is_five_lines_of_one_statement_each(path):
    source = path.read_text()
    marked = {
        number: int(found[1])
        for number, line in enumerate(source.splitlines(), 1)
        if (found := re.search(r"# MSR (\d)$", line))
    }
    assert list(marked.values()) == [1, 2, 3, 4, 5]
    statements = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.stmt)]
    for number in marked:
        (statement,) = [node for node in statements if node.lineno == number]
        assert statement.end_lineno == number


@each_example
def test_no_other_line_of_the_loop_knows_of_it(path):
    others = [
        line
        for line in path.read_text().split('"""', 2)[2].splitlines()
        if re.search(r"\b(msr|psi\w*|meta_backward)\b|MetaSemantic", line)
        and not re.search(r"# (MSR \d|check)$", line)
    ]
    assert others == []


def one_forward_too_many(self, model, views, loss, **options):
    model(views[0])
    return GENUINE(self, model, views, loss, **options)


def statistics_moved_by_virtual_passes(self, model, views, loss, **options):
    outer = GENUINE(self, model, views, loss, **options)
    for name, buffer in model.named_buffers():
        if name.endswith("num_batches_tracked"):
            buffer += 2 * len(views)
    return outer


def no_gradient(self, model, views, loss, **options):
    return torch.zeros(())


def zero_gradient(self, model, views, loss, **options):
    return GENUINE(self, model, views, loss, **{**options, "lr": 0.0})


GENUINE = MetaSemanticRegularizer.meta_backward
FAULTS = [
    (one_forward_too_many, "batch norm counted"),
    (statistics_moved_by_virtual_passes, "batch norm counted"),
    (no_gradient, "did not move"),
    (zero_gradient, "did not move"),
]


@LIGHTNING
@each_example
@pytest.mark.parametrize(
    ("fault", "message"), FAULTS, ids=lambda value: getattr(value, "__name__", "")
)
def test_assertions_can_fail(path, fault, message, monkeypatch):
    monkeypatch.setattr(MetaSemanticRegularizer, "meta_backward", fault)
    with torch.random.fork_rng(devices=[]), pytest.raises(AssertionError, match=message):
        load(path).main(["--steps", "1", "--batch-size", "4"])
