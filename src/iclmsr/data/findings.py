# SPDX-License-Identifier: Apache-2.0
"""What was found in a data set, judged and put into words."""

import statistics
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from iclmsr.data.classes import shown
from iclmsr.data.names import printable
from iclmsr.data.sources import DataConfig
from iclmsr.data.splits import Split

LISTED = 20
"""So many classes, files or sizes at most are named one by one."""
UNEQUAL = 10
Copies = list[list[tuple[str, str]]]


@dataclass
class Findings:
    """What is in a data set.

    Attributes:
        config: What was looked at.
        splits: By ``"train"`` and ``"test"``; one that cannot be listed is not in it.
        refused: Why not, by the same names.
        has_test: Whether there is anything to test on.
        copies: Groups of images with the same pixels, as pairs of split and name.
        loose: Image files beside class or split folders, which nothing reads.
        unused: Image files elsewhere that belong to neither split.
    """

    config: DataConfig
    splits: dict[str, Split] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    has_test: bool = True
    copies: Copies = field(default_factory=list)
    loose: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)

    def within(self, split: str) -> Copies:
        """The groups' images of one split, where those are two or more."""
        own = ([image for image in group if image[0] == split] for group in self.copies)
        return [group for group in own if len(group) > 1]

    def across(self) -> Copies:
        """Groups with images of both splits."""
        return [group for group in self.copies if len({split for split, _ in group}) > 1]

    def conflicts(self) -> Copies:
        """Groups whose images have different classes."""
        return [
            group
            for group in self.copies
            if len({self.splits[split].labels[name] for split, name in group} - {""}) > 1
        ]

    def problems(self) -> list[str]:
        """Why a run would stop; none if the data set can be used."""
        return list(self._problems())

    def _problems(self) -> Iterator[str]:
        """As above."""
        for name, why in self.refused.items():
            if name == "train" or self.has_test:
                yield why
        for name, split in self.splits.items():
            lost = Counter(split.labels[image] for image in split.corrupt)
            empty = [label for label, count in split.counts().items() if count == lost[label]]
            if empty:
                named = [label or "(no class)" for label in empty]
                yield f"not one {name} image can be used of: {shown(named)}"
            if self.config.on_corrupt == "skip":
                continue
            if split.corrupt:
                yield (
                    f"{len(split.corrupt):,} {name} images do not decode: mend or remove them, or "
                    "pass --data.on-corrupt skip"
                )
            if split.masks is not None and split.masks.unusable:
                yield (
                    f"{len(split.masks.unusable):,} {name} images have no mask that can be used: "
                    "`iclmsr masks` makes masks, or pass --data.on-corrupt skip"
                )

    def notes(self) -> list[str]:
        """What a run would not stop at, but a person should know."""
        return list(self._notes())

    def _notes(self) -> Iterator[str]:
        """As above."""
        if not self.has_test:
            yield "no test images: an encoder can be pretrained, but not evaluated"
        if self.loose:
            yield (
                f"{len(self.loose):,} images lie beside the class folders and are not read: "
                f"{shown(self.loose)}"
            )
        if self.unused:
            yield f"{len(self.unused):,} images are in neither split: {shown(self.unused)}"
        across = self.across()
        if across:
            there = sum(split == "test" for group in across for split, _ in group)
            yield (
                f"{there:,} test images are training images too (same pixels): "
                "accuracy on them says nothing"
            )
        for name in self.splits:
            more = sum(len(group) - 1 for group in self.within(name))
            if more:
                yield f"{more:,} {name} images are copies of others (same pixels)"
        conflicts = self.conflicts()
        if conflicts:
            yield f"{len(conflicts):,} groups of copies are in different classes"
        for name, split in self.splits.items():
            yield from _remarks(name, split)

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        names = [[printable(name) for _, name in group] for group in self.copies]
        return {
            "root": None if self.config.root is None else printable(self.config.root),
            "source": self.config.source,
            "image_size": self.config.image_size,
            "masks": None if self.config.masks is None else printable(self.config.masks),
            "usable": not self.problems(),
            "problems": self.problems(),
            "notes": self.notes(),
            "splits": {name: _split_json(split) for name, split in self.splits.items()},
            "copies": names,
            "copies_across_splits": len(self.across()),
            "copies_in_different_classes": len(self.conflicts()),
            "loose": [printable(name) for name in self.loose],
            "unused": [printable(name) for name in self.unused],
        }

    def describe(self) -> RenderableType:
        """All of it for a person, long lists cut short."""
        size = self.config.image_size
        what = "" if self.config.root is None else f"{printable(self.config.root)}: "
        masks = "" if self.config.masks is None else f", masks in {printable(self.config.masks)}"
        lines: list[RenderableType] = [
            f"{what}source {self.config.source}, read as {size} x {size} pixels{masks}"
        ]
        if self.splits:
            lines += [_table(self.splits), _classes(self.splits)]
        for name, split in self.splits.items():
            lines += _listed(f"{name} images that do not decode", split.corrupt)
            if split.masks is not None:
                lines += _listed(f"{name} images without a mask", split.masks.unusable)
        examples = [" = ".join(printable(name) for _, name in group) for group in self.copies]
        lines += _listed("same pixels", dict.fromkeys(examples, ""))
        lines += [f"note: {note}" for note in self.notes()]
        lines += [f"problem: {problem}" for problem in self.problems()]
        return Group(*lines)


