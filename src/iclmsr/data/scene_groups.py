# SPDX-License-Identifier: Apache-2.0
"""Which kinds of scenes belong together, and to which class of objects."""

from collections.abc import Sequence
from pathlib import Path

from iclmsr.data.classes import shown
from iclmsr.data.listing import Listing
from iclmsr.data.names import printable
from iclmsr.errors import IclmsrError


def groups_of(
    listing: Listing, classes: Sequence[str], file: Path | None
) -> dict[str, tuple[str, ...]]:
    """The scene classes of each group, in the order of the groups' names.

    Args:
        listing: The scenes.
        classes: Of the objects.
        file: A text file of groups; None deals the scene classes out.

    Raises:
        IclmsrError: The file cannot be read or does not fit, or there are too few scene classes.
    """
    count, there = len(classes), listing.classes
    if file is not None:
        found = _read_groups(file)
        unknown = {name for members in found.values() for name in members} - set(there)
        if unknown:
            raise IclmsrError(
                f"--groups {file} names scene classes that are not in "
                f"{listing.tree.where('')}: {shown(unknown)}"
            )
        if len(found) != count:
            raise IclmsrError(
                f"--groups {file} has {len(found)} groups for {count} object classes "
                f"({shown(classes)}): name one for each"
            )
        return found
    if len(there) < count:
        raise IclmsrError(
            f"{listing.tree.where('')} has {len(there)} scene classes for {count} object classes: "
            "there must be one for each at least"
        )
    width = len(str(count - 1))
    return {f"group{k:0{width}d}": there[k::count] for k in range(count)}


def _read_groups(path: Path) -> dict[str, tuple[str, ...]]:
    """A file of groups, sorted by name."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise IclmsrError(f"cannot read --groups {printable(path)}: {reason}") from error
    groups: dict[str, tuple[str, ...]] = {}
    taken: set[str] = set()
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        name, colon, members = (part.strip() for part in text.partition(":"))
        twice = name in groups or taken.intersection(members.split())
        if not (name and colon and members) or twice:
            what = "a name or scene class for the second time" if twice else "no GROUP: CLASS ..."
            raise IclmsrError(f"--groups {printable(path)}, line {number}: {what}: {text!r}")
        groups[name] = tuple(members.split())
        taken.update(members.split())
    return dict(sorted(groups.items()))
