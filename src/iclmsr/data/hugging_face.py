# SPDX-License-Identifier: Apache-2.0
"""Data sets that Hugging Face's package ``datasets`` reads: from its hub, or from local files.

The package finds the rows; what an image's or a mask's cell holds is decoded like any other file.
"""

import contextlib
import glob
import logging
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from iclmsr.data.classes import check_same
from iclmsr.data.config import DataConfig
from iclmsr.data.listing import FOLDERS, SUFFIXES, Listing
from iclmsr.data.names import at_home, printable
from iclmsr.data.places import name_and_subset, place_of
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
            classes = train[0].labels()[1]
            check_same(listing.classes, one.where, classes, train[0].where)
            listing = _in_order(listing, classes)
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


def _in_order(listing: Listing, classes: tuple[str, ...]) -> Listing:
    """The listing with the same classes in another order, that of the training images."""
    label_of = [classes.index(name) for name in listing.classes]
    labels = tuple(label_of[label] if label >= 0 else -1 for label in listing.labels)
    return replace(listing, labels=labels, classes=classes)


def _place(config: DataConfig) -> str:
    """The data set, for messages."""
    return config.source if config.root is None else printable(config.root)


def _load(config: DataConfig) -> dict[str, Any]:
    """Every split as a ``datasets.Dataset``; raises what the package says in one line."""
    datasets = _package()
    name, subset = name_and_subset(config.source)
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
        raise IclmsrError(
            f"cannot load {_place(config)}: {reason.rstrip('.')}: {_remedy(path, cause)}"
        ) from error
    return dict(loaded) if isinstance(loaded, dict) else {"train": loaded}


def _remedy(path: Path, cause: BaseException) -> str:
    """What to do where the package cannot load what lies at a path, or a name of the hub."""
    if isinstance(cause, PermissionError):
        return "make it readable"
    if any((path / file).is_file() for file in SAVED):
        return "save it anew, without splits that have no rows"
    if path.is_file() and path.suffix.lower() == PARQUET:
        return "make or download it again"
    if path.is_file():
        return f"make a {PARQUET} file of it, or pass a folder that has such files only"
    if path.exists():
        return f"put files there that `datasets` loads, as train{PARQUET}, or name another subset"
    return "mend the name or the path, or see to the network and your rights"


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
    """Without log lines of what is raised, too, and progress bars that nobody looks at."""
    with contextlib.ExitStack() as stack:
        for handler in logging.getLogger("datasets").handlers:
            handler.addFilter(_no_error)
            stack.callback(handler.removeFilter, _no_error)
        if not (sys.stderr.isatty() or datasets.utils.are_progress_bars_disabled()):
            datasets.utils.disable_progress_bars()
            stack.callback(datasets.utils.enable_progress_bars)
        yield


def _no_error(record: logging.LogRecord) -> bool:
    """Whether a log line tells of less than an error."""
    return record.levelno < logging.ERROR