def _remarks(name: str, split: Split) -> Iterator[str]:
    """Notes on one split alone."""
    counts = [count for label, count in split.counts().items() if label]
    if counts and max(counts) > UNEQUAL * min(counts):
        yield f"{name} classes are very unequal: {min(counts):,} to {max(counts):,} images"
    if not counts:
        yield f"{name} images have no classes: they can be pretrained on, but not evaluated with"
    if split.corrupt:
        yield f"{len(split.corrupt):,} {name} images would be left out or stop a run"
    if split.masks is not None:
        for share, what in ((0, "no foreground"), (1, "nothing but foreground")):
            blank = sum(found == share for found in split.masks.shares.values())
            if blank:
                yield f"{blank:,} {name} masks have {what}"


def _split_json(split: Split) -> dict[str, Any]:
    """A split as JSON values."""
    value: dict[str, Any] = {
        "images": len(split),
        "classes": {printable(name): count for name, count in split.counts().items()},
        "sizes": dict(split.sizes.most_common()),
        "formats": dict(split.formats.most_common()),
        "modes": dict(split.modes.most_common()),
        "corrupt": {printable(name): why for name, why in split.corrupt.items()},
        "masks": None,
    }
    if split.masks is not None:
        shares = list(split.masks.shares.values())
        value["masks"] = {
            "usable": len(shares),
            "unusable": {printable(name): why for name, why in split.masks.unusable.items()},
            "mean_foreground": statistics.fmean(shares) if shares else None,
        }
    return value


def _table(splits: dict[str, Split]) -> Table:
    """Both splits side by side."""
    table = Table()
    table.add_column("")
    for name in splits:
        table.add_column(name)
    both = list(splits.values())
    table.add_row("images", *(f"{len(split):,}" for split in both))
    table.add_row("classes", *(f"{len(split.classes):,}" for split in both))
    for what in ("sizes", "formats", "modes"):
        table.add_row(what, *(_counted(getattr(split, what)) for split in both))
    table.add_row("do not decode", *(f"{len(split.corrupt):,}" for split in both))
    if any(split.masks is not None for split in both):
        table.add_row("masks", *map(_coverage, both))
    return table


def _classes(splits: dict[str, Split]) -> RenderableType:
    """Images of each class, or how many classes have how many."""
    counts = {name: split.counts() for name, split in splits.items()}
    labels = list(dict.fromkeys(label for found in counts.values() for label in found))
    if len(labels) > LISTED:
        parts = [
            f"{name} {min(found.values()):,} to {max(found.values()):,}"
            for name, found in counts.items()
        ]
        return f"images in a class: {', '.join(parts)}"
    table = Table()
    table.add_column("class")
    for name in splits:
        table.add_column(name, justify="right")
    for label in labels:
        row = (f"{found.get(label, 0):,}" for found in counts.values())
        table.add_row(printable(label) or "(none)", *row)
    return table


def _counted(counts: Counter[str]) -> str:
    """The most frequent values, and how many more there are."""
    first = counts.most_common(3)
    text = ", ".join(value if len(counts) == 1 else f"{value}: {n:,}" for value, n in first)
    more = f" and {len(counts) - len(first):,} more" if len(counts) > len(first) else ""
    return text + more


def _coverage(split: Split) -> str:
    """How many of a split's images have a mask, and how much of them is foreground."""
    if split.masks is None:
        return "none"
    shares = list(split.masks.shares.values())
    share = f", foreground {100 * statistics.fmean(shares):.1f} %" if shares else ""
    return f"{len(shares):,} of {len(split):,}{share}"


def _listed(title: str, lines: dict[str, str]) -> Collection[str]:
    """Some lines below a title, cut short."""
    if not lines:
        return []
    more = f"  and {len(lines) - LISTED:,} more: --json lists all" if len(lines) > LISTED else ""
    first = [f"  {printable(name)} {why}".rstrip() for name, why in list(lines.items())[:LISTED]]
    return [f"{title}: {len(lines):,}", *first, *([more] if more else [])]
