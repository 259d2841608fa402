# SPDX-License-Identifier: Apache-2.0
"""What the README and the docs tell people to type works."""

import os
import re
import shlex
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision.models import resnet18

from iclmsr import cli
from iclmsr.config import PretrainConfig
from iclmsr.data.sources import DataConfig
from iclmsr.data.synthetic import SyntheticConfig
from iclmsr.data.views import ViewConfig
from iclmsr.embed.files import EmbedConfig, embed_files
from iclmsr.methods.simclr import SimCLRConfig
from iclmsr.networks import EncoderConfig
from iclmsr.pretrain import pretrain
from iclmsr.recipes import RECIPES

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


class Understood(Exception):
    """A command has read its words and begins with what takes data or hours."""


def stop(*_, **__):
    raise Understood


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder in which the commands find what they name: one run, and few images."""
    world = tmp_path_factory.mktemp("world")
    config = PretrainConfig(
        epochs=1,
        batch_size=8,
        method=SimCLRConfig(hidden_dim=8, embedding_dim=4),
        encoder=EncoderConfig(stem="imagenet"),  # others know no smaller one
        data=DataConfig(source="synthetic", synthetic=SyntheticConfig(train=24, test=8)),
        views=ViewConfig(size=32),
    )
    pretrain(config, world / "runs" / "first")
    for name in ("plain", "plain-0", "plain-1", "msr-0", "msr-1", "mine"):
        copy(world / "runs" / "first", world / "runs" / name)
    for name in ("plain", "msr", "bg-random"):
        copy(world / "runs" / "first", world / "runs" / "arms" / "cells" / f"simclr_{name}_seed-0")
    (world / "runs" / "paper-table").mkdir()
    draw = np.random.default_rng(0)
    for folder in ("IMAGES", "my/images/train/a", "my/images/train/b", "my/images/test/a",
                   "my/images/test/b", "PATH", "CIFAR10/train/a", "CIFAR10/test/a"):  # fmt: skip
        for number in range(4):
            path = world / folder / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw.integers(0, 256, (32, 32, 3), np.uint8)).save(path)
            inside = path.relative_to(world)
            if inside.parts[:2] == ("my", "images"):
                mask = world / "my" / "images" / "masks" / inside.relative_to("my/images")
                mask.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(255 * (draw.random((32, 32)) < 0.5).astype(np.uint8)).save(mask)
    Image.open(world / "IMAGES" / "0.png").save(world / "cat.jpg")
    with tarfile.open(world / "images.tar", "w") as archive:
        archive.add(world / "IMAGES", "IMAGES")
    weights = resnet18().state_dict()
    torch.save(weights, world / "weights.pth")
    save_file(weights, world / "weights.safetensors")
    embed_files(
        world / "runs" / "first", world / "IMAGES", world / "features.parquet", EmbedConfig()
    )
    (world / "docs").symlink_to(ROOT / "docs")
    return world


def copy(start, end):
    """A folder again; nobody writes into a file that is there, so it may be the same file."""
    shutil.copytree(start, end, copy_function=os.link, symlinks=True)


WORK = """
    pretrain.pretrain pretrain.resume demo.demo masks.files.make_masks reproduce.reproduce
    data.compose.compose data.sources.prepare data.unpack.unpack study.backgrounds.challenge
    study.four_settings.four_settings study.comparison.compare study.comparison.sweep
    study.pictures.draw_pictures evaluate.judge.fine_tune
""".split()  # noqa: SIM905
"""What takes data or hours, below ``iclmsr``."""
ELSEWHERE = re.compile(r"--data\.source (stl10|cifar10)|--umap")
"""Words of commands that need data or a package of others."""
STOPPED = re.compile(
    r"pretrain|demo|masks|data (compose|prepare|unpack)|study (?!show)"
    r"|reproduce table (?!--table-only)|.*--fine-tune"
)
"""Commands that stop there."""


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_commands_do_what_they_say(page, line, world, tmp_path, monkeypatch, capsys):
    """All of them on a tiny run; those that take data or hours up to where these are needed."""
    words = shlex.split(line, comments=True)
    words = words[words.index("iclmsr") + 1 :]
    for sign in ("&", ">", "|"):
        words = words[: words.index(sign)] if sign in words else words
    here = tmp_path / "world"
    copy(world, here)
    monkeypatch.chdir(here)
    if words[0] != "search":
        Path("features.parquet").unlink()
    for name in WORK:
        monkeypatch.setattr(f"iclmsr.{name}", stop)
    text = " ".join(words)
    if ELSEWHERE.search(text):
        monkeypatch.setattr("iclmsr.evaluate.evaluate", stop)
        monkeypatch.setattr("iclmsr.gallery.make_gallery", stop)
    if STOPPED.match(text) or ELSEWHERE.search(text):
        with pytest.raises(Understood):
            cli.main(words)
    else:
        assert cli.main(words) == 0, capsys.readouterr().err


def test_every_verb_is_shown_somewhere():
    assert {verb for verb in cli.VERBS if not any(f" {verb}" in line for _, line in COMMANDS)} == {
        "recipes"
    }


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
