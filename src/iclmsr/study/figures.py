# SPDX-License-Identifier: Apache-2.0
"""Figures of the four settings, and of the variants of an image."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from iclmsr.errors import IclmsrError
from iclmsr.study.look import (
    BLUE,
    INK,
    ORANGE,
    seed_key,
    seeds,
    settle,
    show_image,
    spread,
)
from iclmsr.study.rows import (
    CLASSIFIERS,
    Kind,
    Row,
    against,
    arm_label,
    base_label,
    bases_of,
    by_seed,
    judged_by,
)
from iclmsr.study.statistics import summary

SETTINGS = (
    ("full", "full"),
    ("full", "foreground"),
    ("foreground", "foreground"),
    ("foreground", "full"),
)
"""What setting 1, 2, 3, 4 of the paper trains on and tests on."""
VARIANT_LABELS = {
    "original": "original",
    "only_fg": "foreground only",
    "only_bg_b": "background only,\nbox black",
    "only_bg_t": "background only,\nbox tiled",
    "no_fg": "no foreground,\nsilhouette black",
    "mixed_same": "mixed,\nsame class",
    "mixed_rand": "mixed,\nrandom class",
    "mixed_next": "mixed,\nnext class",
}
_TRAINED = {"full": BLUE, "foreground": ORANGE}
_WIDTH = 0.19


def four_bars(study: Mapping[str, Any], *, arm: str = "plain", kind: Kind = "linear") -> Figure:
    """Accuracy in the four settings, four bars a base method: mean, deviation, every seed.

    Args:
        study: What ``study.json`` of four settings holds.
        arm: Which runs, ``plain`` or ``msr``.
        kind: Which classifier.

    Raises:
        IclmsrError: The study has no such run.

    Source: Qiang et al. 2022, the figure of section 1. Departure: spread and seeds are shown.
    """
    rows: list[Row] = [row for row in study["rows"] if row["arm"] == arm]
    bases = bases_of(rows)
    if not bases:
        raise IclmsrError(f"the study has no run of arm {arm!r}: nothing to draw")
    figure = Figure(figsize=(max(7.2, 1.6 + 2.4 * len(bases)), 5.0), layout="constrained")
    axes = figure.subplots()
    ticks = []
    for place, base in enumerate(bases):
        for number, (train, test) in enumerate(SETTINGS):
            x = place + (number - 1.5) * (_WIDTH + 0.015)
            ticks.append((x, str(number + 1)))
            values = by_seed(rows, ("results", test, kind), base=base, train=train)
            hatch = "" if test == "full" else "////"
            _bar(axes, x, values, _WIDTH, color=_TRAINED[train], hatch=hatch)
        axes.text(
            place,
            -0.085,
            base_label(base),
            ha="center",
            va="top",
            size=11,
            transform=axes.get_xaxis_transform(),
        )
    axes.set_xticks([x for x, _ in ticks], [label for _, label in ticks])
    axes.set_xlim(-0.5, len(bases) - 0.5)
    _percent([axes], kind)
    filler = f" (foregrounds: background {study['filler']})" if "filler" in study else ""
    shown = "" if arm == "plain" else f", {arm_label(arm)}"
    figure.suptitle(
        f"Trained and tested on full images or on foregrounds only{shown}\n"
        f"({judged_by(study, kind)})",
        size=12,
        color=INK,
    )
    axes.set_xlabel(f"setting and base method{filler}", size=10, labelpad=26)
    keys = [
        Patch(
            facecolor=_TRAINED[train],
            edgecolor=INK,
            hatch="" if test == "full" else "////",
            label=f"{number}: train {train}, test {test}",
        )
        for number, (train, test) in enumerate(SETTINGS, 1)
    ]
    handles = [*keys, seed_key("one seed; bar and line: mean ± sd")]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure


def base_against_msr(study: Mapping[str, Any], *, kind: Kind = "linear") -> Figure:
    """Base method beside base + MSR, trained on full images: mean, deviation, every seed.

    A line joins the two runs of one seed; below stands their mean difference with its interval.

    Args:
        study: What ``study.json`` of four settings holds.
        kind: Which classifier.

    Raises:
        IclmsrError: The study has no run on full images.

    Source: Qiang et al. 2022, figure of base against ICL-MSR. Departure: spread and seeds.
    """
    rows: list[Row] = [row for row in study["rows"] if row["train"] == "full"]
    bases = bases_of(rows)
    if not bases:
        raise IclmsrError("the study has no run trained on full images: nothing to draw")
    figure = Figure(figsize=(max(7.6, 2.4 + 3.1 * len(bases)), 4.8), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    looks = {"plain": ("#b8b8b8", ""), "msr": (BLUE, "////")}
    for axes, test in zip(panels, ("full", "foreground"), strict=True):
        path = ("results", test, kind)
        seen = "full images" if test == "full" else "foregrounds"
        labels = []
        for place, base in enumerate(bases):
            known = {arm: by_seed(rows, path, base=base, arm=arm) for arm in looks}
            ends = {}
            for side, (arm, (color, hatch)) in zip((-1, 1), looks.items(), strict=True):
                x = place + 0.2 * side
                _bar(axes, x, known[arm], 0.36, color=color, hatch=hatch, dots=False)
                ends[arm] = x + 0.07 * side
            for seed in sorted(known["plain"].keys() | known["msr"].keys()):
                both = [arm for arm in looks if seed in known[arm]]
                seeds(
                    axes,
                    [ends[arm] for arm in both],
                    [known[arm][seed] for arm in both],
                    joined=True,
                )
            found = against(rows, path, "msr", "plain", base=base)
            text = base_label(base)
            if found is not None:
                ends_text = (
                    "" if found.interval is None else "\n[{:+.1f}, {:+.1f}]".format(*found.interval)
                )
                text += f"\n{found.mean:+z.1f} points{ends_text}"
            labels.append(text)
        axes.set_xticks(range(len(bases)), labels)
        axes.set_xlabel("each pair: MSR less plain, mean [95 % interval]", size=9, labelpad=6)
        axes.set_xlim(-0.6, len(bases) - 0.4)
        axes.set_title(f"trained on full images, tested on {seen}", size=11)
    _percent(panels, kind)
    title = f"Base method against base method with MSR ({judged_by(study, kind)})"
    figure.suptitle(title, size=12, color=INK)
    keys = [
        Patch(facecolor=color, edgecolor=INK, hatch=hatch, label=arm_label(arm))
        for arm, (color, hatch) in looks.items()
    ]
    pairs = seed_key("one seed, with and without MSR; bar and line: mean ± sd")
    figure.legend(
        handles=[*keys, pairs], loc="outside lower center", ncols=3, frameon=False, fontsize=9
    )
    return figure


def variants_strip(variants: Mapping[str, Tensor], *, title: str = "") -> Figure:
    """A few images under each variant of ImageNet-9, one image a row.

    Args:
        variants: (M, 3, H, W) uint8 of the same M images by variant, in the order to show.
        title: What the images are; empty for none.

    Raises:
        IclmsrError: No variant, or another number of images in one of them.

    Source: Xiao et al. 2020, figure 1. Departure: none.
    """
    counts = {len(images) for images in variants.values()}
    if len(counts) != 1 or counts == {0}:
        raise IclmsrError(f"the strip needs the same images in each variant, got {sorted(counts)}")
    (count,) = counts
    figure = Figure(figsize=(1.25 * len(variants), 1.25 * count + 0.75), layout="constrained")
    panels = figure.subplots(count, len(variants), squeeze=False)
    for column, (name, images) in enumerate(variants.items()):
        panels[0][column].set_title(VARIANT_LABELS.get(name, name), size=9, color=INK)
        for row in range(count):
            show_image(panels[row][column], images[row])
    if title:
        figure.suptitle(title, size=11, color=INK)
    return figure


def _bar(
    axes: Axes,
    x: float,
    values: Mapping[int, float],
    width: float,
    *,
    color: str,
    hatch: str,
    dots: bool = True,
) -> None:
    """The mean as a bar with its number, the deviation as a line, every seed as a dot."""
    if not values:
        return
    found = summary(list(values.values()))
    axes.bar(x, found.mean, width, color=color, hatch=hatch, edgecolor=INK, linewidth=0.7)
    if found.sd is not None:
        axes.errorbar(x, found.mean, found.sd, color=INK, capsize=3, linewidth=1.2, zorder=3)
    if dots:
        seeds(axes, spread(x, len(values), 0.6 * width), list(values.values()))
    axes.annotate(
        f"{found.mean:.1f}",
        (x, max(*values.values(), found.mean + (found.sd or 0), 0)),
        xytext=(0, 4),
        textcoords="offset points",
        ha="center",
        size=8,
    )


def _percent(panels: Sequence[Axes], kind: Kind) -> None:
    """The axis of an accuracy, from 0, that panels share."""
    panels[0].set_ylabel(f"top-1 accuracy of the {CLASSIFIERS[kind]} (%)", size=10)
    panels[0].set_ylim(0, min(108.0, 1.12 * max(1, *(axes.dataLim.y1 for axes in panels))))
    for axes in panels:
        settle(axes, grid="y")
        axes.tick_params(axis="x", length=0)
