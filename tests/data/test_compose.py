# SPDX-License-Identifier: Apache-2.0
import hashlib
import json
import re
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from sklearn.linear_model import LogisticRegression

from iclmsr.data.compose import compose
from iclmsr.data.compose_plan import ComposeConfig, draw_scenes, places
from iclmsr.data.sources import DataConfig, load
from iclmsr.errors import IclmsrError

SPLITS = ("train", "val", "val-swapped", "test", "test-swapped")
SIZE = 16
CLASSES = ("cup", "pear")
BLUE = (0, 0, 255)


def write_objects(root, count=6, views=4, tested=2):
    """Red discs and green squares on blue, with masks; object k of a class has its own shade."""
    for label, kind in enumerate(CLASSES):
        for one in range(count + tested):
            split = "train" if one < count else "test"
            for view in range(views):
                y, x = np.mgrid[:24, :24] - 11.5
                reach = 6 + view
                inside = (y**2 + x**2 if label == 0 else np.maximum(y**2, x**2)) < reach**2
                pixels = np.full((24, 24, 3), BLUE, np.uint8)
                pixels[inside] = (200, 4 * one, 0) if label == 0 else (4 * one, 200, 0)
                name = f"{split}/{kind}/{kind}{one}-{view}"
                for place, array in ((root, pixels), (root / "masks", inside * np.uint8(255))):
                    file = place / f"{name}.png"
                    file.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(array).save(file)


def write_scenes(root, classes=("alp", "bay", "den", "elm"), count=20, tested=8):
    """Scenes of one gray level each, 64 levels apart for each class."""
    for label, kind in enumerate(classes):
        for one in range(count + tested):
            file = root / ("train" if one < count else "test") / kind / f"{one}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            level = 64 * label + one
            Image.fromarray(np.full((20, 30, 3), level, np.uint8)).save(file)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    root = tmp_path_factory.mktemp("parts")
    write_objects(root / "objects")
    write_scenes(root / "scenes")
    return root / "objects", root / "scenes"


@pytest.fixture(scope="module")
def made(parts, tmp_path_factory):
    out = tmp_path_factory.mktemp("made") / "set"
    return out, compose(*parts, out, ComposeConfig(size=SIZE, copies=3, softness=0.0))


def read(out, split):
    return load(DataConfig("folder", out, SIZE, masks=out), split)


def digest(out):
    found = hashlib.sha256()
    for file in sorted(path for path in out.rglob("*") if path.is_file()):
        found.update(file.relative_to(out).as_posix().encode() + file.read_bytes())
    return found.hexdigest()


def test_what_is_made(made):
    out, composed = made
    counts = {"train": 96, "val": 48, "val-swapped": 48, "test": 48, "test-swapped": 48}
    assert composed.counts == counts
    assert composed.pairs == {"cup": "group0", "pear": "group1"}
    choices = json.loads((out / "compose.json").read_text())
    assert choices["groups"] == {
        "group0": {"class": "cup", "scene_classes": ["alp", "den"]},
        "group1": {"class": "pear", "scene_classes": ["bay", "elm"]},
    }
    assert choices["config"]["seed"] == 0
    for split in SPLITS:
        images = read(out, split)
        assert len(images) == counts[split] == choices["splits"][split]["images"]
        assert images.background_names == ("group0", "group1")
        share = (images.backgrounds == images.labels).double().mean().item()
        assert share == composed.own[split] == choices["splits"][split]["share_on_own_group"]
    assert not list(out.parent.glob(".*"))


def test_objects_lie_on_scenes_of_the_group_that_is_said(made):
    out, _ = made
    for split in SPLITS:
        images = read(out, split)
        for image, mask, label, group in zip(
            images.images, images.masks, images.labels, images.backgrounds, strict=True
        ):
            behind = image[:, ~mask]
            assert (behind == behind[0, 0]).all()  # one gray level, and no blue
            assert behind[0, 0] // 64 % 2 == group
            assert (behind[0, 0] % 64 < 20) == (split in ("train", "val", "val-swapped"))
            front = image[:, mask].int()
            assert (front[label] >= 195).all()
            assert (front[2] <= 5).all()  # none of the blue
            assert (front[1 - label] <= 35).all()


