# SPDX-License-Identifier: Apache-2.0
"""One shard, and one file in it."""

import os
from pathlib import Path
from typing import IO, NamedTuple

from iclmsr.data.archives import opened
from iclmsr.data.names import printable
from iclmsr.data.shard_index import Shard
from iclmsr.data.shard_store import ShardStore
from iclmsr.data.trees import Content
from iclmsr.errors import IclmsrError


def open_shard(base: Path | str, store: ShardStore, shard: Shard) -> IO[bytes]:
    """A shard, of the length that the index says.

    Args:
        base: The folder or URL that its name begins from.
        store: Where shards from a URL are kept.
        shard: Which one.

    Raises:
        IclmsrError: It cannot be read or fetched, or has another length.
    """
    if isinstance(base, str):
        return store.open(f"{base}/{shard.name}", shard.bytes, shard.sha256)
    path = base / shard.name
    file = opened(path)
    found = os.fstat(file.fileno()).st_size
    if found != shard.bytes:
        file.close()
        raise IclmsrError(
            f"{printable(path)} is damaged: {found:,} bytes, expected {shard.bytes:,}: copy "
            "it again, or make it anew with `iclmsr data shard`"
        )
    return file


class Sharded(NamedTuple):
    """A file in a shard."""

    base: Path | str
    store: ShardStore
    shard: Shard
    start: int
    size: int

    def __call__(self) -> Content:
        """The file.

        Raises:
            IclmsrError: The shard cannot be fetched, or is not what the index says.
        """
        with open_shard(self.base, self.store, self.shard) as file:
            return os.pread(file.fileno(), self.size, self.start)
