# SPDX-License-Identifier: Apache-2.0
import json
from dataclasses import replace

import torch
from PIL import Image

from iclmsr import demo as module
from iclmsr.data.synthetic import SyntheticConfig
from iclmsr.evaluate.features import Features
from iclmsr.networks import EncoderConfig
from iclmsr.recipes import RECIPES


def test_demo_pretrains_judges_and_draws(tmp_path, monkeypatch, capsys):
    whole = RECIPES[module.RECIPE]
    small = replace(
        whole.config,
        epochs=1,
        batch_size=32,
        encoder=EncoderConfig(stem="small", width=2),
        data=replace(whole.config.data, synthetic=SyntheticConfig(train=80, test=40)),
    )
    monkeypatch.setitem(RECIPES, module.RECIPE, replace(whole, config=small))
    asked = []
    real = module.judge_features

    def judge(train, test, config):
        asked.append((train, test, real(train, test, config)))
        return asked[-1][2]

    monkeypatch.setattr(module, "judge_features", judge)
    module.demo(tmp_path / "run")
    out = capsys.readouterr().out
    rows = {
        name: line for name in module.NAMES.values() for line in out.splitlines() if name in line
    }
    standard = json.loads((tmp_path / "run" / "evaluation.json").read_text())["results"]
    for (name, shown), (train, test, swapped) in zip(module.NAMES.items(), asked, strict=True):
        assert isinstance(train, Features)
        assert (len(train.labels), len(test.labels)) == (80, 40)
        cells = [float(cell) for cell in rows[shown].replace("│", " ").split()[-4:]]
        usual = standard[name]
        expected = [usual["linear"]["top1"], swapped["linear"]["top1"]]
        expected += [usual["knn"]["top1"], swapped["knn"]["top1"]]
        assert cells == [round(value, 1) for value in expected]
    assert not torch.equal(asked[1][0].features, asked[2][0].features)  # untrained and trained
    with Image.open(tmp_path / "run" / "demo.png") as picture:
        assert picture.size[0] > 1000
    assert f"picture: {tmp_path / 'run' / 'demo.png'}" in out
