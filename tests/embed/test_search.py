# SPDX-License-Identifier: Apache-2.0
import shutil

import numpy as np
import pytest
from pictures import picture

import iclmsr
from iclmsr import cli
from iclmsr.embed import files as files_module
from iclmsr.embed.files import EmbedConfig, embed_files
from iclmsr.embed.search import nearest_rows, search
from iclmsr.errors import IclmsrError
from iclmsr.networks import EncoderConfig, initial_encoder, write_encoder


@pytest.fixture
def features(run, images, tmp_path, monkeypatch):
    monkeypatch.setattr(files_module, "PART", 3)
    embed_files(run, images, tmp_path / "f.parquet", EmbedConfig(device="cpu"))
    return tmp_path / "f.parquet"


def test_nearest_rows_against_all_pairs():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(50, 6)).astype(np.float32)
    vectors[7] = vectors[31] = 0
    vectors[20] = vectors[3]
    names = [f"{number}.png" for number in range(50)]
    query = rng.normal(size=6).astype(np.float32)
    cosines = [
        (v @ query) / (np.linalg.norm(v) * np.linalg.norm(query)) if v.any() else 0.0
        for v in vectors.astype(np.float64)
    ]
    expected = sorted(range(50), key=lambda row: (-cosines[row], row))
    for size in (1, 7, 50):
        groups = [(names[s : s + size], vectors[s : s + size]) for s in range(0, 50, size)]
        for k in (1, 5, 60):
            found = nearest_rows(query, groups, k)
            assert [path for path, _ in found] == [names[row] for row in expected[:k]]
            np.testing.assert_allclose(
                [cosine for _, cosine in found], [cosines[row] for row in expected[:k]], atol=1e-9
            )


def test_an_image_is_nearest_to_itself(run, images, features):
    for name in ("a/2.png", "b/c/5.png"):
        first, second = search(features, images / name, k=2)
        assert first.path == name
        assert first.cosine == pytest.approx(1, abs=1e-6)
        assert second.cosine < 1
    encoder = iclmsr.load(run)
    a, b = encoder.embed([images / "a/2.png", images / "b/c/5.png"]).astype(np.float64)
    found = {one.path: one.cosine for one in search(features, images / "a/2.png", k=7)}
    assert len(found) == 7
    expected = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    assert found["b/c/5.png"] == pytest.approx(expected, abs=1e-6)


def test_the_query_is_prepared_as_the_images_were(run, images, tmp_path):
    config = EmbedConfig(image_size=16, device="cpu", mean=(0.5,) * 3, std=(0.1,) * 3)
    embed_files(run, images, tmp_path / "g.parquet", config)
    (first,) = search(tmp_path / "g.parquet", images / "a/1.png", k=1)
    assert first == ("a/1.png", pytest.approx(1, abs=1e-6))


def test_another_encoder_is_refused_and_a_moved_one_named(run, images, features, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(run, moved)
    assert search(features, images / "a/1.png", encoder=moved, k=1)[0].path == "a/1.png"
    config = EncoderConfig(width=2)
    about = {"mean": [0.5] * 3, "std": [0.5] * 3, "image_size": 24}
    other = tmp_path / "other.safetensors"
    write_encoder(other, initial_encoder(config, 9), config, preprocessing=about)
    with pytest.raises(IclmsrError, match=r"holds vectors of simclr-folder, but .*other.safetens"):
        search(features, images / "a/1.png", encoder=other)


def test_an_encoder_that_is_gone(run, images, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(run, moved)
    embed_files(moved, images, tmp_path / "f.parquet", EmbedConfig(device="cpu"))
    shutil.rmtree(moved)
    with pytest.raises(IclmsrError, match="no encoder at .*moved.* pass --encoder with where it"):
        search(tmp_path / "f.parquet", images / "a/1.png")


def test_on_the_command_line(images, features, capsys):
    assert cli.main(["search", str(features), str(images / "a/3.png"), "-k", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[0] == " 1.0000  a/3.png"
    cosines = [float(line.split()[0]) for line in lines]
    assert cosines == sorted(cosines, reverse=True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("search", "search begins with vectors and an image"),
        ("search FILE", "search begins with vectors and an image"),
        ("search FILE /nowhere.png", "/nowhere.png does not decode"),
        ("search FILE IMAGE -k 0", "-k must be >= 1, got 0"),
        ("search /nowhere.parquet IMAGE", "no vectors at /nowhere.parquet: make them with iclmsr"),
        ("search IMAGE IMAGE", "search reads .parquet files of iclmsr embed"),
        ("search FILE IMAGE --encoder /nowhere", "no encoder at /nowhere"),
        ("search FILE IMAGE stray", "unknown argument 'stray'"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(words, message, images, features, capsys):
    words = words.replace("FILE", str(features)).replace("IMAGE", str(images / "a/0.png"))
    assert cli.main(words.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert len(error.splitlines()) == 1
    assert message in error


def test_files_that_are_no_vectors(tmp_path, images):
    (tmp_path / "text.parquet").write_text("no")
    with pytest.raises(IclmsrError, match="is no parquet file, or is not whole"):
        search(tmp_path / "text.parquet", picture(0))
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"a": [1]}), tmp_path / "other.parquet")
    with pytest.raises(IclmsrError, match="does not say of which encoder it is"):
        search(tmp_path / "other.parquet", picture(0))


def test_a_file_that_was_cut_off(features, images):
    features.write_bytes(features.read_bytes()[:-40])
    with pytest.raises(IclmsrError, match="is no parquet file, or is not whole"):
        search(features, images / "a/0.png")
