# SPDX-License-Identifier: Apache-2.0
"""What the README and the docs tell people to type works."""

import re
import shlex
from pathlib import Path

import pytest

from iclmsr import cli
from iclmsr.commands.data import COMMANDS as COMMANDS_OF_DATA
from iclmsr.commands.reproduce import COMMANDS as COMMANDS_OF_REPRODUCE
from iclmsr.commands.reproduce import ask
from iclmsr.config import PretrainConfig
from iclmsr.embed.files import EmbedConfig
from iclmsr.evaluate import EvaluateConfig
from iclmsr.export import FORMATS
from iclmsr.masks.named import MaskConfig
from iclmsr.options import parse_options
from iclmsr.recipes import RECIPES, recipe

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMANDS = [
    (page.name, line.removeprefix("$ ").strip())
    for page in PAGES
    for block in re.findall(r"```\n(.*?)```", page.read_text(), re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
    if re.match(r"(\$ )?((\w+=\S+ )+|(torchrun|srun) .*-m )?iclmsr ", line)
]


def test_python_blocks_run():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_commands_are_understood(page, line):
    words = shlex.split(line, comments=True)
    words = words[words.index("iclmsr") + 1 :]
    for sign in ("&", ">", "|"):
        words = words[: words.index(sign)] if sign in words else words
    verb, words = words[0], words[1:]
    assert verb in cli.VERBS
    if verb == "pretrain":
        words = without(words, "--out")
        if words[0] in ("--resume", "--config"):
            words = words[2:]
            config = PretrainConfig()
        else:
            config = recipe(words.pop(0)).config
        parse_options(PretrainConfig, config, words)
    elif verb == "data":
        assert words[0] in COMMANDS_OF_DATA
    elif verb == "masks":
        parse_options(MaskConfig, MaskConfig(), words[2:])
    elif verb == "export":
        assert words[words.index("--format") + 1] in FORMATS
    elif verb == "embed":
        parse_options(EmbedConfig, EmbedConfig(), without(words[2:], "-o"))
    elif verb == "evaluate":
        parse_options(EvaluateConfig, EvaluateConfig(), words[1:])
    elif verb == "reproduce" and words[0] == "table":
        ask(words[1:])
    elif verb == "reproduce":
        assert words[0] in COMMANDS_OF_REPRODUCE
    elif verb == "recipes":
        recipe(words[0])


def without(words, option):
    if option not in words:
        return words
    at = words.index(option)
    return words[:at] + words[at + 2 :]


def test_there_are_commands_to_check():
    assert len(COMMANDS) >= 4
    assert {shlex.split(line)[1] for _, line in COMMANDS} >= {"pretrain", "evaluate"}


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_says_source_cost_and_expectation(name):
    value = RECIPES[name]
    assert value.config.recipe == name
    assert ("-msr-" in name) == value.config.msr.enabled
    assert value.source
    assert value.cost
    assert value.expected


@pytest.mark.parametrize("path", sorted((ROOT / "src").rglob("*.py")), ids=lambda path: path.name)
def test_source_files_are_licensed_and_short(path):
    lines = path.read_text().splitlines()
    assert lines[0] == "# SPDX-License-Identifier: Apache-2.0"
    assert len(lines) <= 300, f"{path.name} asks to be split"
