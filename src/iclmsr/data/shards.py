# SPDX-License-Identifier: Apache-2.0
"""Tar shards as a tree of files, on this machine or at a URL."""

import os
from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from iclmsr.data import shard_index
from iclmsr.data.archives import opened
from iclmsr.data.backgrounds import BACKGROUNDS
from iclmsr.data.names import printable
from iclmsr.data.shard_file import Sharded, open_shard
from iclmsr.data.shard_index import Index, decode_index
from iclmsr.data.shard_store import ShardStore
from iclmsr.data.single import Reader
from iclmsr.data.trees import AFTER_SLASH, Content, Tree
from iclmsr.errors import IclmsrError

PACKED = (".tar.gz", ".tgz", ".tar.zst", ".tar.bz2")


class ShardTree(Tree):
    """The images in shards under the paths that they had, or their masks.

    Args:
        index: What lies where.
        base: The folder or the URL that the shards' names begin from.
        store: Where shards from a URL are kept.
        masks: Whether the tree has the masks, as ``.png`` under the images' own paths.

    Attributes:
        shards: The shards, one after the other.
        whole: Those of which damaged copies have been removed.
    """

    def __init__(
        self, index: Index, base: Path | str, store: ShardStore, *, masks: bool = False
    ) -> None:
        self.base, self.store, self.index = base, store, index
        self.place, self.prefix = Path(base), ""
        self.shards = index.shards
        self.whole = set[int]()
        found: list[tuple[str, int, int, int]] = []
        for number, shard in enumerate(index.shards):
            for one in shard.samples:
                if not masks:
                    found.append((one.path, number, one.offset, one.size))
                elif one.mask_offset >= 0:
                    name = PurePosixPath(one.path).with_suffix(".png").as_posix()
                    found.append((name, number, one.mask_offset, one.mask_size))
        found.sort()
        self.names = [one[0] for one in found]
        self.spots = torch.tensor([one[1:] for one in found], dtype=torch.int64).reshape(-1, 3)

    def masks(self) -> "ShardTree":
        """The masks in the same shards.

        Raises:
            IclmsrError: There are none.
        """
        tree = ShardTree(self.index, self.base, self.store, masks=True)
        if not tree.names:
            raise IclmsrError(f"the shards in {self.where('')} have no masks: leave out data.masks")
        return tree

    def below(self, folder: str) -> "ShardTree":
        """The shards as seen from a folder in them."""
        tree = object.__new__(ShardTree)
        tree.__dict__ |= self.__dict__
        tree.prefix, tree.place = f"{self.prefix}{folder}/", self.place / folder
        return tree

    def folders(self, folder: str = "") -> list[str]:
        """Names of the folders that have files."""
        start = self.prefix + (f"{folder}/" if folder else "")
        at, end = self._range(start)
        found = []
        while at < end:
            name, slash, _ = self.names[at][len(start) :].partition("/")
            if slash:
                found.append(name)
                at = bisect_left(self.names, start + name + AFTER_SLASH, at, end)
            else:
                at += 1
        return sorted(found)

    def files(self, folder: str = "") -> list[str]:
        """Paths of all files below."""
        at, end = self._range(self.prefix + (f"{folder}/" if folder else ""))
        return [name[len(self.prefix) :] for name in self.names[at:end]]

    def holds(self, name: str) -> bool:
        """Whether there is such a file; the index itself has one beside the images."""
        return self._is_backgrounds(name) or self._find(name) is not None

    def contents(self, names: Collection[str]) -> Iterator[tuple[str, Content]]:
        """Each file of ``names`` that is there, one shard after the other.

        Raises:
            IclmsrError: A shard cannot be fetched, or is not what the index says.
        """
        for name in filter(self._is_backgrounds, names):
            yield name, self.index.backgrounds.encode("utf-8", "surrogateescape")
        by_shard: dict[int, list[tuple[int, int, str]]] = {}
        for name in names:
            at = self._find(name)
            if at is not None:
                number, offset, size = self.spots[at].tolist()
                by_shard.setdefault(number, []).append((offset, size, name))
        for number, spots in sorted(by_shard.items()):
            with open_shard(self.base, self.store, self.shards[number]) as file:
                for offset, size, name in sorted(spots):
                    yield name, os.pread(file.fileno(), size, offset)

    def reader(self, name: str) -> Reader:
        """Its shard, and its place there.

        Raises:
            FileNotFoundError: It is not there.
        """
        at = self._find(name)
        if at is None:
            raise FileNotFoundError(2, os.strerror(2), self.where(name))
        number, offset, size = self.spots[at].tolist()
        shard = self.shards[number]._replace(samples=())  # they would be sent with it
        return Sharded(self.base, self.store, shard, offset, size)

    def read(self, name: str) -> bytes:
        """One file.

        Raises:
            FileNotFoundError: It is not there.
            IclmsrError: As :meth:`contents`.
        """
        content = self.reader(name)()
        assert isinstance(content, bytes)
        return content

    @property
    def has_masks(self) -> bool:
        """Whether an image has a mask."""
        return any(one.mask_offset >= 0 for shard in self.index.shards for one in shard.samples)

    @property
    def remote(self) -> bool:
        """Whether the shards are fetched from a URL."""
        return isinstance(self.base, str)

    def shards_of(self, names: Sequence[str]) -> Tensor:
        """The shard that each file is in, (N,) int64: an index into ``shards``.

        Raises:
            KeyError: A file is not there.
        """
        places = [self._find(name) for name in names]
        if None in places:
            raise KeyError(names[places.index(None)])
        return self.spots[torch.tensor(places, dtype=torch.int64), 0]

    def fetch(self, shard: int) -> None:
        """Brings a shard to this machine before it is needed; others may do so at once.

        Raises:
            IclmsrError: As :meth:`contents`.
        """
        open_shard(self.base, self.store, self.shards[shard]).close()

    def mend(self, name: str) -> bool:
        """As :meth:`Tree.mend`; a shard from a URL whose copy is damaged is fetched anew."""
        at = self._find(name)
        if at is None or not isinstance(self.base, str):
            return False
        number = int(self.spots[at, 0])
        if number not in self.whole:
            self.store.check(self.shards[number].sha256)
            self.whole.add(number)
        return True

    def where(self, name: str) -> str:
        """A file or folder of the tree, for messages."""
        if isinstance(self.base, Path):
            return super().where(name)
        return printable("/".join(filter(None, (self.base, self.prefix.rstrip("/"), name))))

    def _is_backgrounds(self, name: str) -> bool:
        """Whether a file is ``backgrounds.csv``, and the images have it."""
        return self.prefix + name == BACKGROUNDS and bool(self.index.backgrounds)

    def _range(self, start: str) -> tuple[int, int]:
        """Where the names that begin so begin and end."""
        if not start:
            return 0, len(self.names)
        end = start.removesuffix("/") + AFTER_SLASH
        return bisect_left(self.names, start), bisect_left(self.names, end)

    def _find(self, name: str) -> int | None:
        """Where a name is."""
        name = self.prefix + name
        at = bisect_left(self.names, name)
        return at if at < len(self.names) and self.names[at] == name else None


