# SPDX-License-Identifier: Apache-2.0
import pickle
import sys

import numpy as np
import pytest
import torch
from pictures import picture
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import iclmsr
from iclmsr.embed import EncoderTransformer
from iclmsr.errors import IclmsrError
from iclmsr.networks import EncoderConfig, initial_encoder


def test_parameters_and_clones(run):
    step = EncoderTransformer(run, image_size=16, batch_size=3, device="cpu")
    expected = {"encoder": run, "image_size": 16, "batch_size": 3, "device": "cpu"}
    assert step.get_params() == expected
    step.fit([picture(0)])
    copy = clone(step)
    assert copy.get_params() == expected
    assert not hasattr(copy, "embedder_")
    assert copy.set_params(image_size=None).image_size is None


def test_it_embeds(run):
    X = [picture(number) for number in range(3)]
    expected = iclmsr.load(run).embed(X)
    assert np.array_equal(EncoderTransformer(run).fit_transform(X), expected)
    assert np.array_equal(EncoderTransformer(run).transform(X), expected)
    again = pickle.loads(pickle.dumps(EncoderTransformer(run).fit(X)))
    assert not hasattr(again, "embedder_")
    assert np.array_equal(again.transform(X), expected)


def test_in_a_pipeline(run, tmp_path):
    """Dark and bright pictures are told apart, from files and from arrays."""
    rng = np.random.default_rng(0)
    y = np.arange(12) % 2
    X = (
        rng.integers(0, 100, (12, 20, 20, 3)).astype(np.uint8)
        + (y * 140).astype(np.uint8)[:, None, None, None]
    )
    model = make_pipeline(EncoderTransformer(run), StandardScaler(), LogisticRegression())
    assert cross_val_score(model, X, y, cv=3).mean() == 1
    search = GridSearchCV(model, {"encodertransformer__image_size": [16, 24]}, cv=2).fit(X, y)
    assert search.best_score_ == 1
    from PIL import Image

    paths = []
    for number, pixels in enumerate(X):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        paths.append(str(tmp_path / f"{number}.png"))
    assert (model.fit(paths, y).predict(paths) == y).all()
    assert (model.fit(np.array(paths), y).predict(np.array(paths)) == y).all()


def test_without_scikit_learn(monkeypatch):
    monkeypatch.delitem(sys.modules, "iclmsr.embed.transformer")
    monkeypatch.setitem(sys.modules, "sklearn.base", None)
    import iclmsr.embed

    with pytest.raises(IclmsrError, match=r"pip install 'iclmsr\[scikit-learn\]'"):
        iclmsr.embed.EncoderTransformer  # noqa: B018


def test_changed_parameters_load_another_encoder(run, tmp_path):
    X = [picture(number) for number in range(3)]
    step = EncoderTransformer(run).fit(X)
    before, embedder = step.transform(X), step.embedder_
    step.set_params(batch_size=2)
    assert np.allclose(step.transform(X), before, atol=1e-5)
    assert step.embedder_ is embedder
    expected = iclmsr.load(run, image_size=16).embed(X)
    assert not np.allclose(expected, before, atol=1e-2)
    found = step.set_params(image_size=16).transform(X)
    assert np.allclose(found, expected, atol=1e-5)
    other = tmp_path / "other.pth"
    torch.save(initial_encoder(EncoderConfig(width=2), 7).network.state_dict(), other)
    assert step.set_params(encoder=other).transform(X).shape == (3, 16)
    assert len(step.get_feature_names_out()) == 16


def test_features_have_names(run):
    pandas = pytest.importorskip("pandas")
    X = [picture(number) for number in range(3)]
    names = [f"encodertransformer{number}" for number in range(32)]
    assert list(EncoderTransformer(run).get_feature_names_out()) == names
    step = EncoderTransformer(run).set_output(transform="pandas")
    frame = step.fit_transform(X)
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.columns) == names
    assert np.array_equal(frame.to_numpy(), iclmsr.load(run).embed(X))
