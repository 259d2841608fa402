# SPDX-License-Identifier: Apache-2.0
"""WebDataset shards that come without an index of ours: read once to make one."""

import json
import re
import warnings
from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path

from iclmsr.data.archives import opened
from iclmsr.data.listing import SUFFIXES
from iclmsr.data.names import printable
from iclmsr.data.rules import SPLITS
from iclmsr.data.shard_index import Index, Sample, Shard, expand
from iclmsr.data.shard_scan import Members, Scan, read_shard
from iclmsr.data.shard_store import ShardStore
from iclmsr.errors import IclmsrError
from iclmsr.files import unwritable, write_atomic

VERSION = 2
"""Of what is noted about a shard; before 2, labels and images were taken that are refused now."""


def index_shards(pattern: str, store: ShardStore) -> tuple[Index, Path | str]:
    """The index of WebDataset shards, and the folder or URL that their names begin from.

    A sample is a key with an image (any suffix that a folder's images may have), a label in
    ``.cls`` (a number or a name) or as ``label`` in ``.json``, and a mask in ``.mask.png``;
    other members are passed over. An image is called ``CLASS/SHARD/KEY``; numbers as classes are
    filled up with zeros, so that they keep their order. Without labels it is called as in its
    shard where that has folders, and ``SHARD-KEY`` where not. If the shards' names have train,
    test or val in them, so do the paths; if not, but a class is called so, all are in ``train``.

    Args:
        pattern: Path or URL with ranges or words in braces.
        store: Where shards from a URL and what was found are kept.

    Raises:
        IclmsrError: A shard cannot be read, is damaged or has no images; only some have labels,
            or a split in their names.
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
                f"no images in {printable(name)}: looked for members named "
                f"*{', *'.join(SUFFIXES)}; make it anew, or leave it out"
            )
    return _index([name.removeprefix(start) for name in names], scans)


def _index(names: Sequence[str], scans: Sequence[Scan]) -> Index:
    """The index of all shards together."""
    class_of = _classes(names, scans)
    folders = _folders(names, scans, class_of.values())
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


def _folders(names: Sequence[str], scans: Sequence[Scan], classes: Collection[str]) -> list[str]:
    """What the paths of each shard's images begin with: a split's folder, or nothing."""
    splits = [_split_of(name) for name in names]
    if all(splits):
        return [f"{split}/" for split in splits]
    if any(splits) and not _say_splits(scans):
        without, having = names[splits.index(None)], next(filter(_split_of, names))
        raise IclmsrError(
            f"{printable(without)} has no train, test or val in its name, but {printable(having)} "
            "has: rename it, or name only such as belong together, as PATH/train-{000..099}.tar"
        )
    # beside other classes, a folder of such a name would be taken for a split
    return ["train/" if SPLITS.intersection(map(str.lower, classes)) else ""] * len(names)


def _say_splits(scans: Sequence[Scan]) -> bool:
    """Whether images have no labels, and paths in their shards that begin with a split's folder."""
    folders = tuple(f"{split}/" for split in SPLITS)
    samples = [one for scan in scans for one in scan.samples]
    return all(one.label is None and one.key.startswith(folders) for one in samples)


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
        if value.pop("version") != VERSION:
            return None
        samples = tuple(Members(**one) for one in value.pop("samples"))
        return Scan(samples=samples, **value)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _scan(name: str, store: ShardStore) -> Scan:
    """Reads a shard and notes what is in it."""
    if "://" in name:
        patience = store.remote.patience
        found = patience.keep_trying(name, lambda: read_shard(name, *store.open_unknown(name)))
    else:
        found = read_shard(name, opened(Path(name)), Path(name).stat().st_size, "")
    note = _note(name, store)
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(note, error) from error
    write_atomic(note, json.dumps({"version": VERSION, **asdict(found)}).encode())
    return found
