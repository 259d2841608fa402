# SPDX-License-Identifier: Apache-2.0
"""What lies where in tar shards, as a value that goes to JSON and back."""

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any, NamedTuple

from iclmsr.errors import Damaged, IclmsrError

NAME = "index.json"
FIRST = "000000.tar"
FORMAT, VERSION = "iclmsr-shards", 1
MARK = f'{{"format":"{FORMAT}"'.encode()
"""How the file begins."""
MOST = 1_000_000
"""Files that one pattern may stand for."""


class Sample(NamedTuple):
    """An image in a shard.

    Attributes:
        key: What its members' names begin with.
        path: Its path in the data set, with ``/`` between the parts.
        label: In [0, C), or -1 where there is none.
        offset: Where its file begins in the shard, bytes.
        size: How long the file is, bytes.
        mask_offset: Where its mask begins, or -1 if it has none.
        mask_size: How long the mask is.
    """

    key: str
    path: str
    label: int
    offset: int
    size: int
    mask_offset: int = -1
    mask_size: int = 0


class Shard(NamedTuple):
    """A tar file of samples.

    Attributes:
        name: Its path or URL from where the index lies.
        bytes: Its length.
        sha256: Of its content, 64 hexadecimal digits.
        samples: In the order of their offsets.
    """

    name: str
    bytes: int
    sha256: str
    samples: tuple[Sample, ...]


@dataclass(frozen=True)
class Index:
    """All shards of a data set.

    Attributes:
        stamp: What tells the data and the settings that they were made from from all others.
        classes: The class names in the order of the labels, by the folder of a split, which is
            empty where there are no splits.
        shards: One after the other.
        backgrounds: The file ``backgrounds.csv`` beside the images; empty if there is none.
    """

    stamp: str
    classes: dict[str, tuple[str, ...]]
    shards: tuple[Shard, ...]
    backgrounds: str = ""


def encode_index(index: Index) -> bytes:
    """The index as JSON with a checksum of its own.

    >>> decode_index(encode_index(Index("", {}, ())), "here")
    Index(stamp='', classes={}, shards=(), backgrounds='')
    """
    content = {
        "stamp": index.stamp,
        "classes": index.classes,
        "columns": Sample._fields,
        "shards": [shard._asdict() for shard in index.shards],
    }
    if index.backgrounds:
        content["backgrounds"] = index.backgrounds
    text = _compact(content)
    head = {"format": FORMAT, "version": VERSION, "sha256": _sha256(text)}
    return f'{_compact(head)[:-1]},"content":{text}}}\n'.encode()


def decode_index(text: bytes, where: str) -> Index:
    """The index that :func:`encode_index` made ``text`` from.

    Args:
        text: The file.
        where: Its name, for messages.

    Raises:
        Damaged: It is cut off or changed, or names files elsewhere.
        IclmsrError: It is of a later version.
    """
    try:
        value = json.loads(text)
        if value["format"] != FORMAT:
            raise ValueError(f"format {value['format']!r}")
        if value["version"] != VERSION:
            raise IclmsrError(
                f"{where} has version {value['version']}, this iclmsr reads {VERSION}: "
                "install a newer one"
            )
        content = value["content"]
        if _sha256(_compact(content)) != value["sha256"]:
            raise ValueError("its content does not have its SHA-256")
        classes = {folder: tuple(names) for folder, names in content["classes"].items()}
        shards = tuple(map(decode_shard, content["shards"]))
        return Index(content["stamp"], classes, shards, content.get("backgrounds", ""))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise Damaged(
            f"{where} is no index of shards or is damaged ({reason}): `iclmsr data shard` or "
            "another copy mends it"
        ) from error


def decode_shard(value: dict[str, Any]) -> Shard:
    """A shard from its JSON value.

    Raises:
        ValueError: It or a sample has a path that leads out, or lies where no byte is. KeyError,
            TypeError where the value is of another form.
    """
    samples = tuple(Sample(*row) for row in value["samples"])
    shard = Shard(value["name"], value["bytes"], value["sha256"], samples)
    check_inside(shard.name)
    if not re.fullmatch("[0-9a-f]{64}", shard.sha256):
        raise ValueError(f"SHA-256 {shard.sha256!r}")
    for sample in samples:
        check_inside(sample.path)
        if not 0 <= sample.offset <= sample.offset + sample.size <= shard.bytes:
            raise ValueError(f"offset {sample.offset} and size {sample.size} of {sample.path!r}")
        if not sample.mask_offset + sample.mask_size <= shard.bytes or sample.mask_size < 0:
            raise ValueError(f"mask offset {sample.mask_offset} of {sample.path!r}")
    return shard


def check_inside(name: str) -> None:
    """Raises ValueError if a path leads out of where it begins.

    >>> check_inside("train/a/0.png")
    """
    if not name or name.startswith("/") or ".." in name.split("/"):
        raise ValueError(f"{name!r} leads out of the folder")


def expand(pattern: str) -> list[str]:
    """All names that a pattern of numbers or words in braces stands for.

    Raises:
        IclmsrError: What is in the braces is neither, or makes too many names.

    >>> expand("{a,b}-{08..10}.tar")
    ['a-08.tar', 'a-09.tar', 'a-10.tar', 'b-08.tar', 'b-09.tar', 'b-10.tar']
    """
    match = re.search(r"\{([^{}]*)\}", pattern)
    if match is None:
        return [pattern]
    numbers = re.fullmatch(r"(\d+)\.\.(\d+)", match[1])
    if numbers is not None:
        first, last = map(int, numbers.groups())
        width = len(numbers[1]) if numbers[1].startswith("0") else 0
        choices: list[str] = []
        if last - first < MOST:
            choices = [f"{number:0{width}}" for number in range(first, last + 1)]
    else:
        choices = match[1].split(",") if "," in match[1] else []
    rest = expand(pattern[match.end() :])
    if not choices or len(choices) * len(rest) > MOST:
        raise IclmsrError(
            f"{pattern}: expected a range as {{000..009}} or words as {{a,b}} of at most "
            f"{MOST:,} files, got {match[0]}"
        )
    return [pattern[: match.start()] + one + end for one in choices for end in rest]


def _compact(value: Any) -> str:
    """JSON without spaces."""
    return json.dumps(value, separators=(",", ":"))


def _sha256(text: str) -> str:
    """SHA-256 of ASCII text."""
    return hashlib.sha256(text.encode()).hexdigest()
