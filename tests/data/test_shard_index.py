# SPDX-License-Identifier: Apache-2.0
import json
import os
from dataclasses import replace

import pytest

from iclmsr.data.shard_index import (
    Index,
    Sample,
    Shard,
    _compact,
    _sha256,
    decode_index,
    encode_index,
    expand,
)
from iclmsr.errors import IclmsrError

SAMPLES = (
    Sample("00000000", "train/a/0.png", 0, 512, 100),
    Sample("00000001", "train/" + os.fsdecode(b"caf\xe9/0.png"), 1, 1536, 7, 2048, 9),
)
SHARD = Shard("train/000000.tar", 4096, "0" * 64, SAMPLES)
INDEX = Index("stamp", {"train": ("a", "caf\udce9")}, (SHARD,))


def fails(message, text):
    with pytest.raises(IclmsrError, match=f"^{message}$"):
        decode_index(text, "index.json")


def test_there_and_back():
    text = encode_index(INDEX)
    assert decode_index(text, "index.json") == INDEX
    assert decode_index(json.dumps(json.loads(text), indent=1).encode(), "index.json") == INDEX


def test_a_changed_or_cut_index_is_damaged():
    text = encode_index(INDEX)
    assert text.count(b"1536") == 1
    changed = text.replace(b"1536", b"1535")
    fails(r"index\.json is .* damaged \(ValueError: its content .* SHA-256\): .*", changed)
    for length in range(0, len(text) - 1, 7):
        fails(r"index\.json is no index of shards or is damaged \(.+\): .*", text[:length])
    for other in (b"[]", b"{}", b"3", b'{"format": "coco"}', b"\xff"):
        fails(r"index\.json is no index of shards or is damaged \(.+\): .*", other)


def test_a_later_version():
    text = encode_index(INDEX).replace(b'"version":1', b'"version":2')
    fails(r"index\.json has version 2, this iclmsr reads 1: install a newer one", text)


@pytest.mark.parametrize(
    "shard",
    [
        SHARD._replace(name="../000000.tar"),
        SHARD._replace(name="/etc/passwd"),
        SHARD._replace(sha256="../../x"),
        SHARD._replace(samples=(SAMPLES[0]._replace(path="../../evil.png"),)),
        SHARD._replace(samples=(SAMPLES[0]._replace(path="/evil.png"),)),
        SHARD._replace(samples=(SAMPLES[0]._replace(offset=4000),)),
        SHARD._replace(samples=(SAMPLES[0]._replace(offset=-1),)),
        SHARD._replace(samples=(SAMPLES[1]._replace(mask_size=4000),)),
        SHARD._replace(samples=(SAMPLES[1]._replace(offset="0"),)),
    ],
)
def test_an_index_that_points_elsewhere(shard):
    """Even one with the right checksum, which whoever wrote it may have computed."""
    fails(
        r"index\.json is no index .*\((Value|Type)Error: .*",
        encode_index(replace(INDEX, shards=(shard,))),
    )


def test_the_checksum_is_of_the_content():
    value = json.loads(encode_index(INDEX))
    assert value["sha256"] == _sha256(_compact(value["content"]))
    assert value["content"]["columns"] == list(Sample._fields)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a.tar", ["a.tar"]),
        ("a-{9..11}.tar", ["a-9.tar", "a-10.tar", "a-11.tar"]),
        ("a-{009..010}.tar", ["a-009.tar", "a-010.tar"]),
        ("{x,y}/{0..1}.tar", ["x/0.tar", "x/1.tar", "y/0.tar", "y/1.tar"]),
    ],
)
def test_patterns(pattern, names):
    assert expand(pattern) == names


@pytest.mark.parametrize("pattern", ["{}", "{x}", "{3..2}", "{0..9999999}", "{0..9999}{0..9999}"])
def test_bad_patterns(pattern):
    with pytest.raises(IclmsrError, match="expected a range as {000..009} or words as {a,b}"):
        expand(pattern)