def are_shards(place: Path | str) -> bool:
    """Whether a place is a URL, a pattern of shards or a folder with an index of shards."""
    return names_shards(place) or (isinstance(place, Path) and _has_index(place))


def names_shards(place: Path | str | None) -> bool:
    """Whether a place is a URL or a pattern of shards, which no path on the disk is called."""
    if isinstance(place, Path):
        return "{" in place.name and place.suffix.lower() == ".tar" and not place.exists()
    return place is not None


def open_shards(place: Path | str, store: ShardStore) -> ShardTree:
    """The shards at a place.

    Args:
        place: A folder or URL that has ``index.json``, as ``iclmsr data shard`` makes it; or one
            or more WebDataset shards as ``URL/name-{000000..000099}.tar``.
        store: Where shards from a URL are kept.

    Raises:
        IclmsrError: They cannot be read, or the index is damaged.
    """
    if isinstance(place, str) and "?" in place:
        raise IclmsrError(
            f"{place}: shards cannot be read by a URL with a query: pass one without, or copy them"
        )
    if str(place).lower().endswith(PACKED):
        raise IclmsrError(f"{place}: shards that are compressed cannot be read: unpack to *.tar")
    if str(place).lower().endswith(".tar"):
        from iclmsr.data.foreign_shards import index_shards

        index, base = index_shards(str(place), store)
        return ShardTree(index, base, store)
    if isinstance(place, str):
        place = place.rstrip("/")
        where = f"{place}/{shard_index.NAME}"
        patience = store.remote.patience
        index = patience.keep_trying(where, lambda: decode_index(store.remote.read(where), where))
    else:
        where = printable(place / shard_index.NAME)
        with opened(place / shard_index.NAME) as file:
            index = decode_index(file.read(), where)
    return ShardTree(index, place, store)


def _has_index(folder: Path) -> bool:
    """Whether a folder's ``index.json`` is one of shards, or shards lie beside it."""
    path = folder / shard_index.NAME
    if not path.is_file():
        return False
    with opened(path) as file:
        begins = file.read(len(shard_index.MARK)) == shard_index.MARK
    first = shard_index.FIRST
    return begins or any(folder.glob(first)) or any(folder.glob(f"*/{first}"))
