# SPDX-License-Identifier: Apache-2.0
"""Rows of a ``datasets.Dataset`` as image files, labels and masks."""

import functools
import pickle
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from iclmsr.data.classes import check_labels, choose
from iclmsr.data.config import DataConfig
from iclmsr.data.listing import Listing
from iclmsr.data.single import Plain
from iclmsr.data.trees import Content, Tree
from iclmsr.errors import IclmsrError, nearest

CHUNK = 64
"""Rows that are in memory at a time."""


class Rows(Tree):
    """The cells of one column as files: ``train/0.png`` is the first row's, whatever its format.

    Args:
        dataset: A ``datasets.Dataset`` whose column holds bytes and paths.
        column: Its name.
        split: What the files' names begin with.
        place: The data set and the split, for messages.
    """

    def __init__(self, dataset: Any, column: str, split: str, place: str) -> None:
        self.dataset = dataset.select_columns([column]).with_format(None)
        self.column, self.split, self.place = column, split, Path(place)

    def below(self, folder: str) -> "Rows":  # noqa: ARG002 - there are no folders
        """The same rows."""
        return self

    def folders(self, folder: str = "") -> list[str]:  # noqa: ARG002
        """None."""
        return []

    def files(self, folder: str = "") -> list[str]:  # noqa: ARG002
        """Every row, in its order."""
        return [self.name(row) for row in range(len(self.dataset))]

    def name(self, row: int) -> str:
        """What a row's file is called."""
        return f"{self.split}/{row}.png"

    def contents(self, names: Collection[str]) -> Iterator[tuple[str, Content]]:
        """Each cell in the order of ``names``; no other row is read."""
        rows = list(map(_row, names))
        for start in range(0, len(rows), CHUNK):
            chunk = rows[start : start + CHUNK]
            for row, cell in zip(chunk, self.dataset[chunk][self.column], strict=True):
                yield self.name(row), _content(cell)

    def reader(self, name: str) -> "Cell":
        """The cell of one row, by itself."""
        return Cell(self, _row(name))

    def where(self, name: str) -> str:
        """A row, for messages."""
        column = f"column {self.column!r} of {self.place}"
        return f"row {_row(name)} of {column}" if name else column

    @functools.cached_property
    def sizes(self) -> list[int | None]:
        """Bytes of the file in every cell, None where there is none; the files are not read."""
        import pyarrow.compute as pc

        column = self.dataset.with_format("arrow")[:][self.column]
        sizes: list[int | None] = pc.binary_length(pc.struct_field(column, "bytes")).to_pylist()
        return sizes

    @functools.cached_property
    def dataset(self) -> Any:
        """The rows that another process sent, mapped from the same files.

        Raises:
            IclmsrError: The files are gone.
        """
        try:
            return pickle.loads(self._packed)
        except OSError as error:
            reason = " ".join(str(error).split())
            raise IclmsrError(f"cannot read {self.where('')}: {reason}: put it back") from error

    @functools.cached_property
    def _packed(self) -> bytes:
        """The rows for another process."""
        return pickle.dumps(self.dataset)

    def __reduce__(self) -> "tuple[Callable[..., Rows], tuple[bytes, str, str, str]]":
        return _unpacked, (self._packed, self.column, self.split, str(self.place))


@functools.lru_cache(maxsize=4)
def _unpacked(packed: bytes, column: str, split: str, place: str) -> Rows:
    """Rows that another process sent; with each of its tasks, but they are opened only once."""
    rows = Rows.__new__(Rows)
    rows._packed, rows.column, rows.split, rows.place = packed, column, split, Path(place)
    return rows


class Cell(NamedTuple):
    """One file of :class:`Rows`."""

    rows: Rows
    row: int

    def __call__(self) -> Content:
        """The file, or why it cannot be read."""
        return _content(self.rows.dataset[self.row][self.rows.column])

    @property
    def size(self) -> int:
        """Bytes of the file; -1 if it is not there."""
        size = self.rows.sizes[self.row]
        if size is not None:
            return size
        cell = self.rows.dataset[self.row][self.rows.column]
        return Plain(cell["path"]).size if cell and cell["path"] is not None else -1


def _row(name: str) -> int:
    """The row of a file's name."""
    return int(PurePosixPath(name).stem)


def _content(cell: dict[str, Any] | None) -> Content:
    """The file in a cell, or the one that it names."""
    if cell is None or (cell["bytes"] is None and cell["path"] is None):
        return FileNotFoundError("the cell is empty")
    if cell["bytes"] is not None:
        found: bytes = cell["bytes"]
        return found
    return Plain(cell["path"])()


def _looks_like_image(feature: Any) -> bool:
    """Whether a column's cells have the fields of an image's, though nothing says that they are."""
    return isinstance(feature, dict) and feature.keys() == {"bytes", "path"}


