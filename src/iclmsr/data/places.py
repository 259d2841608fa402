# SPDX-License-Identifier: Apache-2.0
"""Where a data set lies, by its source and its root."""

import os
from pathlib import Path

from iclmsr.data.config import DataConfig
from iclmsr.data.names import at_home, printable
from iclmsr.data.trees import check_searchable
from iclmsr.errors import IclmsrError


def root_of(config: DataConfig) -> Path:
    """``config.root``, if it exists on this machine.

    Raises:
        IclmsrError: There is none, it is a URL, or cannot be read.
    """
    if config.root is None:
        raise IclmsrError(
            f"data.root is not set: pass --data.root PATH, where the data of source "
            f"{config.source!r} lies, or --data.source synthetic, which needs none"
        )
    if isinstance(config.root, str):
        raise IclmsrError(
            f"data.source {config.source!r} cannot be read from {config.root}: a URL has shards, "
            "which `iclmsr data shard` makes and --data.source folder or imagenet reads"
        )
    try:
        config.root.stat()
    except FileNotFoundError:
        raise IclmsrError(f"data.root {printable(config.root)} does not exist") from None
    except OSError as error:
        raise IclmsrError(
            f"cannot read data.root {printable(config.root)}: {error.strerror}"
        ) from error
    check_searchable(config.root)
    return config.root


def place_of(config: DataConfig) -> Path | None:
    """Where the data lie, which exists; None if the source itself names them.

    Raises:
        IclmsrError: As :func:`root_of`; or both name them.
    """
    if not named_by(config.source):
        return root_of(config)
    if config.root is not None:
        raise IclmsrError(
            f"data.source {config.source!r} names the data, and so does data.root "
            f"{printable(config.root)}: leave out one, or pass --data.source hf"
        )
    return None


def kind_of(source: str) -> str:
    """The name of a source in SOURCES, where ``hf:NAME`` is ``hf``.

    >>> kind_of("hf:uoft-cs/cifar10"), kind_of("stl10")
    ('hf', 'stl10')
    """
    return "hf" if source.startswith("hf:") else source


def named_by(source: str) -> str:
    """The name on the hub, or the path, that follows ``hf:``; empty if there is none.

    >>> named_by("hf:uoft-cs/cifar10"), named_by("hf:ylecun/mnist:mnist"), named_by("hf")
    ('uoft-cs/cifar10', 'ylecun/mnist', '')
    """
    return name_and_subset(source)[0]


def name_and_subset(source: str) -> tuple[str, str]:
    """What follows ``hf:``, in two; a path that exists may have colons.

    >>> name_and_subset("hf:ylecun/mnist:mnist"), name_and_subset("hf:uoft-cs/cifar10")
    (('ylecun/mnist', 'mnist'), ('uoft-cs/cifar10', ''))
    """
    whole = source.partition(":")[2]
    path, _, subset = whole.rpartition(":")
    if _exists(whole):
        return whole, ""
    if path and _exists(path):
        return path, subset
    name, _, subset = whole.partition(":")
    return name, subset


def _exists(path: str) -> bool:
    """Whether something lies there; not where nobody may look."""
    return os.access(at_home(path), os.F_OK)


def absolute(source: str) -> str:
    """The source, its path written in full if it is ``hf:PATH`` and something lies there.

    >>> absolute("hf:uoft-cs/cifar10")
    'hf:uoft-cs/cifar10'
    """
    name = named_by(source)
    if not (source.startswith("hf:") and name and _exists(name)):
        return source
    return f"hf:{at_home(name).absolute()}{source.removeprefix(f'hf:{name}')}"


def check_outside(out: Path, *roots: Path | str | None) -> None:
    """Raises where what is written would lie in data that it is made of, and be read as such.

    Args:
        out: The folder to write to, which need not be there.
        roots: Where data lie: folders, archives, URLs; None names no place.

    Raises:
        IclmsrError: It is one of them, or lies in one.
    """
    for root in roots:
        if isinstance(root, Path) and out.resolve().is_relative_to(root.resolve()):
            raise IclmsrError(
                f"what is written to {printable(out)} would lie between the images of "
                f"{printable(root)}: name a folder outside"
            )
