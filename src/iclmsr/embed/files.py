# SPDX-License-Identifier: Apache-2.0
"""Vectors of all images in a folder, in bounded memory, going on where it was stopped."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from iclmsr.config import at_least
from iclmsr.data.decode import Unusable, careful, decode_image
from iclmsr.data.listing import FOLDERS, Rules, images_in, top
from iclmsr.data.names import printable
from iclmsr.data.threads import in_threads
from iclmsr.data.trees import Tree, open_tree
from iclmsr.embed.embedder import Embedder, load
from iclmsr.embed.parts import PART, Part, Parts
from iclmsr.embed.table import Rows, check_writable, read_about, write_table
from iclmsr.encoders import absolute_source
from iclmsr.encoders.preprocessing import Triple
from iclmsr.errors import IclmsrError

SHOWN = 20
"""So many images that were skipped are named."""
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class EmbedConfig:
    """How images are embedded: the options of `iclmsr embed`."""

    image_size: int | None = None
    """Height and width that images are resized to, pixels, > 0; None: as the encoder says."""
    mean: Triple | None = None
    """Mean of each channel, subtracted from pixels in [0, 1]; None: as the encoder says."""
    std: Triple | None = None
    """Standard deviation of each channel, > 0; None: as the encoder says."""
    batch_size: int = 256
    """Images that the encoder sees at a time, >= 1."""
    on_corrupt: Literal["error", "skip"] = "error"
    """An image that does not decode: stop, or leave it out and name it."""
    workers: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    """Threads that decode images, >= 1."""
    device: str = "auto"
    """cpu, cuda, cuda:1, ...; auto takes a GPU where there is one."""

    def __post_init__(self) -> None:
        for name in ("image_size", "batch_size", "workers"):
            at_least(self, "", name, 1)


@dataclass(frozen=True)
class Embedded:
    """What :func:`embed_files` did.

    Attributes:
        count: Vectors in the file.
        kept: Images that had been embedded before this session.
        skipped: Why an image has no vector, by its path.
        remarks: What a person should know about the encoder, a line each.
    """

    count: int
    kept: int
    skipped: dict[str, str]
    remarks: list[str]

    def describe(self) -> str:
        """A few lines for a person.

        >>> print(Embedded(5, 2, {"2.jpg": "does not decode"}, []).describe())
        vectors: 5, of them 2 from an earlier session; 1 images left out
          2.jpg does not decode
        """
        earlier = f", of them {self.kept:,} from an earlier session" if self.kept else ""
        left = f"; {len(self.skipped):,} images left out" if self.skipped else ""
        lines = [*self.remarks, f"vectors: {self.count:,}{earlier}{left}"]
        named = [f"  {printable(name)} {printable(why)}" for name, why in self.skipped.items()]
        if len(named) > SHOWN:
            named[SHOWN:] = [f"  and {len(named) - SHOWN:,} more"]
        return "\n".join(lines + named)


def embed_files(source: str | Path, images: Path, out: Path, config: EmbedConfig) -> Embedded:
    """Writes a vector for every image; started again after a kill, it ends with the same file.

    What is done lies in the folder ``OUT.parts`` until all is done, in parts of 4,096 images.
    Memory holds one part, and the names of all images.

    Args:
        source: The encoder, see :func:`iclmsr.encoders.load_encoder`.
        images: A folder, or an archive of one, with images at any depth; its folder ``masks`` is
            passed over.
        out: The file, see :func:`iclmsr.embed.table.write_table`.
        config: How.

    Returns:
        What it did; where the file was complete before, what it holds.

    Raises:
        IclmsrError: There are no images, one does not decode, or none does; the file is there
            and of another encoder or other images; the encoder cannot be used.
    """
    check_writable(out)
    embedder = load(
        source,
        device=config.device,
        image_size=config.image_size,
        mean=config.mean,
        std=config.std,
    )
    tree = top(open_tree(images))
    names = images_in(tree, "", Rules(FOLDERS))
    _check_single(tree, names[0])
    origin = {
        "encoder": embedder.loaded.sha256,
        "preprocessing": embedder.images.to_json(),
        "images": _digest(tree, names),
    }
    remarks = embedder.loaded.remarks()
    if out.exists():
        return _complete(out, origin, remarks)
    parts = Parts(out, origin, -(-len(names) // PART))
    with parts.held():
        todo = parts.missing()
        done = set(range(parts.count)).difference(todo)
        kept = sum(len(parts.read(number).rows) for number in done)
        for number, part in _made(embedder, tree, names, todo, config):
            parts.write(number, part)
        skipped: dict[str, str] = {}
        count = 0
        for number in range(parts.count):
            part = parts.read(number)
            count, skipped = count + len(part.rows), skipped | part.skipped
        if not count:
            name, why = next(iter(skipped.items()))
            raise IclmsrError(f"not one image in {tree.where('')} can be used: {name} {why}")
        if config.on_corrupt == "error" and skipped:  # left out by an earlier session
            raise _unusable(tree, *next(iter(skipped.items())))
        about = {
            "encoder": absolute_source(str(source)),
            "name": embedder.loaded.name,
            "root": str(tree.place.absolute()),
            "count": count,
            "skipped": skipped,
            "origin": origin,
        }
        write_table(out, _rows(parts, names), count, about)
    parts.remove()
    return Embedded(count, kept, skipped, remarks)


def _made(
    embedder: Embedder,
    tree: Tree,
    names: Sequence[str],
    todo: Sequence[int],
    config: EmbedConfig,
) -> Iterator[tuple[int, Part]]:
    """The parts that are missing; images are decoded ahead, across the ends of parts."""

    def one(index: int) -> Pixels | str:
        try:
            return decode_image(tree.reader(names[index])(), embedder.size)[0]
        except Unusable as error:
            if config.on_corrupt == "error":
                raise _unusable(tree, names[index], str(error)) from error
            return str(error)

    indices = (index for number in todo for index in _of_part(number, len(names)))
    count = sum(len(_of_part(number, len(names))) for number in todo)
    with careful():
        stream = iter(_tracked(in_threads(one, indices, config.workers), count))
        for number in todo:
            inside = _of_part(number, len(names))
            rows: list[int] = []
            vectors: list[NDArray[np.float32]] = []
            skipped: dict[str, str] = {}
            for start in range(0, len(inside), config.batch_size):
                batch = inside[start : start + config.batch_size]
                good = []
                for index, found in zip(batch, islice(stream, len(batch)), strict=True):
                    if isinstance(found, str):
                        skipped[names[index]] = found
                    else:
                        rows.append(index - inside[0])
                        good.append(found)
                if good:
                    vectors.append(embedder.features(np.stack(good)))
            matrix = np.concatenate(vectors) if vectors else np.empty((0, 0), np.float32)
            yield number, Part(np.array(rows, np.int64), matrix, skipped)


def _of_part(number: int, count: int) -> range:
    """Which of all images are in a part."""
    return range(number * PART, min((number + 1) * PART, count))


def _rows(parts: Parts, names: Sequence[str]) -> Iterator[Rows]:
    """Paths and vectors of one part after the other."""
    for number in range(parts.count):
        part = parts.read(number)
        if len(part.rows):
            yield [names[number * PART + row] for row in part.rows.tolist()], part.vectors


def _complete(out: Path, origin: dict[str, Any], remarks: list[str]) -> Embedded:
    """What a file holds that was written before."""
    about = read_about(out)
    if about.get("origin") != origin:
        raise IclmsrError(
            f"{printable(out)} is there already, of another encoder or other images: remove it, or "
            "choose another -o"
        )
    count = about["count"]
    return Embedded(count, count, about["skipped"], remarks)


def _check_single(tree: Tree, name: str) -> None:
    """Raises where files cannot be read one by one."""
    try:
        tree.reader(name)
    except IclmsrError as error:
        raise IclmsrError(
            f"{tree.where('')} is compressed as a whole, its files cannot be read one by one: "
            "unpack it, or pack it as .tar or .zip"
        ) from error


def _digest(tree: Tree, names: Sequence[str]) -> str:
    """SHA-256 of the files' names and sizes, not of their pixels."""
    digest = hashlib.sha256()
    for name in names:
        size = tree.reader(name).size
        digest.update(f"{name}\0{size}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _unusable(tree: Tree, name: str, why: str) -> IclmsrError:
    """What to do about an image that does not decode."""
    return IclmsrError(
        f"{tree.where(name)} {why}: mend it, or pass --on-corrupt skip to leave such files out"
    )


def _tracked(work: Iterable[Pixels | str], count: int) -> Iterable[Pixels | str]:
    """The same, with a bar on a terminal."""
    console = Console(stderr=True)
    return track(
        work,
        description="embed",
        total=count,
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
