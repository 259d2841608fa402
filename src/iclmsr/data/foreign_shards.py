# SPDX-License-Identifier: Apache-2.0
"""WebDataset shards that come without an index of ours: read once to make one."""

import json
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from iclmsr.data.archives import DAMAGE, open_members, opened, regular
from iclmsr.data.listing import FOLDERS, SUFFIXES
from iclmsr.data.names import printable
from iclmsr.data.shard_index import Index, Sample, Shard, expand
from iclmsr.data.shard_store import ShardStore
from iclmsr.errors import Damaged, IclmsrError
from iclmsr.files import unwritable, write_atomic

MASK = "mask.png"
LABEL_SIZE = 1 << 20
"""Bytes; what is longer is no label."""
SPLITS = [name for names in FOLDERS.values() for name in names]


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


def index_shards(pattern: str, store: ShardStore) -> tuple[Index, Path | str]:
    """The index of WebDataset shards, and the folder or URL that their names begin from.

    A sample is a key with an image (any suffix that a folder's images may have), a label in
    ``.cls`` (a number or a name) or as ``label`` in ``.json``, and a mask in ``.mask.png``;
    other members are passed over. An image is called ``CLASS/SHARD/KEY``; numbers as classes are
    filled up with zeros, so that they keep their order. Without labels it is called as in its
    shard where that has folders, and ``SHARD-KEY`` where not. If each shard's name has train,
    test or val in it, so do the paths.

    Args:
        pattern: Path or URL with ranges or words in braces.
        store: Where shards from a URL and what was found are kept.

    Raises:
        IclmsrError: A shard cannot be read or is damaged; only some have labels; no images.
    """
    start = pattern.partition("{")[0].rpartition("/")[0] + "/" if "/" in pattern else ""
    index = index_names(pattern, expand(pattern), start, store)
    return index, start.rstrip("/") if "://" in pattern else Path(start or ".")


def index_names(what: str, names: Sequence[str], start: str, store: ShardStore) -> Index:
    """As :func:`index_shards`, of shards by their names.

    Args:
        what: All of them, for messages.
        names: Path or URL of each.
        start: What they begin with, and what their names in the index leave out.
        store: As above.
    """
    known = {name: _recall(_note(name, store)) for name in names}
    if None in known.values():
        warnings.warn(f"{what} has no index: reading all shards once to make one", stacklevel=3)
    scans = [known[name] or _scan(name, store) for name in names]
    for name, scan in zip(names, scans, strict=True):
        if not scan.samples:
            raise IclmsrError(
                f"no images in {name}: looked for members named *{', *'.join(SUFFIXES)}"
            )
    return _index([name.removeprefix(start) for name in names], scans)


def _index(names: Sequence[str], scans: Sequence[Scan]) -> Index:
    """The index of all shards together."""
    splits = [_split_of(name) for name in names]
    folders = [f"{split}/" for split in splits] if all(splits) else [""] * len(names)
    class_of = _classes(names, scans)
    nested = any("/" in one.key for scan in scans for one in scan.samples)
    classes: dict[str, tuple[str, ...]] = {}
    for folder in dict.fromkeys(folders):
        here = [scan for scan, its in zip(scans, folders, strict=True) if its == folder]
        labels = {one.label for scan in here for one in scan.samples}
        classes[folder[:-1]] = tuple(sorted({class_of[one] for one in labels if one is not None}))
    shards, seen = [], set[str]()
    for number, (name, scan, folder) in enumerate(zip(names, scans, folders, strict=True)):
        numbers = {one: at for at, one in enumerate(classes[folder[:-1]])}
        samples = []
        for one in scan.samples:
            if one.label is not None:
                path = f"{folder}{class_of[one.label]}/{number:06d}/{one.key}"
            elif nested:
                path = one.key if one.key.startswith(folder) else folder + one.key
            else:
                path = f"{folder}{number:06d}-{one.key}"
            label = -1 if one.label is None else numbers[class_of[one.label]]
            spots = (one.offset, one.size, one.mask_offset, one.mask_size)
            samples.append(Sample(one.key, path + one.suffix, label, *spots))
        paths = {sample.path for sample in samples}
        if seen & paths:
            raise IclmsrError(
                f"{name}: another shard has an image {min(seen & paths)} too: shards without "
                "labels need names that are all different"
            )
        seen |= paths
        shards.append(Shard(name, scan.bytes, scan.sha256, tuple(samples)))
    return Index("", classes, tuple(shards))


