# SPDX-License-Identifier: Apache-2.0
"""What lies where in a WebDataset shard that comes without an index of ours."""

import json
import reprlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

from iclmsr.data.archives import DAMAGE, open_members, regular
from iclmsr.data.kinds import kind_of_open
from iclmsr.data.listing import SUFFIXES
from iclmsr.data.names import printable
from iclmsr.errors import Damaged, IclmsrError

MASK = "mask.png"
LABEL_SIZE = 1 << 20
"""Bytes; what is longer is no label."""
PAGE = 512
"""Bytes in which a web page begins."""


@dataclass
class Members:
    """What a shard has under one key.

    Attributes:
        key: The members' path up to the first dot of the last part.
        suffix: Of the image, with the dot; empty as long as none was found.
        offset: Where the image begins, bytes.
        size: Its length, bytes.
        label: The text of ``.cls``, or ``label`` in ``.json``, or None.
        mask_offset: Where the mask begins, or -1.
        mask_size: Its length, bytes.
    """

    key: str
    suffix: str = ""
    offset: int = 0
    size: int = 0
    label: str | None = None
    mask_offset: int = -1
    mask_size: int = 0


@dataclass(frozen=True)
class Scan:
    """A shard that was read once.

    Attributes:
        bytes: Its length.
        sha256: Of its content; empty for one on this machine, which is read in place.
        samples: Its images.
    """

    bytes: int
    sha256: str
    samples: tuple[Members, ...]


def read_shard(name: str, file: IO[bytes], size: int, sha256: str) -> Scan:
    """What a shard has in it.

    Args:
        name: Its path or URL, for messages.
        file: The shard, open; it is closed.
        size: Its length, bytes.
        sha256: Of its content; empty if it is read in place.

    Raises:
        Damaged: It is truncated or corrupt.
        IclmsrError: It is something else than a tar archive; a key has two images; a label is
            none.
    """
    with file:
        file.seek(0)
        try:
            return Scan(size, sha256, tuple(_samples(file, printable(name))))
        except DAMAGE as error:
            _check_kind(file, printable(name))
            raise Damaged(
                f"{printable(name)}: truncated or corrupt shard ({type(error).__name__}: {error}): "
                f"found {size:,} bytes; make or download it again"
            ) from error


def _check_kind(file: IO[bytes], where: str) -> None:
    """Raises where a file is another one than a tar archive, whole as it may be."""
    kind = kind_of_open(file)
    if kind not in ("", ".tar"):
        raise IclmsrError(
            f"{where}: a *{kind} archive by its content, no shard: pack what is in it as a *.tar "
            "that is not compressed"
        )
    file.seek(0)
    if file.read(PAGE).lstrip().startswith(b"<"):
        raise IclmsrError(
            f"{where}: no tar archive but a web page, as for a login or an error: look at it in a "
            "browser, and mend the address or your rights"
        )


def _samples(file: IO[bytes], where: str) -> Iterator[Members]:
    """Those keys of a shard that have an image."""
    found, others, labels = dict[str, Members](), dict[str, str](), dict[str, Any]()
    with open_members(file) as archive:
        for name, member in regular(where, archive, file):
            folder, slash, base = name.rpartition("/")
            stem, _, kind = base.partition(".")
            if not stem or "/." in name or name.startswith("."):
                continue
            key = folder + slash + stem
            one = found.setdefault(key, Members(key))
            suffix = f".{kind.lower()}"
            if kind == MASK:
                one.mask_offset, one.mask_size = member.offset_data, member.size
            elif suffix in SUFFIXES and suffix == one.suffix:
                raise IclmsrError(
                    f"{where} has an image '{printable(name)}' twice: give each a name of its own"
                )
            elif suffix in SUFFIXES and one.suffix:
                names = f"{printable(key + one.suffix)} and {printable(name)}"
                raise IclmsrError(
                    f"{where}: key '{printable(key)}' has two images, {names}: keep one, call a "
                    f"mask {printable(key)}.{MASK}, or give each a key of its own"
                )
            elif suffix in SUFFIXES:
                one.suffix, one.offset, one.size = suffix, member.offset_data, member.size
            elif suffix.endswith(SUFFIXES):
                others.setdefault(key, name)
            elif kind in ("cls", "json") and member.size <= LABEL_SIZE:
                content = archive.extractfile(member)
                assert content is not None  # as it is a plain file
                text = content.read().decode("utf-8-sig", "surrogateescape")
                if kind == "cls":
                    one.label = text.strip()
                else:
                    labels[key] = _label_in(text)
    for key, name in others.items():
        if not found[key].suffix:
            raise IclmsrError(
                f"{where}: '{printable(name)}' has several dots, and the key '{printable(key)}', "
                "up to the first, has no image: name images KEY.png, labels KEY.cls, no dot in KEY"
            )
    for key, one in found.items():
        if one.suffix:
            if one.label is None and labels.get(key) is not None:
                one.label = _checked(labels[key], f"{where}: '{printable(key)}.json'")
            yield one


def _label_in(text: str) -> Any:
    """What a JSON text has as ``label``; None if it has none."""
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value.get("label") if isinstance(value, dict) else None


def _checked(label: Any, where: str) -> str:
    """A label from JSON as text; raises if it is none."""
    if type(label) not in (str, int):  # True is an int, too
        raise IclmsrError(
            f"{where} has the label {reprlib.repr(label)}, which is no class: write a whole number "
            "or a word, or put the class into KEY.cls"
        )
    return str(label)
