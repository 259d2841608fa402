# SPDX-License-Identifier: Apache-2.0
"""Files of vectors: every image once, whole or not there, and the same after any kill."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile

import numpy as np
import pyarrow.parquet as pq
import pytest

import iclmsr
from iclmsr import cli
from iclmsr.embed import files as files_module
from iclmsr.embed import parts as parts_module
from iclmsr.embed.files import EmbedConfig, embed_files
from iclmsr.embed.parts import Parts
from iclmsr.encoders import load_encoder
from iclmsr.errors import IclmsrError

CONFIG = EmbedConfig(batch_size=2, workers=2, device="cpu")
NAMES = ["a/0.png", "a/1.png", "a/2.png", "a/3.png", "b/c/4.png", "b/c/5.png", "b/c/6.png"]
SKIP = EmbedConfig(batch_size=2, workers=2, device="cpu", on_corrupt="skip")


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """Three images a part instead of thousands."""
    monkeypatch.setattr(files_module, "PART", 3)


def read(path):
    table = pq.read_table(path)
    vectors = np.array(table["vector"].to_pylist(), np.float32)
    return table["path"].to_pylist(), vectors


def test_every_image_has_its_vector(run, images, tmp_path):
    out = tmp_path / "features.parquet"
    done = embed_files(run, images, out, CONFIG)
    assert (done.count, done.kept, done.skipped) == (7, 0, {})
    paths, vectors = read(out)
    assert paths == NAMES
    assert len(np.unique(vectors.round(4), axis=0)) == 7
    expected = iclmsr.load(run).embed([images / name for name in NAMES])
    np.testing.assert_allclose(vectors, expected, atol=1e-6)
    file = pq.ParquetFile(out)
    assert str(file.schema_arrow.field("vector").type.value_type) == "float"
    assert str(file.schema_arrow.field("path").type) == "string"
    assert [file.metadata.row_group(k).num_rows for k in range(file.num_row_groups)] == [3, 3, 1]
    about = json.loads(file.schema_arrow.metadata[b"iclmsr"])
    assert about["encoder"] == str(run)
    assert about["origin"]["encoder"] == load_encoder(run).sha256
    assert (about["root"], about["count"]) == (str(images), 7)
    assert not list(tmp_path.glob("*.parts"))
    assert not list(tmp_path.glob(".*"))


def test_npy_with_its_paths(run, images, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    embed_files(run, images, tmp_path / "f.npy", CONFIG)
    monkeypatch.undo()
    monkeypatch.setattr(files_module, "PART", 3)
    embed_files(run, images, tmp_path / "f.parquet", CONFIG)
    found = np.load(tmp_path / "f.npy", mmap_mode="r")
    assert found.dtype == np.float32
    assert np.array_equal(found, read(tmp_path / "f.parquet")[1])
    assert json.loads((tmp_path / "f.json").read_text())["paths"] == NAMES
    assert embed_files(run, images, tmp_path / "f.npy", CONFIG).kept == 7


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_archives(run, images, tmp_path, kind):
    path = tmp_path / f"images.{kind}"
    if kind == "tar":
        with tarfile.open(path, "w") as archive:
            archive.add(images, "images")
    else:
        with zipfile.ZipFile(path, "w") as archive:
            for file in sorted(images.rglob("*.png")):
                archive.write(file, f"images/{file.relative_to(images)}")
    embed_files(run, path, tmp_path / "archive.parquet", CONFIG)
    embed_files(run, images, tmp_path / "folder.parquet", CONFIG)
    a, b = read(tmp_path / "archive.parquet"), read(tmp_path / "folder.parquet")
    assert a[0] == b[0]
    assert np.array_equal(a[1], b[1])


def test_an_archive_that_is_compressed_as_a_whole(run, images, tmp_path):
    with tarfile.open(tmp_path / "images.tar.gz", "w:gz") as archive:
        archive.add(images, "images")
    with pytest.raises(IclmsrError, match="compressed as a whole, .* unpack it, or pack it as"):
        embed_files(run, tmp_path / "images.tar.gz", tmp_path / "f.parquet", CONFIG)
    assert not list(tmp_path.glob("f.*"))


class Killed(BaseException):
    """Nothing catches it, as nothing catches a kill."""


@pytest.mark.parametrize("after", [0, 1, 2, 3])
def test_cut_off_and_started_again(run, images, tmp_path, monkeypatch, after):
    """After some parts, or in the middle of the file that they go into."""
    embed_files(run, images, tmp_path / "whole.parquet", CONFIG)
    out = tmp_path / "cut.parquet"
    write = Parts.write
    written = []

    def dying(self, number, part):
        if len(written) == after:
            raise Killed
        write(self, number, part)
        written.append(number)

    def dying_rows(parts, names):
        yield next(rows(parts, names))
        raise Killed

    rows = files_module._rows
    monkeypatch.setattr(Parts, "write", dying)
    monkeypatch.setattr(files_module, "_rows", dying_rows)
    with pytest.raises(Killed):
        embed_files(run, images, out, CONFIG)
    assert not out.exists()
    monkeypatch.setattr(Parts, "write", write)
    monkeypatch.setattr(files_module, "_rows", rows)
    done = embed_files(run, images, out, CONFIG)
    assert (done.count, done.kept) == (7, [0, 3, 6, 7][after])
    assert read(out)[0] == NAMES
    assert out.read_bytes() == (tmp_path / "whole.parquet").read_bytes()


SCRIPT = """
import sys, time
from iclmsr import cli
from iclmsr.embed import files
from iclmsr.embed.embedder import Embedder
files.PART = 3
features = Embedder.features
def slow(self, pixels):
    time.sleep(0.15)
    return features(self, pixels)
