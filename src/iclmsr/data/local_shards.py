# SPDX-License-Identifier: Apache-2.0
"""Shards on this machine that nobody calls shards: a tar archive, or a folder of them."""

from collections.abc import Collection
from pathlib import Path

from iclmsr.data.archives import index_tar
from iclmsr.data.foreign_shards import index_names
from iclmsr.data.listing import SUFFIXES
from iclmsr.data.names import printable
from iclmsr.data.shard_scan import MASK
from iclmsr.data.shard_store import ShardStore
from iclmsr.data.shards import ShardTree
from iclmsr.data.trees import Folder
from iclmsr.errors import IclmsrError


def open_local_shards(place: Path, store: ShardStore) -> ShardTree | None:
    """Shards without an index on this machine; None where a folder has none.

    Args:
        place: A shard, or a folder of shards and no images.
        store: Where what was found in them is kept.

    Raises:
        IclmsrError: They are compressed or damaged, or archives of something else.
    """
    folder, names = place.parent, [place.name]
    if place.is_dir():
        folder, names = place, _shards_in(place)
        if not names:
            return None
        if not are_samples({name for name, _ in index_tar(place / names[0])}):
            raise IclmsrError(
                f"no images in {printable(place)}, but {len(names):,} archives, and the first one, "
                f"{printable(names[0])}, has no labels or masks beside its images: name one of "
                f"them, or all as {printable(place)}/NAME-{{000..099}}.tar"
            )
    elif place.suffix.lower() != ".tar":
        raise IclmsrError(
            f"{printable(place)}: a shard that is compressed cannot be read: unpack it to *.tar"
        )
    start = f"{folder}/"
    index = index_names(str(place), [start + name for name in names], start, store)
    return ShardTree(index, folder, store)


def are_samples(names: Collection[str]) -> bool:
    """Whether files are a shard's: an image has a label or a mask of its own beside it.

    Args:
        names: All paths in an archive.

    >>> are_samples({"0.png", "0.cls"}), are_samples({"cat/0.png", "cat/0.json"})
    (True, False)
    """
    images = [name for name in names if name.lower().endswith(SUFFIXES)]
    kinds = [f".{MASK}", ".cls"]
    if not any("/" in name for name in images):
        kinds.append(".json")  # below folders, more often one that says something else
    for name in images:
        folder, slash, base = name.rpartition("/")
        key = folder + slash + base.partition(".")[0]
        if any(key + kind in names and key + kind != name for kind in kinds):
            return True
    return False


def _shards_in(folder: Path) -> list[str]:
    """Tar archives in a folder, or in the folders in it, that has no images beside them."""
    found = [tar for depth in ("*", "*/*") for tar in folder.glob(f"{depth}.[tT][aA][rR]")]
    names = sorted(tar.relative_to(folder).as_posix() for tar in found)
    names = [name for name in names if not name.startswith(".") and "/." not in name]
    if names and any(name.lower().endswith(SUFFIXES) for name in Folder(folder).files()):
        return []
    return names
