# SPDX-License-Identifier: Apache-2.0
"""Data sets that Hugging Face's package ``datasets`` reads: from its hub, or from local files.

The package finds the rows; what an image's or a mask's cell holds is decoded like any other file.
"""

import contextlib
import glob
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from iclmsr.data.classes import check_same
from iclmsr.data.config import DataConfig
from iclmsr.data.draw import Draw
from iclmsr.data.folder import read_images
from iclmsr.data.images import ImageSet
from iclmsr.data.jpeg import check_decoder
from iclmsr.data.listing import FOLDERS
from iclmsr.data.names import printable
from iclmsr.data.rows import Split
from iclmsr.errors import IclmsrError

OLDEST = 4
"""Major version of ``datasets`` from which on no data set brings code that is run."""
SAVED = ("dataset_dict.json", "state.json")
"""Files that tell a folder written by ``save_to_disk``."""


def read_hugging_face(config: DataConfig, split: str, draw: Draw) -> ImageSet:
    """The images of a split, or some of them, in the order of their rows.

    The training images are those of the split ``train``, or of the only one that there is; the
    test images those of ``test``, ``val``, ``valid`` or ``validation``, the first with labels.

    Args:
        config: Which data set, and which of its columns.
        split: ``"train"`` or ``"test"``.
        draw: Which of the images; the cells of no others are read.

    Raises:
        IclmsrError: The package is not installed, or cannot load the data set; this has no such
            split or column; an image or a mask does not decode.
    """
    check_decoder(config.decoder, on_disk=False)
    place, loaded = _place(config), _load(config)
    splits = {name: Split(rows, f"{place}, split {name}", config) for name, rows in loaded.items()}
    train, chosen = _named("train", splits), _named(split, splits)
    if not chosen:
        raise IclmsrError(
            f"no {split} images in {place}: looked for a split {' or '.join(FOLDERS[split])}, "
            f"there is {', '.join(splits)}"
        )
    for one in chosen:
        listing = one.listing()
        if split == "train" or not config.labels or min(listing.labels) >= 0:
            break
    else:
        raise IclmsrError(
            f"not all images in {' or '.join(one.where for one in chosen)} have labels: name "
            f"their column with --data.label-column; there is {', '.join(chosen[0].columns)}"
        )
    if split == "test" and train:
        check_same(listing.classes, one.where, train[0].labels()[1], train[0].where)
    return read_images(
        listing,
        image_size=config.image_size,
        on_corrupt=config.on_corrupt,
        draw=draw,
        masks=one.masks(),
        decoder=config.decoder,
    )


def fingerprint(config: DataConfig) -> str:
    """What ``datasets`` tells one state of a data set from another by.

    For files, their names and the times of their last changes; on the hub, the commit.

    Raises:
        IclmsrError: The package is not installed, or cannot load the data set.
    """
    return repr([(name, rows._fingerprint) for name, rows in _load(config).items()])


def named_by(source: str) -> str:
    """The name on the hub, or the path, that follows ``hf:``; empty if there is none.

    >>> named_by("hf:uoft-cs/cifar10"), named_by("hf:ylecun/mnist:mnist"), named_by("hf")
    ('uoft-cs/cifar10', 'ylecun/mnist', '')
    """
    return source.partition(":")[2].partition(":")[0]


def absolute(source: str) -> str:
    """The source, its path written in full if it is ``hf:PATH`` and something lies there.

    >>> absolute("hf:uoft-cs/cifar10")
    'hf:uoft-cs/cifar10'
    """
    name = named_by(source)
    path = Path(name).expanduser()
    if not (source.startswith("hf:") and name and path.exists()):
        return source
    return f"hf:{path.absolute()}{source.removeprefix(f'hf:{name}')}"


def _named(split: str, splits: Mapping[str, Split]) -> list[Split]:
    """The splits that serve as training or as test images, the best one first."""
    found = [splits[name] for name in FOLDERS[split] if name in splits]
    if split == "train" and not found and len(splits) == 1 and not _named("test", splits):
        return list(splits.values())
    return found


def _place(config: DataConfig) -> str:
    """The data set, for messages."""
    return config.source if config.root is None else printable(config.root)


def _load(config: DataConfig) -> dict[str, Any]:
    """Every split as a ``datasets.Dataset``; raises what the package says in one line."""
    datasets = _package()
    name, _, subset = config.source.partition(":")[2].partition(":")
    path = Path(config.root or name).expanduser()
    try:
        with _quiet(datasets):
            if any((path / file).is_file() for file in SAVED):
                loaded = datasets.load_from_disk(str(path))
            elif path.is_file():
                loaded = datasets.load_dataset("parquet", data_files=glob.escape(str(path)))
            else:
                place = str(path.absolute()) if path.exists() else name
                loaded = datasets.load_dataset(place, subset or None)
    except Exception as error:  # the package lets through whatever its parts stumble over
        generating = isinstance(error, datasets.exceptions.DatasetGenerationError)
        cause = error.__cause__ if generating and error.__cause__ else error
        reason = " ".join(f"{type(cause).__name__}: {cause}".split())
        raise IclmsrError(f"cannot load {_place(config)}: {reason}") from error
    return dict(loaded) if isinstance(loaded, dict) else {"train": loaded}


def _package() -> Any:
    """Hugging Face's package; raises if it is not there, or would run code of a data set's own."""
    try:
        import datasets
    except ImportError as error:
        raise IclmsrError(
            "data.source hf needs the package datasets, which is not installed: "
            "pip install 'iclmsr[hf]'"
        ) from error
    if int(datasets.__version__.partition(".")[0]) < OLDEST:
        raise IclmsrError(
            f"the package datasets {datasets.__version__} may run code that comes with a data "
            f"set, version {OLDEST} does not: pip install 'iclmsr[hf]'"
        )
    return datasets


@contextlib.contextmanager
def _quiet(datasets: Any) -> Iterator[None]:
    """Without the package's progress bars, unless somebody looks at them."""
    if sys.stderr.isatty() or datasets.utils.are_progress_bars_disabled():
        yield
        return
    datasets.utils.disable_progress_bars()
    try:
        yield
    finally:
        datasets.utils.enable_progress_bars()
