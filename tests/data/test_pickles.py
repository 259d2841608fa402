# SPDX-License-Identifier: Apache-2.0
import collections
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from iclmsr.data.pickles import read_pickle
from iclmsr.errors import IclmsrError

PROTOCOLS = range(6)
VALUES = {
    "none": None,
    "bools": [True, False],
    "integers": [0, 255, 65_535, -1, 2**31, 2**63 - 1, -(2**63)],
    "floats": [0.5, -1e300],
    "strings": ["", "ø∆", "two\nlines \\ and 'quotes'", "x" * 300],
    "bytes": [b"", b"\x00\xff\n'", b"y" * 300],
    b"bytes key": {"nested": {1: ()}},
    3: [(1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [[]]],
}
# What Python 2's cPickle writes: strings of bytes, and names of its own time.
PYTHON_2_ARRAY = (
    b"cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85U\x01b\x87Rq\x09"
    b"(K\x01K\x02K\x03\x86cnumpy\ndtype\nq\x0aU\x02u1K\x00K\x01\x87Rq\x0b"
    b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
)
PYTHON_2 = (
    b"\x80\x02}q\x01(U\x06labelsq\x02]q\x03(K\x03K\x09eU\x04dataq\x06"
    + PYTHON_2_ARRAY
    + b"T\x06\x00\x00\x00\x00\x01\x02\xfd\xfe\xfftbu."
)


class Malicious:
    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self):
        return os.system, (f"touch {self.victim}",)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_plain_values_come_back_for_every_protocol(protocol):
    found = read_pickle(pickle.dumps(VALUES, protocol), "file")
    assert found == VALUES
    assert repr(found) == repr(VALUES)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("code", ["u1", "?", "<i4", ">i4", "<u8", "<f2", "<f8", "<c16"])
@pytest.mark.parametrize("shape", [(2, 3), (0,), (), (2, 1, 2)])
def test_arrays_come_back_for_every_protocol(protocol, code, shape):
    array = (np.arange(np.prod(shape)) * 77 % 251).reshape(shape).astype(code)
    found = read_pickle(pickle.dumps({"a": array}, protocol), "file")["a"]
    np.testing.assert_array_equal(found, array)
    assert found.shape == shape
    assert found.dtype.newbyteorder("=") == array.dtype.newbyteorder("=")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_fortran_order_and_scalars(protocol):
    array = np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3))
    value = {"array": array, "scalar": np.int64(7), "half": np.float32(0.5)}
    found = read_pickle(pickle.dumps(value, protocol), "file")
    np.testing.assert_array_equal(found["array"], array)
    assert (found["scalar"], found["half"]) == (7, 0.5)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_one_object_in_many_places(protocol):
    array = np.arange(3, dtype=">u2")
    shared = ["twice"]
    loop: list[object] = []
    loop.append(loop)
    knot: tuple[list[object], ...] = ([], [1], [2], [3])
    knot[0].append(knot)
    found = read_pickle(pickle.dumps([array, shared, array, shared, loop, knot], protocol), "file")
    assert found[0] is found[2]
    assert found[0].tolist() == [0, 1, 2]
    assert found[1] is found[3]
    assert found[4] is found[4][0]
    assert found[5] is found[5][0][0]
    assert found[5][1:] == knot[1:]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_dtypes_shared_through_the_memo_keep_their_byte_order(protocol):
    dtype = np.dtype(">i4")
    arrays = [np.arange(3).astype(dtype), np.arange(3, 5).astype(dtype)]
    found = read_pickle(pickle.dumps(arrays, protocol), "file")
    assert [array.tolist() for array in found] == [[0, 1, 2], [3, 4]]


def test_python_2_file():
    found = read_pickle(PYTHON_2, "file")
    assert set(found) == {b"labels", b"data"}
    assert found[b"labels"] == [3, 9]
    assert found[b"data"].dtype == np.uint8
    assert found[b"data"].tolist() == [[0, 1, 2], [253, 254, 255]]