class Split:
    """The rows of one split; a column in a column is called ``OUTER.INNER``.

    Args:
        rows: A ``datasets.Dataset``.
        name: What the split is called.
        place: The data set, for messages.
        config: Which columns and classes.

    Attributes:
        where: The data set and the split, for messages.
        columns: Names of all columns.
    """

    def __init__(self, rows: Any, name: str, place: str, config: DataConfig) -> None:
        from datasets import ClassLabel, Image

        if any(isinstance(feature, dict) for feature in rows.features.values()):
            for column, feature in rows.features.items():
                # flatten would take apart an undecoded image, and one that only its fields tell
                if isinstance(feature, Image) or _looks_like_image(feature):
                    rows = rows.cast_column(column, Image())
            rows = rows.flatten()
        features = rows.features.items()
        self.columns = [name for name, _ in features]
        self._pictures = [name for name, feature in features if isinstance(feature, Image)]
        self._declared = [name for name, feature in features if isinstance(feature, ClassLabel)]
        self._undecoded = Image(decode=False)
        self._rows, self.name, self._config = rows, name, config
        self.where = f"{place}, split {name}"

    def listing(self) -> Listing:
        """The rows of the chosen classes; raises if there is none."""
        images = self._images()
        labels, classes = self.labels()
        if not labels:
            raise IclmsrError(f"no images in {self.where}: it has no rows that could be used")
        names = tuple(map(images.name, labels))
        return Listing(images, names, tuple(labels.values()), classes)

    def masks(self) -> Rows | None:
        """The masks, if there are any."""
        column = self._mask_column()
        return None if column is None else self._files(column)

    def labels(self) -> tuple[dict[int, int], tuple[str, ...]]:
        """The label of every row that is of a chosen class, and these classes."""
        labels, classes = self._all_labels()
        chosen = choose(classes, self._config.class_list, self.where)
        if len(chosen) == len(classes):
            return dict(enumerate(labels)), classes
        label_of = {classes.index(name): label for label, name in enumerate(chosen)}
        kept = {row: label_of[label] for row, label in enumerate(labels) if label in label_of}
        return kept, chosen

    def _all_labels(self) -> tuple[list[int], tuple[str, ...]]:
        """The label of every row, -1 where there is none, and all classes."""
        column = None
        if self._config.labels:
            column = self._column("label", self._config.label_column, self._declared)
        if column is None:
            return [-1] * len(self._rows), ()
        labels, classes = self._labels_in(column)
        for row, label in enumerate(labels):
            if label >= 0 and not classes[label].strip():
                raise IclmsrError(
                    f"row {row} of column {column!r} of {self.where} has the empty label "
                    f"{classes[label]!r}: name its class, or make the cell null if it has none"
                )
        return labels, classes

    def _labels_in(self, column: str) -> tuple[list[int], tuple[str, ...]]:
        """As above, of a column."""
        values = self._rows.select_columns([column]).with_format(None)[:][column]
        feature = self._rows.features[column]
        if column in self._declared:
            labels = [-1 if value is None else value for value in values]
            check_labels(
                np.array(labels), -1, len(feature.names) - 1, f"{column!r} of {self.where}"
            )
            return labels, tuple(feature.names)
        kinds = {type(value) for value in values} - {type(None)}
        if kinds and kinds not in ({int}, {str}, {bool}):
            raise IclmsrError(
                f"column {column!r} of {self.where} holds {feature}, no labels: name one of whole "
                "numbers or words with --data.label-column"
            )
        known = sorted({value for value in values if value is not None})
        label_of = {value: label for label, value in enumerate(known)}
        return [label_of.get(value, -1) for value in values], tuple(map(str, known))

    def _images(self) -> Rows:
        """The images; raises unless it is clear which column holds them."""
        masks = {"mask", self._mask_column()}
        found = [name for name in self._pictures if name not in masks]
        column = self._column("image", self._config.image_column, found)
        if column is None:
            raise IclmsrError(
                f"no column of images in {self.where}: name the one that holds them with "
                f"--data.image-column; there is {', '.join(self.columns)}"
            )
        return self._files(column)

    def _mask_column(self) -> str | None:
        """The column that the user names, or ``mask``, if that holds images."""
        default = ["mask"] if "mask" in self._pictures else []
        return self._column("mask", self._config.mask_column, default)

    def _column(self, kind: str, named: str | None, found: Sequence[str]) -> str | None:
        """The column that the user names, or the only one found, or None."""
        if named and named not in self.columns:
            raise IclmsrError(
                f"data.{kind}-column {named!r} is not in {self.where}: "
                f"{nearest(named, self.columns)}"
            )
        if named is None and len(found) > 1:
            raise IclmsrError(
                f"several columns of {kind}s in {self.where}: choose {' or '.join(found)} with "
                f"--data.{kind}-column"
            )
        return named or (found[0] if found and named is None else None)

    def _files(self, column: str) -> Rows:
        """The cells of a column as files; raises if they hold neither bytes nor paths."""
        from datasets import Value

        feature = self._rows.features[column]
        kind = getattr(feature, "dtype", "")
        try:
            rows = self._rows
            if kind in ("binary_view", "string_view"):
                rows = rows.cast_column(column, Value(kind.removesuffix("_view")))
            rows = rows.cast_column(column, self._undecoded)
        except (TypeError, ValueError, NotImplementedError) as error:
            raise IclmsrError(
                f"column {column!r} of {self.where} holds {feature}, no images: choose one of "
                "images, bytes or paths"
            ) from error
        return Rows(rows, column, self.name, self.where)
