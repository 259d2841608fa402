# SPDX-License-Identifier: Apache-2.0
"""The setting that a sweep varies: a field of the config, its values, and who reads it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from iclmsr.config import MSRConfig, PretrainConfig, decode, encode
from iclmsr.errors import IclmsrError, nearest


class Needs(NamedTuple):
    """A setting of ``msr`` is read only where another one has one of these values."""

    other: str
    values: tuple[str, ...]


_STAGE_TWO = Needs("learnt", ("stage-2",))
_READ_BY: dict[str, Needs] = {
    "fraction": Needs("schedule", ("epoch",)),
    "every_steps": Needs("schedule", ("interleaved",)),
    "hidden_dim": Needs("source", ("features", "features-attached")),
    "cosine_every": Needs("engine", ("free",)),
    "difference_step": Needs("engine", ("auto", "difference")),
    "difference_sides": Needs("engine", ("auto", "difference")),
    "lr": Needs("learnt", ("stage-2", "jointly")),
    "optimizer": Needs("learnt", ("stage-2", "jointly")),
}
_OF_STAGE_TWO = (
    "diversity_weight", "inner_lr", "inner_step", "outer_batch", "engine", "average", "images",
    "schedule", "start_epoch", "fraction", "every_steps", "cosine_every", "difference_step",
    "difference_sides",
)  # fmt: skip


def with_field(config: PretrainConfig, axis: str, value: Any) -> PretrainConfig:
    """The config with the field that ``axis`` names set to a value.

    Args:
        config: Any.
        axis: As on the command line: names joined by dots, dashes for underscores.
        value: What it is set to.

    Raises:
        IclmsrError: No such field, or a value that it does not take.

    >>> with_field(PretrainConfig(), "msr.loss-weight", 3.0).msr.loss_weight
    3.0
    """
    tree = encode(config)
    place = tree
    *groups, last = axis.replace("-", "_").split(".")
    for name in (*groups, last):
        if not isinstance(place, dict) or name not in place:
            known = sorted(place) if isinstance(place, dict) else []
            raise IclmsrError(f"unknown field {axis!r}: {nearest(name, known)}")
        if name is not last:
            place = place[name]
    place[last] = value
    return decode(PretrainConfig, tree)


def swept(config: PretrainConfig, axis: str, values: Sequence[Any]) -> list[PretrainConfig]:
    """One config for each value of an axis, none of them in vain.

    Args:
        config: An arm's run.
        axis: As for :func:`with_field`.
        values: What it is set to.

    Raises:
        IclmsrError: As :func:`with_field`; a field that the run does not read, or that a study
            sets itself; or two values that make the same run.

    >>> [run.msr.strata for run in swept(PretrainConfig(msr=MSRConfig(enabled=True)), "msr.strata",
    ...     [1, 8])]
    [1, 8]
    """
    group, _, field = axis.replace("-", "_").partition(".")
    if axis in ("seed", "recipe"):
        raise IclmsrError(f"a sweep cannot vary {axis}: a study sets it itself")
    configs = [with_field(config, axis, value) for value in values]
    for one in configs:
        if group == "msr":
            _check_read(one.msr, axis, field)
        if field == "background_probability" and one.views.background == "keep":
            raise IclmsrError(f"a sweep of {axis} needs an arm that reads it, as --arms bg-random")
    for place, one in enumerate(configs):
        if one in configs[:place]:
            raise IclmsrError(
                f"--values of {axis} make the same run twice: "
                f"{values[configs.index(one)]!r} and {values[place]!r}"
            )
    return configs


def _check_read(msr: MSRConfig, axis: str, field: str) -> None:
    """Raises unless a run with these settings reads the field."""
    if not msr.enabled:
        raise IclmsrError(f"a sweep of {axis} needs an arm with the regularizer, as --arms msr")
    needs = [_STAGE_TWO] if field in _OF_STAGE_TWO else []
    needs += [_READ_BY[field]] if field in _READ_BY else []
    for other, values in needs:
        known = getattr(msr, other)
        if known not in values:
            raise IclmsrError(
                f"{axis} is not read under msr.{other} {known}: pass --msr.{other} {values[0]}"
                + (", or sweep another arm" if other == "learnt" else "")
            )
