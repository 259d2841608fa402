# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch

from iclmsr.errors import IclmsrError
from iclmsr.evaluate.feature_files import check_name, write_features
from iclmsr.evaluate.features import Features

TRAIN = Features(torch.arange(6.0).view(3, 2), torch.tensor([1, 0, 1]))
TEST = Features(-torch.ones(1, 2), torch.tensor([0]))
ROWS = [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0], [-1.0, -1.0]]


def test_npy(tmp_path):
    path, beside = write_features(tmp_path / "f.npy", TRAIN, TEST, ("cat", "dog"))
    features, labels = np.load(path), np.load(beside)
    assert features.dtype == np.float32
    assert features.tolist() == ROWS
    assert beside.name == "f-labels.npy"
    assert labels.tolist() == [1, 0, 1, 0]


def test_parquet(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    (path,) = write_features(tmp_path / "f.parquet", TRAIN, TEST, ("cat", "dog"))
    table = parquet.read_table(path)
    assert str(table.schema.field("features").type).startswith("fixed_size_list<")
    assert "float" in str(table.schema.field("features").type)
    columns = table.to_pydict()
    assert columns["features"] == ROWS
    assert columns["split"] == ["train", "train", "train", "test"]
    assert columns["label"] == [1, 0, 1, 0]
    assert columns["class"] == ["dog", "cat", "dog", "cat"]


def test_names_that_are_refused(tmp_path):
    with pytest.raises(IclmsrError, match=r"ends in .npy or .parquet, got .*f.csv"):
        check_name(tmp_path / "f.csv")
    with pytest.raises(IclmsrError, match="the folder .*nowhere does not exist"):
        check_name(tmp_path / "nowhere" / "f.npy")


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(IclmsrError, match=r"pip install 'iclmsr\[parquet\]'"):
        check_name(tmp_path / "f.parquet")
