# SPDX-License-Identifier: Apache-2.0
import dataclasses
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from iclmsr import cli
from iclmsr.config import PretrainConfig
from iclmsr.masks.named import MaskConfig
from iclmsr.options import parse_options
from iclmsr.recipes import recipe

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "masks.md"


def run(capsys, *words):
    code = cli.main(["masks", *map(str, words)])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


@pytest.fixture
def images(tmp_path):
    pixels = np.full((24, 24, 3), 40, np.uint8)
    pixels[6:18, 6:18] = 220, 30, 30
    (tmp_path / "images").mkdir()
    for number in range(3):
        Image.fromarray(pixels).save(tmp_path / "images" / f"{number}.png")
    return tmp_path / "images"


def test_masks_and_again(images, tmp_path, capsys):
    code, out, err = run(capsys, images, tmp_path / "out")
    assert (code, err) == (0, "")
    assert out == (
        "masks: 3 made, 0 kept, 0 failed\n"
        "foreground: 25.0 % on average; 0 of the new masks have none, 0 have nothing else\n"
    )
    assert np.asarray(Image.open(tmp_path / "out" / "2.png"))[6:18, 6:18].min() == 255
    (tmp_path / "out" / "1.png").unlink()
    assert run(capsys, images, tmp_path / "out")[1].startswith("masks: 1 made, 2 kept, 0 failed\n")
    words = (images, tmp_path / "out", "--overwrite", "--workers", "2", "--method", "saliency")
    assert run(capsys, *words)[1].startswith("masks: 3 made, 0 kept, 0 failed\n")


def test_failures_are_listed_and_the_exit_code_says_so(images, tmp_path, capsys):
    (images / "1.png").write_text("text")
    code, out, err = run(capsys, images, tmp_path / "out")
    assert code == 2
    assert out.splitlines()[0] == "masks: 2 made, 0 kept, 1 failed"
    assert out.splitlines()[2] == "  1.png does not decode (no image of a known format)"
    assert err == "error: 1 image has no mask: mend or remove what failed, and run it again\n"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.png", "2.png"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "masks begins with two folders: iclmsr masks IMAGES OUT [options]"),
        ("IMAGES", "masks begins with two folders"),
        ("IMAGES --method saliency OUT", "masks begins with two folders"),
        ("IMAGES OUT stray", "unknown argument 'stray'"),
        ("IMAGES OUT --metod saliency", "unknown option '--metod': did you mean '--method'"),
        ("IMAGES OUT --method onnx", "--method onnx needs a model: pass --model FILE.onnx"),
        ("IMAGES OUT --method sailency", "unknown --method 'sailency': did you mean 'saliency'?"),
        ("IMAGES OUT --workers 0", "--workers must be >= 1, got 0"),
        ("/nowhere OUT", "there is no folder /nowhere"),
        ("IMAGES IMAGES", "would lie between the images"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(words, message, images, tmp_path, capsys):
    words = words.replace("IMAGES", str(images)).replace("OUT", str(tmp_path / "out"))
    code, out, err = run(capsys, *words.split())
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1
    assert message in err
    assert not (tmp_path / "out").exists()


def test_without_opencv(images, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    code, _, err = run(capsys, images, tmp_path / "out")
    assert code == 2
    assert len(err.splitlines()) == 1
    assert "pip install 'iclmsr[masks]'" in err


def test_help_names_every_option_and_maker(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["masks", "--help"])
    out = capsys.readouterr().out
    assert stop.value.code == 0
    for field in dataclasses.fields(MaskConfig):
        assert f"--{field.name.replace('_', '-')} " in out.replace(",", " ")
    for word in ("IMAGES OUT", "grabcut", "saliency", "onnx", "package.module:function"):
        assert word in out


def commands():
    blocks = re.findall(r"^```\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.startswith("iclmsr ")]


def test_the_pages_commands_are_understood():
    verbs = [words[1] for words in commands()]
    assert verbs.count("masks") >= 4
    assert "pretrain" in verbs
    for _, verb, *words in commands():
        if verb == "masks":
            parse_options(MaskConfig, MaskConfig(), words[2:])
        elif verb == "pretrain":
            parse_options(PretrainConfig, recipe(words[0]).config, words[1:])
        else:
            assert words[:1] == ["unpack"]  # run by tests/test_readme.py