Embedder.features = slow
sys.exit(cli.main(sys.argv[1:]))
"""


def test_killed(run, images, tmp_path):
    """By SIGKILL at a moment when a part is there."""
    embed_files(run, images, tmp_path / "whole.parquet", CONFIG)
    out = tmp_path / "cut.parquet"
    words = ["embed", run, images, "-o", out, "--batch-size", "2", "--device", "cpu"]
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, *map(str, words)])
    deadline = time.monotonic() + 60
    while not list((tmp_path / "cut.parquet.parts").glob("part-*")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists()
    assert embed_files(run, images, out, CONFIG).kept >= 3
    assert out.read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_a_file_that_is_complete_is_left_alone(run, images, tmp_path):
    out = tmp_path / "f.parquet"
    embed_files(run, images, out, CONFIG)
    before = out.stat()
    done = embed_files(run, images, out, CONFIG)
    assert (done.count, done.kept) == (7, 7)
    assert out.stat().st_mtime_ns == before.st_mtime_ns
    shutil.copy(images / "a" / "0.png", images / "a" / "new.png")
    with pytest.raises(IclmsrError, match="is there already, of another encoder or other images"):
        embed_files(run, images, out, CONFIG)


def test_parts_of_other_images_or_another_size_are_not_gone_on_with(
    run, images, tmp_path, monkeypatch
):
    out = tmp_path / "f.parquet"
    monkeypatch.setattr(files_module, "write_table", lambda *a: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed):
        embed_files(run, images, out, CONFIG)
    other = EmbedConfig(batch_size=2, image_size=16)
    with pytest.raises(IclmsrError, match="was begun with another encoder or other images"):
        embed_files(run, images, out, other)
    (images / "a" / "0.png").unlink()
    with pytest.raises(IclmsrError, match="was begun with another encoder or other images"):
        embed_files(run, images, out, CONFIG)


def test_two_processes_at_once(run, images, tmp_path):
    parts = Parts(tmp_path / "f.parquet", {}, 1)
    with parts.held(), pytest.raises(IclmsrError, match="being written by another process"):
        embed_files(run, images, tmp_path / "f.parquet", CONFIG)


def test_a_place_without_rights(tmp_path, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.mkdir", refused)  # root may do everything
    parts = Parts(tmp_path / "f.parquet", {}, 1)
    message = f"cannot write {parts.folder}: Permission denied: name a place that you may write to"
    with pytest.raises(IclmsrError, match=f"^{message}$"), parts.held():
        pass


def test_damaged_images_stop_it_or_are_named(run, images, tmp_path):
    (images / "a" / "1.png").write_text("text")
    (images / "b" / "c" / "5.png").write_bytes((images / "b" / "c" / "5.png").read_bytes()[:300])
    out = tmp_path / "f.parquet"
    with pytest.raises(IclmsrError, match=r"a/1.png does not decode .* pass --on-corrupt skip"):
        embed_files(run, images, out, CONFIG)
    assert not out.exists()
    done = embed_files(run, images, out, SKIP)
    assert done.count == 5
    assert list(done.skipped) == ["a/1.png", "b/c/5.png"]
    paths, vectors = read(out)
    kept = [name for name in NAMES if name not in done.skipped]
    assert paths == kept
    expected = iclmsr.load(run).embed([images / name for name in kept])
    np.testing.assert_allclose(vectors, expected, atol=1e-6)
    assert "2 images left out\n  a/1.png does not decode" in done.describe()
    assert list(embed_files(run, images, out, SKIP).skipped) == ["a/1.png", "b/c/5.png"]


def test_a_part_without_a_single_image(run, images, tmp_path):
    for number in range(3):
        (images / "a" / f"{number}.png").write_text("text")
    assert embed_files(run, images, tmp_path / "f.parquet", SKIP).count == 4
    assert read(tmp_path / "f.parquet")[0] == NAMES[3:]


def test_not_one_image(run, images, tmp_path):
    for path in images.rglob("*.png"):
        path.write_text("text")
    with pytest.raises(IclmsrError, match="not one image in .* can be used: a/0.png does not"):
        embed_files(run, images, tmp_path / "f.parquet", SKIP)


def test_what_an_earlier_session_left_out_stops_a_strict_one(run, images, tmp_path, monkeypatch):
    (images / "a" / "2.png").write_text("text")
    out = tmp_path / "f.parquet"
    write = files_module.write_table
    monkeypatch.setattr(files_module, "write_table", lambda *a: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed):
        embed_files(run, images, out, SKIP)
    monkeypatch.setattr(files_module, "write_table", write)
    with pytest.raises(IclmsrError, match="a/2.png does not decode"):
        embed_files(run, images, out, CONFIG)
    assert embed_files(run, images, out, SKIP).kept == 6


def test_a_damaged_part(run, images, tmp_path, monkeypatch):
    out = tmp_path / "f.parquet"
    monkeypatch.setattr(files_module, "write_table", lambda *a: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed):
        embed_files(run, images, out, CONFIG)
    part = tmp_path / "f.parquet.parts" / "part-000001.safetensors"
    part.write_bytes(part.read_bytes()[:50])
    with pytest.raises(IclmsrError, match=r"part-000001.safetensors is damaged .*remove it"):
        embed_files(run, images, out, CONFIG)


def test_names_that_are_no_text(run, images, tmp_path):
    strange = os.fsencode(images / "a" / "caf") + b"\xe9.png"
    shutil.copy(images / "a" / "0.png", strange)
    embed_files(run, images, tmp_path / "f.parquet", CONFIG)
    assert "a/caf\\xe9.png" in read(tmp_path / "f.parquet")[0]


def test_the_size_of_a_part_is_that_of_the_row_groups():
    assert parts_module.PART == 4096


def test_on_the_command_line(run, images, tmp_path, capsys):
    out = tmp_path / "f.parquet"
    words = ["embed", str(run), str(images), "-o", str(out), "--image-size", "16"]
    assert cli.main(words) == 0
    assert capsys.readouterr().out == f"vectors: 7\nwrote {out}\n"
    assert cli.main(words) == 0
    assert "vectors: 7, of them 7 from an earlier session" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("embed", "embed begins with an encoder and images"),
        ("embed RUN -o OUT.parquet", "embed begins with an encoder and images"),
        ("embed RUN IMAGES", "embed needs a file to write: pass -o features.parquet"),
        ("embed RUN IMAGES -o OUT.csv", "-o must end in .parquet or .npy, got OUT.csv"),
        ("embed RUN IMAGES -o OUT/x/f.npy", "there is no folder OUT/x"),
        ("embed RUN /nowhere -o OUT.npy", "there is no folder /nowhere"),
        ("embed /nowhere IMAGES -o OUT.npy", "no encoder at /nowhere"),
        ("embed RUN IMAGES -o OUT.npy --batch 3", "unknown option '--batch': did you mean"),
        ("embed RUN IMAGES -o OUT.npy --workers 0", "workers must be >= 1, got 0"),
        ("embed RUN IMAGES -o OUT.npy stray", "unknown argument 'stray'"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(words, message, run, images, tmp_path, capsys):
    places = {"RUN": run, "IMAGES": images, "OUT": tmp_path / "out"}
    for name, place in places.items():
        words, message = words.replace(name, str(place)), message.replace(name, str(place))
    assert cli.main(words.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert len(error.splitlines()) == 1
    assert message in error
    assert not list(tmp_path.glob("out*"))


def test_without_pyarrow(run, images, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(IclmsrError, match=r"pip install 'iclmsr\[parquet\]', or write .npy"):
        embed_files(run, images, tmp_path / "f.parquet", CONFIG)
