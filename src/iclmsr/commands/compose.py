# SPDX-License-Identifier: Apache-2.0
"""``iclmsr data compose``: a data set of objects on scenes that say something about them."""

from iclmsr.data.names import at_home, printable
from iclmsr.errors import IclmsrError
from iclmsr.options import parse_options


def compose_command(words: list[str]) -> None:
    """Put cut-out objects on scenes that are tied to their classes.

    usage: iclmsr data compose OBJECTS SCENES OUT [options]

    OBJECTS has images by class with masks (OBJECTS/masks/..., or --masks), SCENES images by
    class; both in train/ and test/, or not. OUT gets train, val and test, where an object is on
    a scene of its class's own group with probability rho; val-swapped and test-swapped, the same
    objects in the same places on scenes that say nothing; masks/, backgrounds.csv and
    compose.json, which has every choice; it lies outside the other two. No object and no scene is
    in two of train, val, test. Foregrounds alone: read OUT with --data.variant only_fg.

      --rho 0.9            strength of the bond between class and group, in [0, 1]
      --groups FILE        lines GROUP: SCENE-CLASS ...; the k-th group in order of names is the
                           own one of the k-th class; else scene classes are dealt to groups
      --object-pattern RE  finds the object in an image's name: ^[^-]+ unless given
      --val-objects 2      objects of each class held out for val; --test-objects for test, where
                           OBJECTS has no test/
      --val-scenes 0.2     share of scenes held out for val; --test-scenes for test, the same
      --copies 1           composites of each image of an object
      --size 64            height and width, pixels, at most 4096
      --scale 0.5 0.8      the object's longer side as a share of it, smallest and largest
      --flip 0.5           probability that an object is flipped
      --erode 1            pixels taken off an object's edge; --softness 0.5, of the new edge; up to
                           the size
      --masks PATH         where the masks are
      --seed 0             of every draw: the same seed, the same bytes
    """
    if any(word.startswith("-") for word in words[:3]) or len(words) < 3:
        raise IclmsrError(
            "compose begins with three folders: iclmsr data compose OBJECTS SCENES OUT [options]"
        )
    from iclmsr.data.compose import compose
    from iclmsr.data.compose_plan import ComposeConfig

    config = parse_options(ComposeConfig, ComposeConfig(), words[3:])
    objects, scenes, out = (at_home(word) for word in words[:3])
    made = compose(objects, scenes, out, config)
    for kind, group in made.pairs.items():
        print(f"{kind}: {printable(group)}")
    for split, count in made.counts.items():
        print(f"{split}: {count:,} images, {100 * made.own[split]:.1f} % on their own group")
    place = printable(out)
    print(f"read them: --data.source folder --data.root {place} --data.masks {place}")