def test_no_object_and_no_scene_is_in_two_parts(made):
    out, _ = made
    choices = json.loads((out / "compose.json").read_text())
    names = {
        split: {file.stem.split("-")[0] for file in (out / split).rglob("*.png")}
        for split in SPLITS
    }
    levels = {
        split: {int(image[0][~mask][0]) for image, mask in zip(x.images, x.masks, strict=True)}
        for split, x in ((split, read(out, split)) for split in SPLITS)
    }
    for found in (names, levels):
        assert not found["train"] & (found["val"] | found["test"])
        assert not found["val"] & found["test"]
        assert not found["val-swapped"] & (found["train"] | found["test-swapped"])
    assert names["test"] == {f"{kind}{one}" for kind in CLASSES for one in (6, 7)}
    for front in ("train", "val", "test"):
        said = {name for part in choices["objects_in"][front].values() for name in part}
        assert said == names[front]
    for scenes in choices["scenes_in"].values():
        assert all(len(set(group)) == len(group) for group in scenes.values())


def test_swapping_keeps_the_foreground_and_nothing_else(made):
    out, _ = made
    for split in ("val", "test"):
        one, two = read(out, split), read(out, f"{split}-swapped")
        assert torch.equal(one.masks, two.masks)
        assert torch.equal(one.labels, two.labels)
        inside = one.masks[:, None].expand_as(one.images)
        assert torch.equal(one.images[inside], two.images[inside])
        assert not torch.equal(one.backgrounds, two.backgrounds)


def test_objects_are_as_large_as_told_and_everywhere(made):
    images = read(made[0], "train")
    longer = torch.maximum(images.masks.any(1).sum(1), images.masks.any(2).sum(1)) / SIZE
    assert longer.min() >= 0.5 - 1 / SIZE
    assert longer.max() <= 0.8 + 1 / SIZE
    assert longer.std() > 0.05
    assert images.masks.any(0).float().mean() > 0.9


def test_the_same_seed_makes_the_same_bytes(parts, made, tmp_path):
    for seed in (0, 1):
        config = ComposeConfig(size=SIZE, copies=3, softness=0.0, seed=seed)
        with torch.random.fork_rng():
            torch.manual_seed(seed + 7)
            compose(*parts, tmp_path / str(seed), config)
    assert digest(tmp_path / "0") == digest(made[0])
    assert digest(tmp_path / "1") != digest(made[0])


