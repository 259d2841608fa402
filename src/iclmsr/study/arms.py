# SPDX-License-Identifier: Apache-2.0
"""What is compared: one run's config, changed in one respect."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from iclmsr.config import MSRConfig, PretrainConfig
from iclmsr.data.backdrops import Background
from iclmsr.errors import IclmsrError, nearest

Arm = Callable[[PretrainConfig], PretrainConfig]


def _plain(config: PretrainConfig) -> PretrainConfig:
    """The base method alone."""
    return replace(config, msr=replace(config.msr, enabled=False))


def _msr(**changes: object) -> Arm:
    """With the regularizer, its settings changed so."""

    def arm(config: PretrainConfig) -> PretrainConfig:
        msr: MSRConfig = replace(config.msr, enabled=True, **changes)  # type: ignore[arg-type]
        return replace(config, msr=msr)

    return arm


def _background(kind: Background) -> Arm:
    """The base method with masks, which exchange backgrounds."""

    def arm(config: PretrainConfig) -> PretrainConfig:
        return replace(_plain(config), views=replace(config.views, background=kind))

    return arm


ARMS: dict[str, Arm] = {
    "plain": _plain,
    "msr": _msr(),
    "msr-frozen": _msr(learnt="never"),
    "msr-joint": _msr(learnt="jointly"),
    "msr-one-stratum": _msr(strata=1),
    "msr-fresh": _msr(outer_batch="fresh"),
    "msr-same": _msr(outer_batch="same"),
    "msr-no-loss": _msr(loss_weight=0.0),
    "bg-remove": _background("remove"),
    "bg-random": _background("random"),
    "bg-swaps": _background("swaps"),
}
"""By name. Without masks: the base method, the regularizer, and its ablations (A_s as it was
drawn; learnt by stage 1 instead of stage 2; one stratum; the outer batch; no L_do, which is the
base method to the bit). With masks: background augmentations."""

EQUAL_TIME = "-equal-time"
"""Ends the name of an arm that is trained for as many epochs more as the regularizer's take
longer: ``plain-equal-time``."""


def arm(name: str, config: PretrainConfig, *, time_ratio: float | None = None) -> PretrainConfig:
    """The config of an arm.

    Args:
        name: One of ARMS, or one with ``-equal-time`` behind it.
        config: The base method's run, with the settings that the regularizer would have.
        time_ratio: How many times as long an epoch of ``msr`` takes as one of ``plain``; only
            an arm at equal time reads it.

    Raises:
        IclmsrError: There is no such arm, or no ratio for it, or one that adds no epoch.

    >>> arm("msr-one-stratum", PretrainConfig()).msr.strata
    1
    >>> arm("plain-equal-time", PretrainConfig(epochs=20), time_ratio=1.14).epochs
    23
    """
    usual = name.removesuffix(EQUAL_TIME)
    if usual not in ARMS:
        raise IclmsrError(f"unknown arm {name!r}: {nearest(name, [*ARMS, 'plain' + EQUAL_TIME])}")
    if usual == name:
        return ARMS[name](config)
    if time_ratio is None or not 1 <= time_ratio < math.inf:
        raise IclmsrError(
            f"arm {name} needs --time-ratio >= 1, how many times as long an epoch of msr "
            f"takes as one of plain, got {time_ratio}"
        )
    epochs = round(config.epochs * time_ratio)
    if epochs == config.epochs:
        raise IclmsrError(
            f"arm {name} needs a --time-ratio that adds an epoch to {config.epochs}, got "
            f"{time_ratio}: leave the arm out, or train for more --epochs"
        )
    return replace(ARMS[usual](config), epochs=epochs)


def named_bases(configs: Sequence[PretrainConfig]) -> dict[str, PretrainConfig]:
    """Base methods by the name that a study calls them by.

    That is the method's, or the recipe's where two are of one method.

    Args:
        configs: Their runs, of one data set; each has its recipe's name.

    Raises:
        IclmsrError: A recipe comes twice, or their data differ in more than mean and deviation.

    >>> from iclmsr.recipes import recipe
    >>> names = ("byol-cifar10", "ressl-wmse-cifar10", "ressl-native-cifar10")
    >>> list(named_bases([recipe(name).config for name in names]))
    ['byol', 'ressl-wmse-cifar10', 'ressl-native-cifar10']
    """
    first = configs[0]
    for config in configs[1:]:
        same = replace(config.data, mean=first.data.mean, std=first.data.std)
        if same != first.data:
            raise IclmsrError(
                f"recipes {first.recipe} and {config.recipe} have other data: a study judges all "
                "on the same, run one for each"
            )
    methods = Counter(config.method.name for config in configs)
    named: dict[str, PretrainConfig] = {}
    for config in configs:
        name = config.method.name if methods[config.method.name] == 1 else config.recipe
        if name in named:
            raise IclmsrError(f"recipe {name} comes twice: name it once")
        named[name] = config
    return named
