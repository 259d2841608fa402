# SPDX-License-Identifier: Apache-2.0
"""``iclmsr data variants``: the variants of ImageNet-9 of a data set, as files."""

from dataclasses import replace
from typing import Any, get_args

from iclmsr.data.names import at_home, printable
from iclmsr.errors import IclmsrError, nearest
from iclmsr.options import Parser, parse_options


def variants_command(words: list[str]) -> None:
    """Write images with foreground or background taken away or exchanged.

    usage: iclmsr data variants ROOT OUT [--variants only_fg,mixed_rand] [--splits test]
                                [--data.masks PATH] [--data.image-size N] [--data.filler black] ...

    ROOT is a data set with masks and classes, guessed as `iclmsr data check` guesses it, or
    synthetic. Writes OUT/VARIANT/SPLIT/CLASS/NAME.png in the size that a run reads, the masks in
    OUT/VARIANT/masks, the donors' classes of mixed images in OUT/VARIANT/backgrounds.csv: the
    same pixels that --data.variant makes on the fly. OUT lies outside ROOT. A variant is there
    whole or not at all; those that are there are kept.

      --variants A,B  of original, only_fg, only_bg_b, only_bg_t, no_fg, mixed_same, mixed_rand,
                      mixed_next; all unless given
      --splits A,B    all that there are unless given
      --data.NAME     as in `iclmsr pretrain --help`
    """
    parser = Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("--variants")
    parser.add_argument("--splits")
    places, options = words[:2], words[2:]
    if any(word.startswith("-") for word in places) or len(places) < 2:
        raise IclmsrError("variants begins with two places: iclmsr data variants ROOT OUT")
    known, rest = parser.parse_known_args(options)

    from iclmsr.config import PretrainConfig
    from iclmsr.data.found import guess
    from iclmsr.data.sources import DataConfig
    from iclmsr.data.variant_files import splits_of, write_variants
    from iclmsr.data.variants import Variant

    root = at_home(places[0])
    synthetic = places[0] == "synthetic" and not root.exists()
    data = DataConfig("synthetic") if synthetic else guess(root)
    data = parse_options(PretrainConfig, replace(PretrainConfig(), data=data), rest).data
    every: tuple[Any, ...] = get_args(Variant)
    variants = _chosen("--variants", known.variants, every)
    splits = _chosen("--splits", known.splits, splits_of(data))
    out = at_home(places[1])
    write_variants(data, out, variants, splits, print)
    first = printable(out / variants[0])
    print(f"read one: --data.source folder --data.root {first} --data.masks {first}")


def _chosen(option: str, text: str | None, there: tuple[Any, ...]) -> tuple[Any, ...]:
    """The names in a list with commas; all there are where none is given."""
    if text is None:
        return there
    names = tuple(dict.fromkeys(text.split(",")))
    for name in names:
        if name not in there:
            raise IclmsrError(f"unknown {option} {name!r}: {nearest(name, there)}")
    return names