@pytest.mark.parametrize("rho", [0.0, 1.0])
def test_a_probe_on_backgrounds_alone_is_at_chance_without_a_bond(parts, tmp_path, rho):
    out = tmp_path / "set"
    compose(*parts, out, ComposeConfig(size=SIZE, copies=8, rho=rho))

    def seen(split):
        """Which of four scene classes is behind each object, as the pixels say."""
        images = read(out, split)
        pairs = zip(images.images, images.masks, strict=True)
        levels = [int(image[0][~mask][0]) for image, mask in pairs]
        return np.eye(4)[np.array(levels) // 64], images.labels.numpy()

    x, labels = seen("train")
    probe = LogisticRegression().fit(x, labels)
    for split in ("test", "test-swapped", "val-swapped"):
        x, labels = seen(split)
        hits = int((probe.predict(x) == labels).sum())
        low, high = stats.binom.interval(0.99, len(labels), 0.5)
        if rho == 1 and split == "test":
            assert hits == len(labels)  # the probe does see what there is to see
        else:
            assert low <= hits <= high, split


def test_the_bond_is_rho_and_the_rest_is_uniform():
    labels = [k % 4 for k in range(8000)]
    scenes = [[f"{k}"] for k in range(4)]
    for split, rho in (("train", 0.6), ("val", 0.6), ("test-swapped", 0.0)):
        groups = np.array(
            [g for g, _ in draw_scenes(labels, scenes, split, ComposeConfig(rho=0.6))]
        )
        own = int((groups == np.array(labels)).sum())
        assert stats.binomtest(own, 8000, rho + (1 - rho) / 4).pvalue > 0.001
        others = (groups - np.array(labels)) % 4
        assert stats.chisquare(np.bincount(others[others > 0])[1:]).pvalue > 0.001


def test_places_fill_their_ranges():
    found = places(4000, "train", ComposeConfig(scale=(0.3, 0.6), flip=0.25))
    assert stats.kstest([p.share for p in found], stats.uniform(0.3, 0.3).cdf).pvalue > 0.001
    assert stats.kstest([p.across for p in found], stats.uniform.cdf).pvalue > 0.001
    assert stats.binomtest(sum(p.flipped for p in found), 4000, 0.25).pvalue > 0.001


def test_groups_of_the_users_own(parts, tmp_path):
    file = tmp_path / "groups.txt"
    file.write_text("# two\nwet: bay   # water\ndry: elm alp\n")
    composed = compose(*parts, tmp_path / "set", ComposeConfig(size=SIZE, groups=file))
    assert composed.pairs == {"cup": "dry", "pear": "wet"}
    levels = read(tmp_path / "set", "train").images[:, 0].flatten(1).amin(1) // 64
    assert set(levels.tolist()) <= {0, 1, 3}  # den is in no group


def test_folders_without_a_split_are_split(tmp_path):
    write_objects(tmp_path / "all", count=6, tested=0)
    write_scenes(tmp_path / "scenes", tested=0)
    for name in ("cup", "pear"):
        (tmp_path / "all" / "train" / name).rename(tmp_path / "all" / name)
        (tmp_path / "all" / "masks" / "train" / name).rename(tmp_path / "all" / "masks" / name)
    for folder in ("all/train", "all/masks/train"):
        (tmp_path / folder).rmdir()
    config = ComposeConfig(size=SIZE, val_objects=1, test_objects=2, erode=0, val_scenes=0.1)
    composed = compose(tmp_path / "all", tmp_path / "scenes" / "train", tmp_path / "set", config)
    assert composed.counts["train"] == 2 * 3 * 4
    assert composed.counts["val"] == 2 * 1 * 4
    assert composed.counts["test"] == 2 * 2 * 4
    scenes = json.loads((tmp_path / "set" / "compose.json").read_text())["scenes_in"]
    counts = {name: [len(group) for group in split.values()] for name, split in scenes.items()}
    assert counts == {"train": [28, 28], "val": [4, 4], "test": [8, 8]}


def fails(message, *arguments):
    with pytest.raises(IclmsrError, match=f"^{message}"):
        compose(*arguments)


def test_bad_input_leaves_nothing(parts, tmp_path):
    objects, scenes = parts
    out = tmp_path / "set"
    out.mkdir()
    fails(f"{out} is there already: remove it", objects, scenes, out, ComposeConfig())
    out.rmdir()
    for place in parts:
        message = f"what is written to {place}/set would lie between the images of {place}: "
        fails(message, *parts, place / "set", ComposeConfig())
    few = ComposeConfig(val_objects=6)
    fails("class 'cup' has 6 objects to train on .*, and 6 of them are to be", *parts, out, few)
    fails(
        re.escape("objects in train and in test of "),
        *parts,
        out,
        ComposeConfig(object_pattern="^([a-z]+)", val_objects=1),
    )
    fails(
        r"--object-pattern 'x\+' finds no object in 'cup0-0'",
        *parts,
        out,
        ComposeConfig(object_pattern="x+"),
    )
    file = tmp_path / "groups.txt"
    for text, message in (
        ("a: alp\n", "has 1 groups for 2 object classes"),
        ("a: alp\nb: sky\n", "names scene classes that are not in .*: sky"),
        ("a: alp\nb: alp\n", "line 2: a name or scene class for the second time: 'b: alp'"),
        ("a alp\n", "line 1: no GROUP: CLASS"),
    ):
        file.write_text(text)
        fails(f"--groups {file},? {message}", *parts, out, ComposeConfig(groups=file))
    fails(
        "cannot read --groups .*: No such file", *parts, out, ComposeConfig(groups=tmp_path / "x")
    )
    assert not out.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["groups.txt"]


def test_archives_that_do_not_give_a_file_by_itself(parts, tmp_path):
    objects, scenes = parts
    out = tmp_path / "set"
    for suffix in (".tar", ".tar.gz"):
        with tarfile.open(tmp_path / f"objects{suffix}", f"w:{suffix[5:]}") as archive:
            archive.add(objects, "objects")
    path = tmp_path / "objects.tar.gz"
    advice = "unpack the archive, or pack it as .tar or .zip"
    message = f"cannot read {path}/objects/train/cup/.* without all files before it: {advice}$"
    fails(message, path, scenes, out, ComposeConfig(size=SIZE))
    assert not out.exists()
    assert compose(path.with_suffix(""), scenes, out, ComposeConfig(size=SIZE)).counts["test"] == 16


def test_damage_in_the_middle_leaves_nothing(tmp_path):
    write_objects(tmp_path / "objects")
    write_scenes(tmp_path / "scenes")
    out = tmp_path / "set"
    arguments = (tmp_path / "objects", tmp_path / "scenes", out, ComposeConfig(size=SIZE))
    mask = tmp_path / "objects" / "masks" / "test" / "pear" / "pear7-3.png"
    content = mask.read_bytes()
    mask.unlink()
    fails(r".*/pear7-3\.png has no mask .*/masks/test/pear/pear7-3\.png", *arguments)
    Image.new("L", (24, 24)).save(mask)
    where = rf".*/test/pear/pear7-3\.png has a mask {mask}"
    fails(rf"{where} without any foreground: mend or remove it", *arguments)
    Image.new("L", (24, 24), 1).save(mask)
    with pytest.warns(UserWarning, match="^a mask has no value above 1: 128 and more is"):
        fails(rf"{where} without any foreground", *arguments)
    Image.new("L", (9, 24)).save(mask)
    fails(rf".*/pear7-3\.png is 24 x 24 pixels, but its mask {mask} 9 x 24", *arguments)
    Image.new("RGB", (24, 24), (255, 0, 0)).save(mask)
    fails(rf"{where} in color: write it in gray", *arguments)
    Image.new("LA", (24, 24), (255, 0)).save(mask)
    fails(rf"{where} that is transparent in places: write it in gray", *arguments)
    mask.write_bytes(content[: len(content) // 2])
    fails(rf"{where} that does not decode \(.*\): mend or remove it", *arguments)
    mask.write_bytes(content)
    (tmp_path / ".set.tmp" / "left").mkdir(parents=True)  # of a process that was killed
    assert compose(*arguments).counts["test"] == 16
    assert not list(tmp_path.glob(".set.*"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"copies": 0}, "--copies must be >= 1, got 0"),
        ({"size": 4}, r"--size must be in \[8, 4096\], got 4"),
        ({"size": 100_000}, r"--size must be in \[8, 4096\], got 100000"),
        ({"erode": 1000}, r"--erode must be in \[0, 64\], got 1000"),
        ({"softness": -1.0}, r"--softness must be in \[0, 64\], got -1.0"),
        ({"softness": float("nan")}, r"--softness must be in \[0, 64\], got nan"),
        ({"size": 8, "softness": 8.1}, r"--softness must be in \[0, 8\], got 8.1"),
        ({"val_objects": 0}, "--val-objects must be >= 1, got 0"),
        ({"rho": 1.5}, r"--rho must be in \[0, 1\], got 1.5"),
        ({"val_scenes": 1.0}, r"--val-scenes must be in \(0, 1\), got 1.0"),
        ({"scale": (0.8, 0.5)}, r"--scale must have 0 < low <= high <= 1, got"),
        ({"object_pattern": "("}, r"--object-pattern '\(' is no regular expression: "),
    ],
)
def test_values_out_of_range(values, message):
    with pytest.raises(IclmsrError, match=f"^{message}"):
        ComposeConfig(**values)
