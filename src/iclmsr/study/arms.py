# SPDX-License-Identifier: Apache-2.0
"""What is compared: one run's config, changed in one respect."""

from collections.abc import Callable
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

EQUAL_TIME = "plain-equal-time"
"""The base method for as many epochs more as the regularizer's take longer."""


def arm(name: str, config: PretrainConfig, *, time_ratio: float | None = None) -> PretrainConfig:
    """The config of an arm.

    Args:
        name: One of ARMS, or ``plain-equal-time``.
        config: The base method's run, with the settings that the regularizer would have.
        time_ratio: How many times as long an epoch of ``msr`` takes as one of ``plain``; only
            ``plain-equal-time`` reads it.

    Raises:
        IclmsrError: There is no such arm, or no ratio for it.

    >>> arm("msr-one-stratum", PretrainConfig()).msr.strata
    1
    >>> arm("plain-equal-time", PretrainConfig(epochs=20), time_ratio=1.14).epochs
    23
    """
    if name == EQUAL_TIME:
        if time_ratio is None or time_ratio < 1:
            raise IclmsrError(
                f"arm {name} needs --time-ratio >= 1, how many times as long an epoch of msr "
                f"takes as one of plain, got {time_ratio}"
            )
        return replace(_plain(config), epochs=round(config.epochs * time_ratio))
    if name not in ARMS:
        raise IclmsrError(f"unknown arm {name!r}: {nearest(name, [*ARMS, EQUAL_TIME])}")
    return ARMS[name](config)
