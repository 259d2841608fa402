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
from iclmsr.data.listing import FOLDERS, SUFFIXES, Listing
from iclmsr.data.names import at_home, printable
from iclmsr.data.places import place_of
from iclmsr.data.rows import Split
from iclmsr.data.trees import Folder, Tree
from iclmsr.errors import IclmsrError

OLDEST = 4
"""Major version of ``datasets`` from which on no data set brings code that is run."""
SAVED = ("dataset_dict.json", "state.json")
"""Files that tell a folder written by ``save_to_disk``."""
PARQUET = ".parquet"


class Columns:
    """A data set in columns, the rows of a split in their order.

    The training images are those of the split ``train``, or of the only one that there is; the
    test images those of ``test``, ``val``, ``valid`` or ``validation``, the first with labels.

    Args:
        config: Which data set, and which of its columns.

    Attributes:
        has_test: Whether there is a split of test images.
        others: Names of splits beside train and test that can be asked for: none.

    Raises:
        IclmsrError: The package is not installed, or cannot load the data set; options do not go
            together.
    """

    def __init__(self, config: DataConfig) -> None:
        place_of(config)
        if config.masks is not None:
            raise IclmsrError(
                f"data.masks is for images in files, which source {config.source!r} does not "
                "have: name the column that holds masks with --data.mask-column"
            )
        self.config, self.place = config, _place(config)
        loaded = _load(config)
        self.splits = {name: Split(rows, name, self.place, config) for name, rows in loaded.items()}
        self.has_test = bool(_named("test", self.splits))
        self.others: tuple[str, ...] = ()

    def listing(self, split: str) -> Listing:
        """The rows of ``"train"`` or ``"test"`` as files.

        Raises:
            IclmsrError: There is no such split or column, or it has other classes than train.
        """
        return self._chosen(split)[1]

    def masks_of(self, split: str) -> Tree | None:
        """Their masks, if there are any; raises as :meth:`listing`."""
        return self._chosen(split)[0].masks()

    def _chosen(self, split: str) -> tuple[Split, Listing]:
        """Whatever serves as a split."""
        chosen = _named(split, self.splits)
        if not chosen:
            raise IclmsrError(
                f"no {split} images in {self.place}: looked for a split "
                f"{' or '.join(FOLDERS[split])}, there is {', '.join(self.splits)}"
            )
        for one in chosen:
            listing = one.listing()
            if split == "train" or not self.config.labels or min(listing.labels) >= 0:
                break
        else:
            raise IclmsrError(
                f"not all images in {' or '.join(one.where for one in chosen)} have labels: name "
                f"their column with --data.label-column; there is {', '.join(chosen[0].columns)}"
            )
        train = _named("train", self.splits)
        if split == "test" and train:
            check_same(listing.classes, one.where, train[0].labels()[1], train[0].where)
        return one, listing


def fingerprint(config: DataConfig) -> str:
    """What ``datasets`` tells one state of a data set from another by.

    For files, their names and the times of their last changes; on the hub, the commit.

    Raises:
        IclmsrError: The package is not installed, or cannot load the data set.
    """
    return repr([(name, rows._fingerprint) for name, rows in _load(config).items()])


def holds_columns(path: Path) -> bool:
    """Whether a path is a ``.parquet`` file, a folder of such and no images, or a saved data set.

    Args:
        path: A file or a folder.

    Raises:
        IclmsrError: A folder cannot be listed.
    """
    if not path.is_dir():
        return path.suffix == PARQUET
    if any((path / name).is_file() for name in SAVED):
        return True
    if not any(True for depth in ("*", "*/*") for _ in path.glob(f"{depth}{PARQUET}")):
        return False
    return not any(name.lower().endswith(SUFFIXES) for name in Folder(path).files())


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
    path = at_home(config.root or name)
    try:
        with _quiet(datasets):
            if any((path / file).is_file() for file in SAVED):
                loaded = datasets.load_from_disk(str(path), keep_in_memory=False)
            elif path.is_file():
                files = glob.escape(str(path))
                loaded = datasets.load_dataset("parquet", data_files=files, keep_in_memory=False)
            else:
                place = str(path.absolute()) if path.exists() else name
                loaded = datasets.load_dataset(place, subset or None, keep_in_memory=False)
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
