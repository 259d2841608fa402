# SPDX-License-Identifier: Apache-2.0
import os

import pytest

from iclmsr.data.decode import Unusable
from iclmsr.errors import IclmsrError
from iclmsr.masks.boxes import check_box, read_boxes

NAMES = ("a/0.jpg", "a/1.jpg", "b/x,y.jpg", "caf\udce9.jpg")


@pytest.fixture
def file(tmp_path):
    return tmp_path / "boxes.csv"


def test_boxes_with_and_without_a_header(file):
    lines = 'a/0.jpg,1,2,3,4\n\n"b/x,y.jpg", 0 ,0.4,7.6,1e1\n'
    boxes = {"a/0.jpg": (1, 2, 3, 4), "b/x,y.jpg": (0, 0, 8, 10)}
    for text in (lines, "path,x0,y0,x1,y1\n" + lines, "\ufeff" + lines.replace("\n", "\r\n")):
        file.write_text(text, encoding="utf-8")
        assert read_boxes(file, NAMES, "SET") == boxes


def test_names_that_are_not_utf_8(file):
    file.write_bytes(b"caf\xe9.jpg,1,2,3,4\n")
    assert read_boxes(file, NAMES, "SET") == {"caf\udce9.jpg": (1, 2, 3, 4)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "FILE names no images"),
        ("path,x0,y0,x1,y1\n", "FILE names no images"),
        ("a/0.jpg,O,2,3,4\na/1.jpg,1,2,3,4\n", "FILE, line 1: expected .*, got 'a/0.jpg,O,2,3,4'"),
        ("a/0.jpg,nan,2,3,4\n", "FILE, line 1: expected .*, got 'a/0.jpg,nan,2,3,4'"),
        ("a,b\na/0.jpg,1,2,3,4\n", "FILE, line 1: expected path,x0,y0,x1,y1, got 'a,b'"),
        ("a/0.jpg,1,2,3\n", "FILE, line 1: expected path,x0,y0,x1,y1, got 'a/0.jpg,1,2,3'"),
        ("a/0.jpg,1,2,3,4,5\n", "FILE, line 1: expected .*, got 'a/0.jpg,1,2,3,4,5'"),
        ("a/0.jpg,1,2,3,4\na/1.jpg,1,2,3,four\n", "FILE, line 2: expected .*3,four'"),
        ("a/0.jpg,1,2,3,4\n\na/1.jpg,1,2,3,nan\n", "FILE, line 3: expected .*3,nan'"),
        ("a/0.jpg,1,2,3,4\na/1.jpg,1,2,3,inf\n", "FILE, line 2: expected .*3,inf'"),
        (
            "a/0.jpg,1,2,3,4\na/0.jpg,1,2,3,5\n",
            "FILE, line 2: a second box for a/0.jpg: leave one, around the whole foreground",
        ),
        (
            "a/2.jpg,1,2,3,4\na/3\u2028.jpg,1,2,3,5\n",
            r"FILE names images that are not in SET: a/2.jpg, a/3\\u2028.jpg",
        ),
        ("x" * 101, f"FILE, line 1: expected .*, got '{'x' * 100}...'"),
        ("x" * 140_000, "cannot read --boxes FILE: field larger than field limit .*"),
    ],
)
def test_bad_files(file, text, message):
    file.write_text(text, encoding="utf-8")
    message = message.replace("FILE", str(file))
    if not message.startswith("cannot"):
        message = f"--boxes {message}"
    with pytest.raises(IclmsrError, match=f"^{message}$"):
        read_boxes(file, NAMES, "SET")


def test_files_that_cannot_be_read(file, tmp_path):
    with pytest.raises(IclmsrError, match=f"^cannot read --boxes {file}: No such file"):
        read_boxes(file, NAMES, "SET")
    with pytest.raises(IclmsrError, match=f"^--boxes {tmp_path} has neither train/.* nor val/.*"):
        read_boxes(tmp_path, NAMES, "SET")
    odd = tmp_path / os.fsdecode(b"\xff.csv")
    with pytest.raises(IclmsrError, match=r"\\xff\.csv: No such file"):
        read_boxes(odd, NAMES, "SET")


@pytest.mark.parametrize("name", ["tiny.ZIP", "tiny.tar", "tiny.tar.gz"])
def test_archives_are_not_read_as_lines(tmp_path, name):
    (tmp_path / name).write_bytes(b"PK\x03\x04")
    with pytest.raises(IclmsrError, match=f"^--boxes {tmp_path / name} is an archive: unpack it "):
        read_boxes(tmp_path / name, NAMES, "SET")


def test_tiny_imagenet_s_own_boxes(tmp_path):
    (tmp_path / "train" / "n01").mkdir(parents=True)
    (tmp_path / "val").mkdir()
    boxes = tmp_path / "train" / "n01" / "n01_boxes.txt"
    boxes.write_text("n01_0.JPEG\t0\t10\t63\t58\nn01_1.JPEG\t1\t2\t3\t4\n")
    (tmp_path / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn01\t5\t6\t7\t8\n")
    names = ["train/n01/images/n01_0.JPEG", "val/images/val_0.JPEG", "test/images/test_0.JPEG"]
    expected = {names[0]: (0, 10, 64, 59), names[1]: (5, 6, 8, 9)}
    assert read_boxes(tmp_path, names, "SET") == expected
    boxes.write_text("n01_0.JPEG\t0\t10\t63\n")
    message = r"line 1: expected a file's name and its box with tabs .*, got 'n01_0.JPEG\\t0\\t10"
    with pytest.raises(IclmsrError, match=f"^--boxes {boxes}, {message}"):
        read_boxes(tmp_path, names, "SET")


def test_a_box_is_a_part_of_its_image():
    check_box((0, 0, 1, 1), 1, 1)
    check_box((2, 3, 20, 10), 20, 10)
    for box in (
        (-1, 0, 2, 2),
        (0, -1, 2, 2),
        (2, 0, 2, 5),
        (0, 5, 5, 4),
        (0, 0, 21, 9),
        (0, 0, 9, 11),
    ):
        with pytest.raises(Unusable, match=r"has a box \(.*\) that is empty or leaves its 20 x 10"):
            check_box(box, 20, 10)