def _classes(names: Sequence[str], scans: Sequence[Scan]) -> dict[str, str]:
    """The class that each label is; a folder's name."""
    first: dict[bool, str] = {}
    texts: dict[str, str] = {}
    for name, scan in zip(names, scans, strict=True):
        for one in scan.samples:
            where = f"{printable(one.key)} in {name}"
            first.setdefault(one.label is None, where)
            if one.label is not None:
                texts.setdefault(one.label, where)
    if len(first) == 2:
        raise IclmsrError(f"{first[True]} has no label (.cls), but {first[False]} has")
    if "" in texts:
        raise IclmsrError(f"{texts['']} has an empty label")
    numbers = all(re.fullmatch(r"-?\d+", text) for text in texts)
    width = max(map(len, texts), default=0) if numbers else 0
    named = {text: re.sub(r"^\.|/", "_", text).zfill(width) for text in texts}
    text_of: dict[str, str] = {}
    for text, name in named.items():
        other = text_of.setdefault(name, text)
        if other != text:
            raise IclmsrError(
                f"{texts[other]} has label {other!r} and {texts[text]} has {text!r}, which would "
                f"be one class, {name!r}: write them alike, or so that they differ in more"
            )
    return named


def _split_of(name: str) -> str | None:
    """The split that a shard's name has in it.

    >>> _split_of("pets-train-000001.tar"), _split_of("trained.tar")
    ('train', None)
    """
    match = re.search(rf"(?<![a-z])({'|'.join(SPLITS)})(?![a-z])", name.lower())
    return match and match[1]


def _note(name: str, store: ShardStore) -> Path:
    """Where what was found in a shard is noted; a local one that changes gets another note."""
    key = name
    if "://" not in name:
        try:
            status = Path(name).stat()
        except OSError as error:
            raise IclmsrError(f"cannot read {printable(name)}: {error.strerror}") from error
        key = repr((str(Path(name).resolve()), status.st_size, status.st_mtime_ns))
    return store.note(key)


def _recall(note: Path) -> Scan | None:
    """What was noted, if it can be read."""
    try:
        value = json.loads(note.read_text())
        samples = tuple(Members(**one) for one in value.pop("samples"))
        return Scan(samples=samples, **value)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _scan(name: str, store: ShardStore) -> Scan:
    """Reads a shard and notes what is in it."""
    if "://" in name:
        patience = store.remote.patience
        found = patience.keep_trying(name, lambda: _read(name, *store.open_unknown(name)))
    else:
        found = _read(name, opened(Path(name)), Path(name).stat().st_size, "")
    note = _note(name, store)
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(note, error) from error
    write_atomic(note, json.dumps(asdict(found)).encode())
    return found


def _read(name: str, file: IO[bytes], size: int, sha256: str) -> Scan:
    """What an open shard has in it."""
    with file:
        file.seek(0)
        try:
            return Scan(size, sha256, tuple(_samples(file, printable(name))))
        except DAMAGE as error:
            raise Damaged(
                f"{printable(name)}: truncated or corrupt shard ({type(error).__name__}: {error}): "
                f"found {size:,} bytes; make or download it again"
            ) from error


def _samples(file: IO[bytes], where: str) -> Iterator[Members]:
    """Those keys of a shard that have an image."""
    found, others = dict[str, Members](), dict[str, str]()
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
            elif suffix in SUFFIXES and not one.suffix:
                one.suffix, one.offset, one.size = suffix, member.offset_data, member.size
            elif suffix.endswith(SUFFIXES):
                others.setdefault(key, name)
            elif kind in ("cls", "json") and member.size <= LABEL_SIZE:
                content = archive.extractfile(member)
                assert content is not None  # as it is a plain file
                one.label = _label(kind, content.read(), one.label)
    for key, name in others.items():
        if not found[key].suffix:
            raise IclmsrError(
                f"{where}: '{printable(name)}' has several dots, and the key '{printable(key)}', "
                "up to the first, has no image: name images KEY.png, labels KEY.cls, no dot in KEY"
            )
    yield from (one for one in found.values() if one.suffix)


def _label(kind: str, content: bytes, before: str | None) -> str | None:
    """The label in a member; ``.cls`` goes before ``.json``."""
    text = content.decode("utf-8", "surrogateescape")
    if kind == "cls":
        return text.strip()
    try:
        value = json.loads(text)
    except ValueError:
        return before
    label = value.get("label") if isinstance(value, dict) else None
    return before if label is None or before is not None else str(label)
