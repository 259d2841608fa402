# SPDX-License-Identifier: Apache-2.0
"""``iclmsr data shard``: a data set as tar shards."""

import re
from pathlib import Path

from iclmsr.data.names import at_home, counted, printable
from iclmsr.errors import IclmsrError
from iclmsr.options import Parser

UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def shard_command(words: list[str]) -> None:
    """Write a folder or archive of images as WebDataset shards.

    usage: iclmsr data shard FOLDER OUT [--masks PATH] [--shard-size 256M] [--seed 0]

    FOLDER is read as --data.source folder reads it, with or without train/ and test/; masks lie
    in a parallel tree of .png files. OUT gets uncompressed tar files of at most --shard-size
    bytes (K, M or G: times 1024) in random order and an index.json. Stopped, it goes on where it
    was when called again. --data.root OUT, or the URL that OUT is served from, reads them.
    """
    parser = Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("--masks", type=Path)
    parser.add_argument("--shard-size", type=_bytes, default=256 << 20)
    parser.add_argument("--seed", type=int, default=0)
    known, places = parser.parse_known_args(words)
    stray = [word for word in places if word.startswith("-")] + places[2:]
    if stray:
        raise IclmsrError(f"unknown argument {stray[0]!r}: --help says what there is")
    if len(places) < 2:
        raise IclmsrError("data shard needs two folders: iclmsr data shard FOLDER OUT")

    from iclmsr.data.config import DataConfig
    from iclmsr.data.listing import top
    from iclmsr.data.readers import rules_of
    from iclmsr.data.shard_writer import shard
    from iclmsr.data.trees import open_tree

    tree = top(open_tree(at_home(places[0])))
    given = None if known.masks is None else at_home(known.masks)
    rules, masks = rules_of(DataConfig("folder", masks=given), tree)
    index = shard(
        tree,
        at_home(places[1]),
        masks=masks,
        rules=rules,
        shard_size=known.shard_size,
        seed=known.seed,
        say=print,
    )
    images = counted(sum(len(one.samples) for one in index.shards), "image")
    shards = counted(len(index.shards), "shard")
    size = sum(one.bytes for one in index.shards)
    place = printable(places[1])
    print(f"{place}: {images} in {shards}, {size:,} bytes")
    print(f"read them: --data.source folder --data.root {place}")


def _bytes(text: str) -> int:
    """A size with a unit or without.

    >>> _bytes("256M")
    268435456
    """
    match = re.fullmatch(r"(\d+)\s*([kmg]?)(i?b)?", text.lower())
    if match is None:
        raise IclmsrError(f"--shard-size must be bytes as 1000000 or 256M, got {text!r}")
    return int(match[1]) * UNITS[match[2]]
