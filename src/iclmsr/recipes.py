# SPDX-License-Identifier: Apache-2.0
"""Named configs as values: where each comes from, what it costs, what to expect of it."""

from dataclasses import dataclass, replace

from iclmsr.config import MSRConfig, PretrainConfig
from iclmsr.data.sources import DataConfig
from iclmsr.data.views import ViewConfig
from iclmsr.errors import IclmsrError, nearest
from iclmsr.methods.simclr import SimCLRConfig
from iclmsr.networks import EncoderConfig
from iclmsr.optim import OptimizerConfig


@dataclass(frozen=True)
class Recipe:
    """A config with its papers.

    Attributes:
        config: Everything that the run needs but where the data lie.
        source: Where the settings come from.
        cost: What a full run takes.
        expected: Linear / 5-nn top-1 in percent that the source reports, or what is known.
    """

    config: PretrainConfig
    source: str
    cost: str
    expected: str


def _with_msr(config: PretrainConfig) -> PretrainConfig:
    """The same run with the regularizer switched on."""
    name = config.recipe.replace(config.method.name, f"{config.method.name}-msr", 1)
    return replace(config, recipe=name, msr=replace(config.msr, enabled=True))


_SIMCLR_CIFAR10 = PretrainConfig(recipe="simclr-cifar10")

_SIMCLR_SYNTHETIC = PretrainConfig(
    recipe="simclr-synthetic",
    epochs=22,
    batch_size=128,
    precision="bf16",
    log_every=10,
    method=SimCLRConfig(temperature=0.2, hidden_dim=256, embedding_dim=64),
    encoder=EncoderConfig(stem="small", width=16),
    data=DataConfig(source="synthetic", mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
    # Colour is random in every image; jittered hard, it stops being the easiest way to tell them.
    views=ViewConfig(
        crop_scale=(0.6, 1.0), jitter=(0.8, 0.8, 0.8, 0.5), jitter_probability=1.0, grayscale=0.5
    ),
    optimizer=OptimizerConfig(warmup_steps=40, schedule="cosine"),
    msr=MSRConfig(fraction=0.05),
)

_W_MSE_TABLE = "W-MSE paper's protocol (Ermolov et al. 2021), ICL-MSR's table"
_FULL_COST = "1000 epochs of 97 steps, 99 M views: a GPU; 19 days on 2 CPU cores"

RECIPES: dict[str, Recipe] = {
    recipe.config.recipe: recipe
    for recipe in (
        Recipe(_SIMCLR_CIFAR10, _W_MSE_TABLE, _FULL_COST, "91.80 / 88.42"),
        Recipe(
            _with_msr(_SIMCLR_CIFAR10),
            _W_MSE_TABLE,
            _FULL_COST + ", stage 2 on top",
            "92.34 / 89.47",
        ),
        Recipe(
            _SIMCLR_SYNTHETIC,
            "ours, small enough for a laptop",
            "a minute on 2 CPU cores",
            "see docs/demo.md",
        ),
        Recipe(
            _with_msr(_SIMCLR_SYNTHETIC),
            "ours, small enough for a laptop",
            "two minutes on 2 CPU cores",
            "see docs/demo.md",
        ),
    )
}


def recipe(name: str) -> Recipe:
    """The recipe called ``name``.

    Raises:
        IclmsrError: There is none; names the nearest.

    >>> recipe("simclr-msr-cifar10").config.msr.enabled
    True
    """
    if name not in RECIPES:
        raise IclmsrError(f"unknown recipe {name!r}: {nearest(name, RECIPES)}")
    return RECIPES[name]