def test_python_2_text_protocol():
    data = rb"""(dp1
S'data'
p2
S'\x00\xff\n\'"\\u00e9'
p3
sS"it's"
L12L
s."""
    assert read_pickle(data, "file") == {b"data": b"\x00\xff\n'\"\\u00e9", b"it's": 12}


def test_numpy_1_names():
    modern = pickle.dumps(np.arange(3, dtype=np.uint8), 5)
    old = modern.replace(b"\x13numpy._core.numeric", b"\x12numpy.core.numeric")
    assert b"numpy.core" in old
    # The frame is one byte shorter, which pickletools does not mind.
    assert read_pickle(old, "file").tolist() == [0, 1, 2]


def test_large_array_and_many_memo_entries_are_quick():
    batch = {
        b"data": np.arange(2**20, dtype=np.uint8),
        b"names": [b"%d" % n for n in range(20_000)],
    }
    found = read_pickle(pickle.dumps(batch, 4), "file")
    np.testing.assert_array_equal(found[b"data"], batch[b"data"])
    assert found[b"names"] == batch[b"names"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_malicious_pickle_is_refused_and_not_executed(tmp_path, protocol):
    victim = tmp_path / "victim"
    data = pickle.dumps({"data": [Malicious(victim)]}, protocol)
    with pytest.raises(IclmsrError, match=r"^data_batch_1: refusing '(posix|nt)\.system': a data "):
        read_pickle(data, "data_batch_1")
    assert not victim.exists()
    pickle.loads(data)  # the attack is a real one
    assert victim.exists()


@pytest.mark.parametrize(
    ("data", "refused"),
    [
        (b"cos\nsystem\n(S'true'\ntR.", r"'os\.system'"),
        (b"\x8c\x02os\x8c\x06system\x93.", r"'os\.system'"),
        (b"(S'true'\nios\nsystem\n.", r"'os\.system'"),
        (b"c__builtin__\neval\n.", r"'__builtin__\.eval'"),
        (b"cbuiltins\ngetattr\n.", r"'builtins\.getattr'"),
        (b"cnumpy\nload\n.", r"'numpy\.load'"),
        (b"cnumpy\nndarray.tofile\n.", r"'numpy\.ndarray\.tofile'"),
        (b"Pid\n.", "the pickle instruction PERSID"),
        (b"\x82\x01.", "the pickle instruction EXT1"),
        (b"cnumpy\ndtype\n)\x81.", "the pickle instruction NEWOBJ"),
        (b"\x97.", "the pickle instruction NEXT_BUFFER"),
        (pickle.dumps({1, 2}, 4), "the pickle instruction EMPTY_SET"),
        (pickle.dumps(collections.OrderedDict(a=1), 2), r"'collections\.OrderedDict'"),
        (pickle.dumps(Path("x"), 4), r"'pathlib\S+'"),
        (pickle.dumps(np.array(["x", None], object), 2), "values of type 'O8'"),
        (pickle.dumps(np.array(["text"]), 2), "values of type 'U4'"),
        (pickle.dumps(np.zeros(1, "u1,f4"), 2), "values of type 'V5'"),
        (b"c" + b"evil\x1b[2J\nname\n.", r"'evil\\x1b\[2J\.name'"),
    ],
)
def test_everything_else_is_refused_by_name(data, refused):
    with pytest.raises(IclmsrError, match=f"^file: refusing {refused}: a data file may hold only"):
        read_pickle(data, "file")


NESTED = b"N" + b"\x85" * 100_000


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no STOP at its end"),
        (b"\xff\xfe", "unknown"),
        (b"<html>404</html>", "unknown"),
        (PYTHON_2[:-1], "no STOP at its end"),
        (PYTHON_2[:100], "ValueError"),
        (b".", "IndexError"),
        (b"e.", "IndexError"),
        (b"h\x05.", "KeyError: 5"),
        (b"Nq\x000.", "IndexError"),
        (b"N(K\x01e.", "TypeError"),
        (b"}(K\x01u.", "ValueError"),
        (b"](K\x01K\x02u.", "TypeError"),
        (b"}]Ns.", "a key is neither a string nor an integer"),
        (b"}" + NESTED + b"Ns.", "a key is neither a string nor an integer"),
        (NESTED + b"X\x01\x00\x00\x00a\x93.", "expected str instance"),
        (b"\x8a\xff" + b"\x01" * 255 + b".", "more than 64 bits"),
        (b"L" + b"9" * 5000 + b"L\n.", "ValueError"),
        (b"VS\n)R.", "not a name"),
        (NESTED + b"N" + b"R.", "not a name"),
        (b"cnumpy\nndarray\n)R.", "numpy.ndarray with arguments"),
        (b"c_codecs\nencode\n(Vx\nVrot13\ntR.", "_codecs.encode with arguments"),
        (b"cnumpy\ndtype\nVi3\n\x85R.", "TypeError"),
        (b"NNb.", "a state that no array"),
        (b"}}b.", "a state that no array"),
    ],
)
def test_garbage_is_one_line(data, reason):
    with pytest.raises(IclmsrError, match=rf"^file: not a complete pickle \(.*{reason}.*\)$"):
        read_pickle(data, "file")


