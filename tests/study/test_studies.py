# SPDX-License-Identifier: Apache-2.0
"""Whole studies on tiny runs: what they write, and that they go on where they were."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import nn

from iclmsr.config import MSRConfig, OptimizerConfig, PretrainConfig
from iclmsr.data.sources import DataConfig, load
from iclmsr.data.synthetic import SyntheticConfig
from iclmsr.data.views import ViewConfig
from iclmsr.encoders import LoadedEncoder, load_encoder
from iclmsr.errors import IclmsrError
from iclmsr.evaluate.protocol import LinearProbeConfig
from iclmsr.interruption import Interrupted
from iclmsr.methods.simclr import SimCLRConfig
from iclmsr.networks import EncoderConfig
from iclmsr.recipes import recipe
from iclmsr.study import backgrounds, cells, comparison
from iclmsr.study.arms import ARMS, arm, named_bases
from iclmsr.study.axis import swept
from iclmsr.study.backgrounds import VARIANTS, BackgroundsConfig, challenge
from iclmsr.study.comparison import compare, sweep
from iclmsr.study.four_settings import four_settings
from iclmsr.study.show import render

DATA = DataConfig(
    source="synthetic", image_size=16, synthetic=SyntheticConfig(train=48, val=40, test=40)
)
TINY = PretrainConfig(
    epochs=1,
    batch_size=8,
    method=SimCLRConfig(hidden_dim=8, embedding_dim=4),
    encoder=EncoderConfig(width=2),
    data=DATA,
    views=ViewConfig(size=16),
    msr=MSRConfig(strata=2, every_steps=2),
)
SETTINGS = BackgroundsConfig(
    data=DATA, grid=4, least=1, linear_probe=LinearProbeConfig(epochs=5, lr=0.1)
)


def silent(line):
    pass


def without_times(study):
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in study["rows"]]
    return {"rows": rows, "missing": study["missing"]}


def test_four_settings(tmp_path):
    found = four_settings({"simclr": TINY}, ["plain", "msr"], [0], tmp_path, SETTINGS, say=silent)
    assert [(row["arm"], row["train"]) for row in found["rows"]] == [
        ("plain", "full"),
        ("plain", "foreground"),
        ("msr", "full"),
        ("msr", "foreground"),
    ]
    for row in found["rows"]:
        assert set(row["results"]) == {"full", "foreground"}
        config = json.loads((tmp_path / row["run"] / "config.json").read_text())
        expected = "only_fg" if row["train"] == "foreground" else "original"
        assert config["data"]["variant"] == expected
        assert config["msr"]["enabled"] == (row["arm"] == "msr")
    assert found["filler"] == "gray"
    full, alone = (row["results"] for row in found["rows"][:2])
    term = found["interactions"][0]
    assert (term["base"], term["arm"], term["seed"]) == ("simclr", "plain", 0)
    for kind in ("linear", "knn"):
        drops = [results["full"][kind] - results["foreground"][kind] for results in (full, alone)]
        assert term[kind] == pytest.approx(drops[0] - drops[1])
    assert [one["arm"] for one in found["interactions"]] == ["plain", "msr"]


def test_comparison_is_made_once_and_goes_on(tmp_path):
    arms = ["plain", "msr-no-loss"]
    found = compare({"simclr": TINY}, arms, [0], tmp_path, SETTINGS, say=silent)
    assert {row["arm"] for row in found["rows"]} == set(arms)
    plain, no_loss = ((tmp_path / row["run"] / "encoder.safetensors") for row in found["rows"])
    assert plain.read_bytes() == no_loss.read_bytes(), "without L_do, MSR is the base method"
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    more = compare({"simclr": TINY}, arms, [0, 1], tmp_path, SETTINGS, say=silent)
    assert len(more["rows"]) == 4
    assert more["missing"] == []
    assert all(path.stat().st_mtime_ns == then for path, then in times.items())
    assert set(more["rows"][0]["results"]) == {*VARIANTS, "swapped"}


def test_a_study_that_was_killed_gives_the_same_table(tmp_path):
    whole = compare(
        {"simclr": TINY}, ["plain", "msr"], [0, 1], tmp_path / "a", SETTINGS, say=silent
    )
    code = (
        f"import sys; sys.path[:0] = [{os.path.dirname(__file__)!r}]\n"  # noqa: PTH120
        "from pathlib import Path\n"
        "import test_studies as t\n"
        "bases, arms = {'simclr': t.TINY}, ['plain', 'msr']\n"
        "t.compare(bases, arms, [0, 1], Path(sys.argv[1]), t.SETTINGS)\n"
    )
    cut = tmp_path / "b"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(cut)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while not list(cut.glob("cells/*/checkpoints/*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(cut.glob("cells/*")), "it was killed before it had begun"
    again = compare({"simclr": TINY}, ["plain", "msr"], [0, 1], cut, SETTINGS, say=silent)
    assert without_times(again) == without_times(whole)


def test_a_cell_that_another_process_makes_is_missing(tmp_path):
    from iclmsr.runs import RunFolder

    found = compare({"simclr": TINY}, ["plain"], [0], tmp_path, SETTINGS, say=silent)
    folder = tmp_path / found["rows"][0]["run"]
    (folder / "encoder.safetensors").unlink()
    (folder / "backgrounds-test.json").unlink()
    with RunFolder.open(folder).lock():
        busy = compare({"simclr": TINY}, ["plain"], [0], tmp_path, SETTINGS, say=silent)
    assert busy["rows"] == []
    assert busy["missing"] == ["simclr_plain_seed-0"]


def diverging(config):
    return replace(config, optimizer=OptimizerConfig(name="sgd", lr=1e30, warmup_steps=0))


def test_a_run_that_diverges_does_not_stop_the_others(tmp_path, capsys):
    """Of an arm, in its training; and when it is judged, of a run whose weights are broken."""
    bases = {"bad": diverging(TINY), "simclr": TINY}
    lines = []
    found = compare(bases, ["plain"], [0], tmp_path, SETTINGS, say=lines.append)
    assert [row["base"] for row in found["rows"]] == ["simclr"]
    assert found["missing"] == []
    assert list(found["failed"]) == ["bad_plain_seed-0"]
    assert found["failed"]["bad_plain_seed-0"].startswith("loss not finite at step ")
    assert json.loads((tmp_path / "comparison.json").read_text()) == found
    failed = tmp_path / "cells" / "bad_plain_seed-0"
    before = {path: path.stat().st_mtime_ns for path in failed.rglob("*")}
    again = compare(bases, ["plain"], [0], tmp_path, SETTINGS, say=lines.append)
    assert again["failed"] == found["failed"]
    assert f"bad_plain_seed-0 has failed before: remove {failed} to try again" in lines
    assert {path: path.stat().st_mtime_ns for path in failed.rglob("*")} == before
    with pytest.raises(IclmsrError, match="these runs have failed, .*: bad_plain_seed-0; bad_pl"):
        render(tmp_path)
    assert "SimCLR" in capsys.readouterr().out, "what is there is shown all the same"
    with pytest.raises(IclmsrError, match="bad_plain_seed-0 holds a run with other settings"):
        compare({**bases, "bad": TINY}, ["plain"], [0], tmp_path, SETTINGS, say=silent)
    shutil.rmtree(failed)
    mended = compare({**bases, "bad": TINY}, ["plain"], [0], tmp_path, SETTINGS, say=silent)
    assert mended["failed"] == {}
    assert len(mended["rows"]) == 2


def test_features_that_are_not_finite_are_a_failure(tmp_path, monkeypatch):
    def broken(folder):
        encoder = load_encoder(folder)
        with torch.no_grad():
            next(encoder.network.parameters()).fill_(torch.nan)
        return encoder

    monkeypatch.setattr(cells, "load_encoder", broken)
    found = compare({"simclr": TINY}, ["plain"], [0], tmp_path, SETTINGS, say=silent)
    assert "features hold NaN or infinity" in found["failed"]["simclr_plain_seed-0"]
    with pytest.raises(IclmsrError, match="these runs have failed"):
        render(tmp_path)


@pytest.mark.parametrize(
    "error",
    [Interrupted(15, "stopped by SIGTERM"), IclmsrError("cannot write: No space left on device")],
)
@pytest.mark.parametrize("place", ["finish", "load_encoder"])
def test_what_concerns_all_runs_stops_the_study(tmp_path, monkeypatch, error, place):
    def stopped(*_):
        raise error

    monkeypatch.setattr(cells, place, stopped)
    with pytest.raises(type(error)) as caught:
        compare({"simclr": TINY}, ["plain", "msr"], [0], tmp_path, SETTINGS, say=silent)
    assert caught.value is error
    assert not list(tmp_path.glob("cells/*/backgrounds-test.json")), "nothing is noted as failed"


@pytest.mark.parametrize(
    "study",
    [
        lambda bases, *words, **more: compare(bases, ["plain"], *words, **more),
        lambda bases, *words, **more: sweep(bases, "msr", "msr.strata", [1], *words, **more),
        lambda bases, *words, **more: four_settings(bases, ["plain"], *words, **more),
    ],
    ids=["compare", "sweep", "four-settings"],
)
@pytest.mark.parametrize("missing", ["masks", "split", "labels"])
def test_data_are_looked_at_before_anything_is_trained(tmp_path, study, missing):
    from PIL import Image

    for split, kind in product(("train", "test"), "ab"):
        for folder in ("set", "set/masks"):
            path = tmp_path / folder / split / kind / "0.png"
            path.parent.mkdir(parents=True)
            Image.new("RGB" if folder == "set" else "L", (16, 16), 7).save(path)
    data = DataConfig(
        source="folder", root=tmp_path / "set", masks=tmp_path / "set", image_size=16,
        labels=missing != "labels",
    )  # fmt: skip
    if missing == "masks":
        shutil.rmtree(tmp_path / "set" / "masks")
        data = replace(data, masks=None)
    settings = replace(SETTINGS, data=data, split="val" if missing == "split" else "test")
    bases, out = {"simclr": replace(TINY, data=data, batch_size=2)}, tmp_path / "out"
    message = {"masks": "needs foreground masks of the train images", "split": "has no split 'val'",
               "labels": "needs a class for each of the train images"}[missing]  # fmt: skip
    with pytest.raises(IclmsrError, match=message):
        study(bases, [0], out, settings, say=silent)
    assert not out.exists()


def test_a_study_that_is_whole_needs_no_data(tmp_path, monkeypatch):
    judged = {"results": 1, "measures": 2, "groups": 3}
    monkeypatch.setattr(comparison, "challenge", lambda *_: judged)
    whole = compare({"simclr": TINY}, ["plain"], [0], tmp_path, SETTINGS, say=silent)
    monkeypatch.setattr(comparison, "needed_images", lambda settings: pytest.fail("it looked"))
    again = compare({"simclr": TINY}, ["plain"], [0], tmp_path, SETTINGS, say=silent)
    assert again["rows"] == whole["rows"]


def test_another_definition_of_the_measures_judges_anew(tmp_path, monkeypatch):
    for version in (1, 1, 2):
        judged = {"results": version, "measures": 0, "groups": "test"}
        monkeypatch.setattr(comparison, "challenge", lambda *_, judged=judged: judged)
        monkeypatch.setattr(cells, "VERSION", version)
        found = compare({"simclr": TINY}, ["plain"], [0], tmp_path, SETTINGS, say=silent)
        assert [row["results"] for row in found["rows"]] == [version]


def test_what_another_process_has_made_is_in_the_table(tmp_path):
    """Two processes, one seed each, under one plan of both."""
    compare({"simclr": TINY}, ["plain"], [1], tmp_path, SETTINGS, say=silent)
    found = compare({"simclr": TINY}, ["plain"], [0, 1], tmp_path, SETTINGS, say=silent)
    assert [row["seed"] for row in found["rows"]] == [0, 1]


def test_sweep_has_plain_beside_it(tmp_path):
    found = sweep(
        {"simclr": TINY}, "msr", "msr.strata", [1, 3], [0], tmp_path, SETTINGS, say=silent
    )
    assert found["axis"] == "msr.strata"
    assert [(row["arm"], row.get("value")) for row in found["rows"]] == [
        ("plain", None),
        ("msr", 1),
        ("msr", 3),
    ]
    assert (tmp_path / "sweep-msr.strata-test.json").is_file()
    made = {path.name for path in (tmp_path / "cells").iterdir()}
    values = [TINY.msr.strata, 3]  # the first is the arm as it is
    again = sweep(
        {"simclr": TINY}, "msr", "msr.strata", values, [0], tmp_path, SETTINGS, say=silent
    )
    assert again["rows"][0] == found["rows"][0]
    sweep({"simclr": TINY}, "msr", "msr.lr", [0.5], [0], tmp_path, SETTINGS, say=silent)
    assert {path.name for path in (tmp_path / "cells").iterdir()} - made == {
        "simclr_msr_seed-0",
        "simclr_msr_msr.lr_0.5_seed-0",
    }


@pytest.mark.parametrize(
    ("arm_name", "axis", "values", "message"),
    [
        ("msr", "msr.stratum", [1], "unknown field 'msr.stratum'"),
        ("msr", "msr.strata", [1, 0], "strata must be >= 1, got 0"),
        ("msr", "msr.strata", [1, 1], "make the same run twice: 1 and 1"),
        ("msr", "msr.loss-weight", [1, 1.0], "make the same run twice: 1 and 1.0"),
        ("msr", "seed", [1], "cannot vary seed"),
        ("msr", "msr.fraction", [0.1], "under msr.schedule interleaved: pass --msr.schedule epoch"),
        ("msr", "msr.hidden-dim", [8], "under msr.source static: pass --msr.source features"),
        ("msr", "msr.cosine-every", [8], "under msr.engine auto: pass --msr.engine free"),
        ("msr-frozen", "msr.lr", [0.1], "under msr.learnt never: pass --msr.learnt stage-2"),
        ("msr-joint", "msr.inner-lr", [0.1], "under msr.learnt jointly: pass --msr.learnt stage-2"),
        ("plain", "msr.lr", [0.1], "needs an arm with the regularizer"),
        ("bg-random", "msr.lr", [0.1], "needs an arm with the regularizer"),
        ("msr", "views.background-probability", [0.1], "needs an arm that reads it"),
        ("msr-one-stratum", "msr.strata", [2], "arm msr-one-stratum sets msr.strata itself"),
    ],
)
def test_an_axis_that_would_be_swept_in_vain(tmp_path, arm_name, axis, values, message):
    with pytest.raises(IclmsrError, match=message):
        sweep({"simclr": TINY}, arm_name, axis, values, [0], tmp_path, SETTINGS, say=silent)
    assert not list(tmp_path.iterdir())


def test_an_axis_that_is_read_under_other_settings():
    epoch = replace(TINY, msr=replace(TINY.msr, enabled=True, schedule="epoch"))
    assert [one.msr.fraction for one in swept(epoch, "msr.fraction", [0.1, 0.5])] == [0.1, 0.5]
    with pytest.raises(IclmsrError, match="msr.every-steps is not read under msr.schedule epoch"):
        swept(epoch, "msr.every-steps", [2])
    jointly = arm("msr-joint", TINY)
    assert swept(jointly, "msr.lr", [0.1])[0].msr.lr == 0.1


def test_bases_have_names_of_their_own_and_one_data_set():
    def named(*names):
        return named_bases([recipe(name).config for name in names])

    assert list(named("simclr-synthetic", "byol-synthetic")) == ["simclr", "byol"]
    ressl = ("ressl-wmse-cifar10", "ressl-native-cifar10")
    assert list(named(*ressl)) == list(ressl)
    assert len(named("simclr-stl10", "byol-stl10")) == 2  # normalized otherwise, the same images
    with pytest.raises(IclmsrError, match="simclr-synthetic and byol-cifar10 have other data"):
        named("simclr-synthetic", "byol-cifar10")
    with pytest.raises(IclmsrError, match="recipe byol-cifar10 comes twice"):
        named("byol-cifar10", "byol-cifar10")


def test_arms_change_what_they_say():
    assert not arm("plain", replace(TINY, msr=replace(TINY.msr, enabled=True))).msr.enabled
    assert arm("msr-frozen", TINY).msr.learnt == "never"
    assert arm("msr-joint", TINY).msr.learnt == "jointly"
    assert arm("msr-fresh", TINY).msr.outer_batch == "fresh"
    assert arm("bg-random", TINY).views.background == "random"
    assert not arm("bg-random", TINY).msr.enabled
    assert arm("plain-equal-time", replace(TINY, epochs=10), time_ratio=1.2).epochs == 12
    assert len({repr(arm(name, TINY)) for name in ARMS}) == len(ARMS) - 1  # msr-same is msr
    with pytest.raises(IclmsrError, match="unknown arm 'msr-frosen': did you mean 'msr-frozen'"):
        arm("msr-frosen", TINY)
    longer = arm("bg-random-equal-time", replace(TINY, epochs=10), time_ratio=1.2)
    assert (longer.epochs, longer.views.background) == (12, "random")
    for ratio in (None, 0.9, float("nan"), float("inf")):
        with pytest.raises(IclmsrError, match=f"needs --time-ratio >= 1.*got {ratio}"):
            arm("plain-equal-time", TINY, time_ratio=ratio)
    with pytest.raises(IclmsrError, match="that adds an epoch to 10, got 1.04"):
        arm("plain-equal-time", replace(TINY, epochs=10), time_ratio=1.04)


class Pixels(nn.Module):
    """Features that are pixels of one kind: the middle, or the border."""

    def __init__(self, middle):
        super().__init__()
        self.middle = middle
        self.nothing = nn.Parameter(torch.zeros(1))

    def forward(self, images):
        if self.middle:
            return images[:, :, 6:10, 6:10].flatten(1)
        return images[:, :, ::15, ::15].flatten(1)


class Loud(Pixels):
    """The border, and a hundred times as softly the middle."""

    def __init__(self):
        super().__init__(True)
        self.border = Pixels(False)

    def forward(self, images):
        return torch.cat([super().forward(images) / 100, self.border(images)], 1)


@pytest.mark.parametrize("middle", [True, False])
def test_the_challenge_tells_who_looks_at_the_background(tmp_path, middle):
    """Classes are the color of a square in the middle; in training the border goes with it."""
    from PIL import Image, ImageDraw

    colors = [(220, 20, 20), (20, 220, 20), (20, 20, 220), (220, 220, 20)]
    for split, tied in (("train", True), ("test", True)):
        for label, color in enumerate(colors):
            for number in range(12):
                behind = tuple(c // 2 for c in colors[label if tied else number % 4])
                image = Image.new("RGB", (16, 16), tuple(c + number for c in behind))
                mask = Image.new("L", (16, 16), 0)
                ImageDraw.Draw(image).rectangle((4, 4, 11, 11), fill=color)
                ImageDraw.Draw(mask).rectangle((4, 4, 11, 11), fill=255)
                for folder, picture in (("images", image), ("masks", mask)):
                    path = tmp_path / folder / split / str(label) / f"{number}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    picture.save(path)
    data = DataConfig(
        source="folder", root=tmp_path / "images", masks=tmp_path / "masks", image_size=16
    )
    encoder = LoadedEncoder(Pixels(middle), "pixels", (0.5,) * 3, (0.25,) * 3, 16, "0")
    settings = BackgroundsConfig(
        data=data, grid=8, least=1, linear_probe=LinearProbeConfig(epochs=100, lr=0.05)
    )
    found = challenge(encoder, settings)
    results, measures = found["results"], found["measures"]
    assert results["original"] == {"linear": 100.0, "knn": 100.0}
    if middle:
        assert measures["bg_gap"] == {"linear": 0.0, "knn": 0.0}
        assert results["mixed_next"]["linear"] == 100
        assert measures["variance_foreground"] > 0.9
        assert measures["swap_cosine"] > 0.95
        assert measures["swap_sensitivity"] < 0.1
        assert measures["background_robustness"]["linear"] == 1
        assert measures["foreground_probe_original"]["linear"] == 100
        assert measures["probe_interaction"] == {"linear": 0, "knn": 0}
    else:
        assert measures["bg_gap"]["knn"] > 50
        assert results["mixed_next"]["knn"] < 10
        assert measures["background_only"]["knn"] > 90
        assert measures["variance_background"] > 0.9
        assert measures["swap_sensitivity"] is None
        assert measures["background_robustness"]["knn"] < 0.5
        assert measures["probe_interaction"]["knn"] == (
            results["original"]["knn"]
            - results["only_fg"]["knn"]
            - measures["foreground_probe_original"]["knn"]
            + measures["foreground_probe_only_fg"]["knn"]
        )
    assert measures["worst_group"]["knn"]["accuracy"] == (100 if middle else 0)


def test_groups_of_data_that_name_their_backgrounds_and_have_no_swapped_split(
    tmp_path, monkeypatch
):
    """As Waterbirds: backgrounds go with classes in training, and hardly in the tests."""
    from PIL import Image, ImageDraw

    lines = ["path,background"]
    counts = {"train": ((10, 2), (2, 10)), "test": ((12, 12), (11, 3))}
    for split, groups in counts.items():
        for label, group in enumerate(groups):
            for behind, count in enumerate(group):
                for number in range(count):
                    image = Image.new("RGB", (16, 16), [(200, number, 0), (0, number, 200)][behind])
                    mask = Image.new("L", (16, 16), 0)
                    color = [(0, 200, 0), (200, 200, 0)][label]
                    ImageDraw.Draw(image).rectangle((4, 4, 11, 11), fill=color)
                    ImageDraw.Draw(mask).rectangle((4, 4, 11, 11), fill=255)
                    name = f"{split}/{label}/{behind}-{number}.png"
                    lines.append(f"{name},{('land', 'water')[behind]}")
                    for folder, picture in (("set", image), ("set/masks", mask)):
                        path = tmp_path / folder / name
                        path.parent.mkdir(parents=True, exist_ok=True)
                        picture.save(path)
    (tmp_path / "set" / "backgrounds.csv").write_text("\n".join(lines))
    data = DataConfig(source="folder", root=tmp_path / "set", masks=tmp_path / "set", image_size=16)
    probe = LinearProbeConfig(epochs=100, lr=0.05)
    settings = BackgroundsConfig(data=data, grid=4, least=5, linear_probe=probe)
    border = LoadedEncoder(Pixels(False), "border", (0.5,) * 3, (0.25,) * 3, 16, "0")
    found = challenge(border, settings)
    assert found["groups"] == "test"
    assert "swapped" not in found["results"]
    worst = found["measures"]["worst_group"]["knn"]
    assert (worst["accuracy"], worst["images"]) == (0, 12 if worst["label"] == 0 else 11)
    assert worst["label"] != worst["background"]
    assert worst["mean"] == pytest.approx(100 / 3)  # groups of 12, 12 and 11; one of 3 is small
    assert found["measures"]["background_decodability"] == 100
    assert found["measures"]["background_chance"] == 50
    loud = LoadedEncoder(Loud(), "loud", (0.5,) * 3, (0.25,) * 3, 16, "0")
    both = challenge(loud, settings)["measures"]
    assert both["worst_group"]["linear"]["accuracy"] < 50
    assert both["worst_group_dfr"] == {"linear": 100}, "the class is there to be read"
    assert both["group_mean_dfr"] == {"linear": 100}
    few = challenge(border, replace(settings, least=100))["measures"]
    assert few["worst_group"]["knn"]["accuracy"] is None
    assert (few["worst_group"]["knn"]["groups"], few["worst_group"]["knn"]["counted"]) == (4, 0)
    assert few["worst_group_dfr"] == {"linear": None}

    def unknown(config, split):
        images = load(config, split)
        return images if split == "train" else replace(images, backgrounds=None)

    with monkeypatch.context() as patch:
        patch.setattr(backgrounds, "load", unknown)
        other = challenge(border, settings)
    assert other["groups"] == "mixed_rand"
    assert "background_decodability" not in other["measures"], "a class is no kind of background"
    (tmp_path / "set" / "backgrounds.csv").unlink()
    without = challenge(border, settings)
    assert without["groups"] == "mixed_rand"
    assert not {"background_decodability", "worst_group_dfr"} & without["measures"].keys()


def test_the_challenge_needs_masks(tmp_path):
    encoder = LoadedEncoder(Pixels(True), "pixels", (0.5,) * 3, (0.25,) * 3, 16, "0")
    from PIL import Image

    for split in ("train", "test"):
        path = tmp_path / split / "a" / "0.png"
        path.parent.mkdir(parents=True)
        Image.new("RGB", (16, 16)).save(path)
    settings = BackgroundsConfig(data=DataConfig(source="folder", root=tmp_path, image_size=16))
    with pytest.raises(IclmsrError, match="needs foreground masks"):
        challenge(encoder, settings)
    with pytest.raises(IclmsrError, match="leave out --data.variant only_fg"):
        BackgroundsConfig(data=replace(DATA, variant="only_fg"))
