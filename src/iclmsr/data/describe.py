# SPDX-License-Identifier: Apache-2.0
"""What was found in a data set, as JSON and for a person."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from iclmsr.data.findings import Findings
from iclmsr.data.names import printable
from iclmsr.data.splits import Masks, Split

LISTED = 20
"""So many classes or files at most are named one by one."""
FREQUENT = 3
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


def as_json(found: Findings) -> dict[str, Any]:
    """All that was found as JSON values; nothing is cut short."""

    def groups(copies: Sequence[Sequence[tuple[str, str]]]) -> list[Any]:
        return [
            [
                {
                    "split": split,
                    "image": printable(name),
                    "class": printable(found.splits[split].labels[name]) or None,
                }
                for split, name in group
            ]
            for group in copies
        ]

    config = found.config
    return {
        "root": None if config.root is None else printable(config.root),
        "source": config.source,
        "image_size": config.image_size,
        "masks": None if config.masks is None else printable(config.masks),
        "masks_assumed": found.assumed,
        "usable": not found.problems(),
        "problems": found.problems(),
        "notes": found.notes(),
        "splits": {name: _split_json(split) for name, split in found.splits.items()},
        "copies": groups(found.copies),
        "copies_across_splits": groups(found.across()),
        "copies_in_different_classes": groups(found.conflicts()),
        "loose": [printable(name) for name in found.loose],
        "unused": [printable(name) for name in found.unused],
        "passed_over": {printable(kind): count for kind, count in found.passed.most_common()},
    }


def _split_json(split: Split) -> dict[str, Any]:
    """A split as JSON values."""
    return {
        "images": len(split),
        "classes": {printable(name): count for name, count in split.counts().items()},
        "sizes": {_size(size): count for size, count in split.sizes.most_common()},
        "formats": dict(split.formats.most_common()),
        "modes": dict(split.modes.most_common()),
        "corrupt": {printable(name): why for name, why in split.corrupt.items()},
        "masks": None if split.masks is None else _masks_json(split.masks, len(split)),
    }


def _masks_json(masks: Masks, images: int) -> dict[str, Any]:
    """A split's masks as JSON values."""
    foreground = None
    if masks.shares:
        shares = list(masks.shares.values())
        foreground = {"mean": float(np.mean(shares))} | {
            f"quantile_{quantile}": value
            for quantile, value in zip(QUANTILES, _quantiles(masks), strict=True)
        }
    return {
        "usable": len(masks.shares),
        "share_of_images": len(masks.shares) / images,
        "unusable": {printable(name): why for name, why in masks.unusable.items()},
        "foreground": foreground,
    }


def show(found: Findings) -> None:
    """Prints all that was found for a person, long lists cut short."""
    config, splits = found.config, found.splits
    what = "" if config.root is None else f"{printable(config.root)}: "
    size = _size((config.image_size, config.image_size))
    masks = "" if config.masks is None else f", masks in {printable(config.masks)}"
    print(f"{what}source {config.source}, read as {size} pixels{masks}")
    if splits:
        console = Console(markup=False, highlight=False, emoji=False)
        console.print(_table(splits))
        if max(len(split.counts()) for split in splits.values()) <= LISTED:
            console.print(_classes(splits))
    for line in _lines(found):
        print(line)


def _lines(found: Findings) -> Iterator[str]:
    """What stands below the tables."""
    for name, split in found.splits.items():
        yield from _listed(f"{name} images that do not decode", split.corrupt)
        yield from _listed(f"{name} images without a mask that can be used", split.unmasked)
    groups = {" = ".join(printable(name) for _, name in group): "" for group in found.copies}
    yield from _listed("groups of images with the same pixels", groups)
    yield from (f"note: {note}" for note in found.notes())
    yield from (f"problem: {problem}" for problem in found.problems())


def _listed(title: str, lines: dict[str, str]) -> Iterator[str]:
    """Some lines below a title, cut short."""
    if lines:
        yield f"{title}: {len(lines):,}"
        for name, why in list(lines.items())[:LISTED]:
            yield f"  {printable(name)} {why}".rstrip()
        if len(lines) > LISTED:
            yield f"  and {len(lines) - LISTED:,} more: --json FILE lists all"


def _table(splits: dict[str, Split]) -> Table:
    """All splits side by side."""
    table = Table("", *splits)
    every = list(splits.values())
    rows = {
        "images": [f"{len(split):,}" for split in every],
        "classes": [f"{len(split.classes):,}" if split.classes else "none" for split in every],
        "images in a class": [
            _range(split.counts().values()) if split.classes else "" for split in every
        ],
        "sizes": [_sizes(split.sizes) for split in every],
        "formats": [_counted(split.formats) for split in every],
        "modes": [_counted(split.modes) for split in every],
        "do not decode": [f"{len(split.corrupt):,}" for split in every],
    }
    if any(split.masks is not None for split in every):
        rows["masks"] = [_coverage(split) for split in every]
        rows["foreground"] = [_foreground(split) for split in every]
    for name, cells in rows.items():
        if any(cells):
            table.add_row(name, *cells)
    return table


def _classes(splits: dict[str, Split]) -> Table:
    """Images of each class."""
    counts = {name: split.counts() for name, split in splits.items()}
    table = Table("class")
    for name in splits:
        table.add_column(name, justify="right")
    for label in dict.fromkeys(label for found in counts.values() for label in found):
        row = (f"{found.get(label, 0):,}" for found in counts.values())
        table.add_row(printable(label) or "(none)", *row)
    return table


def _range(counts: Collection[int]) -> str:
    """The smallest and the largest of some counts."""
    least, most = min(counts, default=0), max(counts, default=0)
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"


def _sizes(sizes: Counter[tuple[int, int]]) -> str:
    """The most frequent sizes, and the extremes where there are more."""
    text = _counted(Counter({_size(size): count for size, count in sizes.items()}))
    if len(sizes) > FREQUENT:
        text += f"; shorter side {_range([min(size) for size in sizes])}"
    return text


def _size(size: tuple[int, int]) -> str:
    """Width and height in words."""
    return f"{size[0]} x {size[1]}"


def _counted(counts: Counter[str]) -> str:
    """The most frequent values, and how many more there are."""
    first = counts.most_common(FREQUENT)
    text = ", ".join(value if len(counts) == 1 else f"{value}: {n:,}" for value, n in first)
    more = f" and {len(counts) - len(first):,} more" if len(counts) > len(first) else ""
    return text + more


def _coverage(split: Split) -> str:
    """How many of a split's images have a mask."""
    if split.masks is None or not len(split):
        return "none"
    count = len(split.masks.shares)
    return f"{count:,} ({100 * count / len(split):.1f} % of images)"


def _foreground(split: Split) -> str:
    """How much of the images is foreground."""
    if split.masks is None or not split.masks.shares:
        return "none"
    _, low, _, middle, _, high, _ = (f"{100 * value:.0f}" for value in _quantiles(split.masks))
    return f"median {middle} %, 90 % of masks {low} to {high} %"


def _quantiles(masks: Masks) -> list[float]:
    """Of the share of foreground."""
    quantiles: list[float] = np.quantile(list(masks.shares.values()), QUANTILES).tolist()
    return quantiles