def test_every_truncation_is_an_error():
    for data in (PYTHON_2, pickle.dumps(VALUES, 5), pickle.dumps(VALUES, 0)):
        for length in range(len(data)):
            with pytest.raises(IclmsrError, match=r"^file: [^\n]*$"):
                read_pickle(data[:length], "file")


DATA = (dict, list, tuple, str, bytes, bytearray, int, float, type(None), np.ndarray, np.dtype)


def test_every_changed_byte_gives_data_or_one_line():
    for position in range(len(PYTHON_2)):
        for value in (0, 40, 82, 98, 255):
            changed = PYTHON_2[:position] + bytes([value]) + PYTHON_2[position + 1 :]
            try:  # many changes still make data; any other exception gets through
                made = read_pickle(changed, "file")
            except IclmsrError as error:
                made = str(error)
                one_line = made.startswith("file") and len(made.splitlines()) == 1
            else:
                one_line = True
            assert one_line, made
            assert isinstance(made, DATA)


@pytest.mark.parametrize("length", [0, 5, 7])
def test_array_of_the_wrong_length_is_refused(length):
    raw = b"T" + struct.pack("<i", length) + bytes(length)
    data = b"\x80\x02" + PYTHON_2_ARRAY + raw + b"tb."
    message = rf"shape \(2, 3\) and uint8 takes 6 bytes, found {length}"
    with pytest.raises(IclmsrError, match=message):
        read_pickle(data, "file")
    buffer = pickle.dumps(np.zeros((2, 3), np.uint8), 5)
    changed = buffer.replace(b"K\x02K\x03\x86", b"K\x02K" + bytes([9 + length]) + b"\x86")
    assert changed != buffer
    with pytest.raises(IclmsrError, match=f"takes {2 * (9 + length)} bytes, found 6"):
        read_pickle(changed, "file")


@pytest.mark.parametrize(
    "shape",
    [
        b"(J\xff\xff\xff\xffJ\xfa\xff\xff\xfft",
        b"(Vx\nK\x06t",
        b"(NK\x06t",
        b"(" + b"K\x01" * 99 + b"t",
    ],
)
def test_shape_has_to_be_a_few_integers_of_at_least_zero(shape):
    data = PYTHON_2_ARRAY.replace(b"K\x02K\x03\x86", shape) + b"U\x06abcdeftb."
    with pytest.raises(IclmsrError, match="a shape is not made of at most 32 integers >= 0"):
        read_pickle(data, "file")
