# SPDX-License-Identifier: Apache-2.0
"""A data set as tar shards: large files, each a fair sample of the images."""

import contextlib
import fcntl
import hashlib
import json
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from iclmsr.data.folder import mask_name
from iclmsr.data.listing import FOLDERS, Rules
from iclmsr.data.names import printable
from iclmsr.data.places import check_outside
from iclmsr.data.shard_index import (
    NAME,
    Index,
    Sample,
    Shard,
    decode_index,
    decode_shard,
    encode_index,
)
from iclmsr.data.shard_plan import (
    BLOCK,
    Plan,
    backgrounds_of,
    listings_of,
    looks_of,
    padded,
    plans_of,
)
from iclmsr.data.trees import Tree
from iclmsr.errors import IclmsrError
from iclmsr.files import unwritable, write_atomic

JOURNAL = ".shards.jsonl"
SHARD_SIZE = 256 << 20
EVERYTHING = Rules(FOLDERS)


def shard(
    tree: Tree,
    out: Path,
    *,
    masks: Tree | None = None,
    rules: Rules = EVERYTHING,
    shard_size: int = SHARD_SIZE,
    seed: int = 0,
    say: Callable[[str], None] = lambda _: None,
) -> Index:
    """Writes a folder or archive of images as uncompressed WebDataset shards with an index.

    ``SPLIT/000000.tar`` and so on, where there are folders of splits: members ``KEY.jpg`` (or what
    the file's suffix is), ``KEY.cls`` with the label as text, ``KEY.mask.png``; files as they are,
    in an order drawn at random. ``index.json`` comes last, and has ``backgrounds.csv`` in it. The
    same data and settings give the same bytes. A run that was stopped goes on where it was: shards
    that are there and have the right SHA-256 are kept. An archive is read once, and then once more
    for each shard.

    Args:
        tree: The images, as :func:`iclmsr.data.listing.list_folder` reads them.
        out: The folder to make; it is empty or has shards of the same data and settings.
        masks: Masks under the images' own paths, but with ``.png`` at the end.
        rules: How the tree is read.
        shard_size: The largest size of a shard, bytes, >= 1; one that has a single image may be
            larger. A shard is made in memory.
        seed: Of the order.
        say: Told what was written.

    Raises:
        IclmsrError: There are no images, one cannot be read, or the folder holds other things or
            cannot be written to; a shard is there whole or not at all.
    """
    if shard_size < 1:
        raise IclmsrError(f"--shard-size must be >= 1 byte, got {shard_size}")
    check_outside(out, tree.place)
    listings = listings_of(tree, rules)
    images = [name for listing in listings.values() for name in listing.files]
    looks = looks_of(tree, images)
    drawn = {} if masks is None else looks_of(masks, [mask_name(name) for name in images])
    backgrounds = backgrounds_of(tree, images)
    text = repr((shard_size, seed, sorted(looks.items()), sorted(drawn.items()))) + backgrounds
    stamp = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
    plans = list(plans_of(listings, looks, drawn, shard_size, seed))
    with _journal(out, stamp) as (known, journal):
        shards = []
        for number, plan in enumerate(plans, start=1):
            done = known.get(plan.name)
            if done is None or not _is_there(out, done):
                done = _write(out, plan, tree, masks)
                _note(journal, _line(done))
                say(f"wrote {plan.name}, {number} of {len(plans)}: {done.bytes:,} bytes")
            shards.append(done)
        classes = {folder: listing.classes for folder, listing in listings.items()}
        index = Index(stamp, classes, tuple(shards), backgrounds)
        write_atomic(out / NAME, encode_index(index))
        (out / JOURNAL).unlink()
    return index


