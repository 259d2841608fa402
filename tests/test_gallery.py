# SPDX-License-Identifier: Apache-2.0
import json
from dataclasses import replace

import pytest
import report_runs
import torch
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from iclmsr import gallery
from iclmsr.config import MSRConfig, PretrainConfig
from iclmsr.data.sources import DataConfig, load
from iclmsr.data.synthetic import SyntheticConfig
from iclmsr.data.views import ViewConfig
from iclmsr.encoders import load_encoder
from iclmsr.errors import IclmsrError
from iclmsr.evaluate.features import extract
from iclmsr.gallery import is_current, make_gallery, nearest, project
from iclmsr.methods.simclr import SimCLRConfig
from iclmsr.networks import EncoderConfig
from iclmsr.pretrain import pretrain

TINY = PretrainConfig(
    epochs=1,
    batch_size=16,
    method=SimCLRConfig(hidden_dim=16, embedding_dim=8),
    encoder=EncoderConfig(width=2),
    data=DataConfig(
        source="synthetic", image_size=16, synthetic=SyntheticConfig(train=48, test=40)
    ),
    views=ViewConfig(size=16),
    msr=MSRConfig(),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return pretrain(TINY, tmp_path_factory.mktemp("gallery") / "run")


def test_projection_is_that_of_scikit_learn(waves):
    features = waves(1, n=30, d=6).float()
    points, shares = project(features)
    theirs = PCA(2).fit(features.double().numpy())
    expected = torch.from_numpy(theirs.transform(features.double().numpy()))
    assert torch.allclose(points.abs(), expected.abs(), atol=1e-9)
    assert shares == pytest.approx(theirs.explained_variance_ratio_.tolist(), abs=1e-9)
    assert (points.max(0).values >= -points.min(0).values).all()


def test_neighbours_are_those_of_scikit_learn():
    features = torch.randn(700, 5, generator=torch.Generator().manual_seed(0))
    theirs = NearestNeighbors(n_neighbors=6, algorithm="brute").fit(features.double().numpy())
    expected = theirs.kneighbors(return_distance=False, n_neighbors=5)
    assert nearest(features, 5).tolist() == expected.tolist()
    assert nearest(features[:3], 5).shape == (3, 2)


def test_gallery_of_a_run(run):
    found = make_gallery(run, points=25)
    assert json.loads((run / "gallery" / "gallery.json").read_text()) == found
    assert is_current(run)
    assert (found["split"], found["there"], len(found["labels"])) == ("test", 40, 25)
    test = load(TINY.data, "test")
    encoder = load_encoder(run)
    features = extract(encoder.network, test, mean=encoder.mean, std=encoder.std).features
    # The labels say which images they are, in order; the coordinates must be theirs.
    with Image.open(run / "gallery" / "thumbnails.webp") as sheet:
        assert sheet.size == (25 * 16, 16)
        tiles = [
            torch.frombuffer(
                bytearray(sheet.convert("RGB").crop((16 * i, 0, 16 * i + 16, 16)).tobytes()),
                dtype=torch.uint8,
            ).view(16, 16, 3).permute(2, 0, 1).float()
            for i in range(25)
        ]  # fmt: skip
    index = [int((test.images.float() - t).square().flatten(1).sum(1).argmin()) for t in tiles]
    assert index == sorted(set(index))
    assert test.labels[index].tolist() == found["labels"]
    points, _ = project(features[index])
    points /= points.abs().max()
    assert torch.allclose(torch.tensor(found["pca"]).double(), points, atol=2e-5)
    assert found["neighbours"] == nearest(features[index], 5).tolist()


def test_samples_are_training_images_with_foreground_and_views(run):
    found = make_gallery(run, points=10)
    assert found["samples"] == {"cells": ["image", "foreground", "view 1", "view 2"], "side": 16}
    train = load(TINY.data, "pretrain")
    with Image.open(run / "gallery" / "samples.png") as sheet:
        assert sheet.size == (4 * 16, 8 * 16)
        cells = torch.frombuffer(bytearray(sheet.tobytes()), dtype=torch.uint8)
    rows = cells.view(8, 16, 4, 16, 3).permute(0, 2, 4, 1, 3)  # (8, 4, 3, 16, 16)
    for row, label in zip(rows, found["sample_labels"], strict=True):
        [index] = [i for i in range(48) if torch.equal(train.images[i], row[0])]
        assert int(train.labels[index]) == label
        mask = train.masks[index]
        assert torch.equal(row[1][:, mask], row[0][:, mask])
        assert not torch.equal(row[1][:, ~mask], row[0][:, ~mask])
        assert not torch.equal(row[2], row[3])


def test_the_same_run_has_the_same_gallery(run):
    make_gallery(run, points=12)
    files = {path.name: path.read_bytes() for path in (run / "gallery").iterdir()}
    make_gallery(run, points=12)
    assert {path.name: path.read_bytes() for path in (run / "gallery").iterdir()} == files


def test_another_encoder_makes_it_stale(run):
    make_gallery(run, points=5)
    before = (run / "encoder.safetensors").read_bytes()
    (run / "encoder.safetensors").write_bytes(before + b" ")
    assert not is_current(run)
    (run / "encoder.safetensors").write_bytes(before)
    assert is_current(run)


def test_images_on_disk_without_labels(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for place, pixels in enumerate(load(TINY.data, "train").images[:20]):
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(folder / f"{place}.png")
    data = DataConfig(
        source="folder", root=folder, image_size=16, labels=False, resident="disk", workers=0
    )
    run = pretrain(replace(TINY, data=data), tmp_path / "run")
    moved = tmp_path / "moved"
    folder.rename(moved)
    with pytest.raises(IclmsrError, match="does not exist"):
        make_gallery(run)
    assert not (run / "gallery").exists()
    found = make_gallery(run, root=moved)
    assert (found["split"], found["labels"]) == ("train", [-1] * 20)
    assert found["samples"]["cells"] == ["image", "view 1", "view 2"]


def test_bad_input(run, monkeypatch):
    with pytest.raises(IclmsrError, match="points must be >= 2, got 1"):
        make_gallery(run, points=1)
    monkeypatch.setitem(gallery.__dict__, "SIDE", 8)
    monkeypatch.setitem(__import__("sys").modules, "umap", None)
    with pytest.raises(IclmsrError, match=r"pip install 'iclmsr\[umap\]'"):
        make_gallery(run, points=5, umap=True)


@pytest.mark.parametrize("count", [1, 100, 101, 10_000, 10_001, 51_200, 60_000, 261_121])
def test_thumbnails_fit_into_one_picture(count):
    columns = gallery._columns(count, 32)
    rows = -(-count // columns)
    assert columns * 32 <= 16_383
    assert rows * 32 <= 16_383
    assert columns >= min(count, 100)


def test_made_up_galleries_have_thumbnails_of_the_true_size():
    assert report_runs.SIDE == gallery.SIDE


def test_more_thumbnails_than_a_picture_holds_are_refused_before_they_are_made(run, monkeypatch):
    monkeypatch.setattr(gallery, "LARGEST", 3 * 16)
    monkeypatch.setattr(gallery, "extract", None)
    with pytest.raises(IclmsrError, match="40 thumbnails do not fit .* --points of at most 9"):
        make_gallery(run, points=1000)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_umap_keeps_clusters_apart():
    pytest.importorskip("umap")
    draw = torch.Generator().manual_seed(0)
    features = torch.randn(60, 8, generator=draw) + 20 * (torch.arange(60) % 2)[:, None]
    points = gallery._umap(features, 0)
    near = nearest(points, 5)
    assert (near % 2 == (torch.arange(60) % 2)[:, None]).all()
    assert torch.equal(gallery._umap(features, 0), points)
