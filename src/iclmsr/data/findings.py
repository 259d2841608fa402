# SPDX-License-Identifier: Apache-2.0
"""What was found in a data set, judged."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations

from iclmsr.data.classes import shown
from iclmsr.data.found import Files
from iclmsr.data.hugging_face import Columns
from iclmsr.data.listing import LOOSE
from iclmsr.data.names import counted, printable
from iclmsr.data.places import kind_of
from iclmsr.data.sources import DataConfig
from iclmsr.data.splits import Split

UNEQUAL = 10
"""From this ratio of the largest to the smallest class on, a person is told."""
Copies = list[list[tuple[str, str]]]


@dataclass
class Findings:
    """What is in a data set.

    Attributes:
        config: What was looked at.
        assumed: Whether nobody named the masks that were found, so that a run does not read them.
        files: Where its images are files of their own or cells of a column, else None.
        splits: By ``"train"``, ``"test"`` and the names of others; one that cannot be listed is
            not in it.
        refused: Why a run would refuse a split as a whole, by the same names.
        has_test: Whether there is anything to test on.
        copies: Groups of images with the same pixels, as pairs of split and name.
        loose: Image files beside class or split folders, which nothing reads.
        unused: Image files elsewhere that belong to no split.
        passed: Other files by their suffix, which nothing reads as images.
        remarks: What the readers warn of.
    """

    config: DataConfig
    assumed: bool = False
    files: Files | Columns | None = None
    splits: dict[str, Split] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    has_test: bool = True
    copies: Copies = field(default_factory=list)
    loose: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    passed: Counter[str] = field(default_factory=Counter)
    remarks: list[str] = field(default_factory=list)

    def within(self, split: str) -> Copies:
        """The groups' images of one split, where those are two or more."""
        own = ([image for image in group if image[0] == split] for group in self.copies)
        return [group for group in own if len(group) > 1]

    def across(self) -> Copies:
        """Groups with images of two or more splits."""
        return [group for group in self.copies if len({split for split, _ in group}) > 1]

    def shared(self, split: str, other: str) -> int:
        """How many images of a split are those of another one, too."""
        groups = ([name for name, _ in group] for group in self.copies)
        return sum(group.count(split) for group in groups if other in group)

    def conflicts(self) -> Copies:
        """Groups whose images have different classes."""
        return [
            group
            for group in self.copies
            if len({self.splits[split].labels[name] for split, name in group} - {""}) > 1
        ]

    def problems(self) -> list[str]:
        """Why a run would stop; none if the data set can be used."""
        return list(dict.fromkeys(self._problems()))

    def _problems(self) -> Iterator[str]:
        """As above."""
        for name, why in self.refused.items():
            if name != "test" or self.has_test:
                yield why
        for name, split in self.splits.items():
            images = split.digests if self.assumed else split.usable()
            usable = Counter(split.labels[image] for image in images)
            counts = split.counts().items()
            empty = [label for label, count in counts if count and not usable[label]]
            if empty:
                named = [label or "(no class)" for label in empty]
                yield f"not one {name} image can be used of: {shown(named)}"
            if self.config.on_corrupt == "skip":
                continue
            skip = "or pass --data.on-corrupt skip"
            if split.corrupt:
                one = "does not decode: mend or remove it"
                many = "do not decode: mend or remove them"
                yield f"{_images(len(split.corrupt), name, one, many)}, {skip}"
            if split.unmasked and not self.assumed:
                yield f"{_unmasked(name, split)}, {skip}"

    def notes(self) -> list[str]:
        """What a run would not stop at, but a person should know."""
        return list(dict.fromkeys(self._notes()))

    def _notes(self) -> Iterator[str]:
        """As above."""
        yield from (one for one in self.remarks if not self.loose or LOOSE not in one)
        if self.assumed:
            place = printable(self.config.masks or "")
            yield f"a run reads the masks in {place} only if it is told: --data.masks {place}"
            for name, split in self.splits.items():
                if split.unmasked:
                    yield _unmasked(name, split)
        if not self.has_test:
            yield "no test images: an encoder can be pretrained, but not evaluated"
        for name, split in self.splits.items():
            declared = [label for label, count in split.counts().items() if not count]
            if declared:
                yield f"there are no {name} images of: {shown(declared)}"
        if self.loose:
            yield f"{counted(len(self.loose), 'image')} {LOOSE}: {shown(self.loose)}"
        if self.unused:
            images = counted(len(self.unused), "image belongs", "images belong")
            yield f"{images} to no split: {shown(self.unused)}"
        if self.passed:
            few = self.passed.most_common(5)
            kinds = ", ".join(f"{printable(kind) or 'no suffix'}: {n:,}" for kind, n in few)
            files = counted(self.passed.total(), "file is", "files are")
            yield f"{files} not called like images ({kinds}): passed over"
        for other, name in combinations(self.splits, 2):
            known, why = other, f"what is chosen on {name} has seen the {other} images"
            if other == "train":
                known, why = "training", "accuracy on such images says nothing"
            there = self.shared(name, other)
            if there:
                one, many = f"is one of the {known} images", f"are {known} images"
                yield f"{_images(there, name, one, many)} too (same pixels): {why}"
        for name in self.splits:
            more = sum(len(group) - 1 for group in self.within(name))
            if more:
                images = _images(more, name, "is a copy of another", "are copies of others")
                yield f"{images} (same pixels)"
        conflicts = self.conflicts()
        if conflicts:
            groups = counted(len(conflicts), "group of copies is", "groups of copies are")
            yield f"{groups} in different classes"
        for name, split in self.splits.items():
            yield from self._notes_on(name, split)

    def _notes_on(self, name: str, split: Split) -> Iterator[str]:
        """Of one split alone."""
        counts = [count for label, count in split.counts().items() if label]
        if counts and max(counts) > UNEQUAL * min(counts):
            yield f"{name} classes are very unequal: {min(counts):,} to {max(counts):,} images"
        if len(counts) == 1:
            yield (
                f"{name} images have one class only, {shown(split.classes)}: any accuracy on them "
                "is 100 %; sort them into folders by class, or pass --data.no-labels"
            )
        if not counts:
            column = kind_of(self.config.source) == "hf" and self.config.labels
            remedy = "; if a column has them, pass --data.label-column NAME" if column else ""
            yield (
                f"{name} images have no classes: one can pretrain on them, but not evaluate{remedy}"
            )
        small = sum(n for size, n in split.sizes.items() if min(size) < self.config.image_size)
        if small:
            what = f"with a side below {self.config.image_size} pixels"
            yield _images(small, name, f"{what} is enlarged", f"{what} are enlarged")
        if self.config.on_corrupt == "skip" and (split.corrupt or split.unmasked):
            out = len(split.corrupt) + len(split.unmasked)
            yield f"{counted(out, f'{name} image')} cannot be used and would be left out"
        shares = [] if split.masks is None else list(split.masks.shares.values())
        for share, what in ((0, "no foreground"), (1, "nothing but foreground")):
            blank = sum(found == share for found in shares)
            if blank:
                masks = counted(blank, f"{name} mask has", f"{name} masks have")
                yield f"{masks} {what}"


def _images(number: int, split: str, one: str, many: str) -> str:
    """So many images of a split, and what one or many of them do."""
    return counted(number, f"{split} image {one}", f"{split} images {many}")


def _unmasked(split: str, images: Split) -> str:
    """That some images of a split have no mask."""
    some = _images(len(images.unmasked), split, "has", "have")
    return f"{some} no mask that can be used: `iclmsr masks` makes masks"