def _write(out: Path, plan: Plan, tree: Tree, masks: Tree | None) -> Shard:
    """Makes a shard in memory and writes it."""
    files = dict(tree.contents([name for _, name, _ in plan.images]))
    drawn = {}
    if masks is not None:
        drawn = dict(masks.contents([mask_name(name) for _, name, _ in plan.images]))
    parts, samples, offset = list[bytes](), [], 0

    def add(name: str, content: bytes) -> tuple[int, int]:
        nonlocal offset
        header = tarfile.TarInfo(name)
        header.size = len(content)
        parts.extend((header.tobuf(tarfile.USTAR_FORMAT), content, bytes(-len(content) % BLOCK)))
        begin = offset + BLOCK
        offset = begin + padded(len(content))
        return begin, len(content)

    for key, name, label in plan.images:
        content = files.get(name, FileNotFoundError(2, os.strerror(2)))
        if isinstance(content, OSError):
            raise IclmsrError(f"cannot read {tree.where(name)}: {content.strerror}") from content
        spots = [*add(key + PurePosixPath(name).suffix.lower(), content)]
        mask = drawn.get(mask_name(name))
        if isinstance(mask, bytes):
            spots += add(f"{key}.mask.png", mask)
        samples.append(Sample(key, name, label, *spots))
        if label >= 0:
            add(f"{key}.cls", str(label).encode())
    parts.append(bytes(2 * BLOCK))
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    path = out / plan.name
    with _writable(path.parent):
        path.parent.mkdir(exist_ok=True)
    write_atomic(path, *parts)
    return Shard(plan.name, offset + 2 * BLOCK, digest.hexdigest(), tuple(samples))


def _is_there(out: Path, shard: Shard) -> bool:
    """Whether a shard has been written and is as it was."""
    try:
        with (out / shard.name).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == shard.sha256
    except OSError:
        return False


@contextlib.contextmanager
def _journal(out: Path, stamp: str) -> Iterator[tuple[dict[str, Shard], IO[bytes]]]:
    """The shards that a run before this one wrote, and where to note others; locked."""
    path = out / JOURNAL
    with contextlib.ExitStack() as stack:
        with _writable(out):
            out.mkdir(parents=True, exist_ok=True)
            new = not path.exists() and not (out / NAME).exists()
            if new and any(out.iterdir()):
                raise _taken(out, "is not empty")
            file = stack.enter_context(path.open("a+b", buffering=0))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise IclmsrError(f"another process writes shards to {printable(out)}") from None
            file.seek(0)
            lines = file.read().splitlines(keepends=True)
            for scrap in [*out.glob(".*.tmp"), *out.glob("*/.*.tmp")]:
                scrap.unlink()
        head = json.dumps({"stamp": stamp}).encode() + b"\n"
        known: dict[str, Shard] = {}
        if (out / NAME).exists():
            done = decode_index((out / NAME).read_bytes(), printable(out / NAME))
            same, known = done.stamp == stamp, {one.name: one for one in done.shards}
        else:
            same = not lines or lines[0] == head or not lines[0].endswith(b"\n")
        if not same:
            if not lines:
                path.unlink()
            raise _taken(out, "has shards of other images or settings")
        for line in lines[1:]:
            with contextlib.suppress(ValueError, KeyError, TypeError):  # cut off
                one = decode_shard(json.loads(line))
                known[one.name] = one
        file.truncate(0)
        _note(file, head, *map(_line, known.values()))
        yield known, file


def _line(shard: Shard) -> bytes:
    """A shard's line in the journal."""
    return json.dumps(shard._asdict()).encode() + b"\n"


def _note(journal: IO[bytes], *lines: bytes) -> None:
    """Writes lines so that they last; a buffer would have them tried again when it is closed."""
    rest = memoryview(b"".join(lines))
    with _writable(Path(journal.name)):
        while rest:
            rest = rest[journal.write(rest) :]
        os.fsync(journal.fileno())


def _taken(out: Path, why: str) -> IclmsrError:
    """The error for a folder that shards cannot be written to."""
    return IclmsrError(f"{printable(out)} {why}: choose another folder, or remove this one")


@contextlib.contextmanager
def _writable(out: Path) -> Iterator[None]:
    """Turns what the disk says into an error."""
    try:
        yield
    except OSError as error:
        raise unwritable(printable(out), error) from error
