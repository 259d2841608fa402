# SPDX-License-Identifier: Apache-2.0
"""Named configs as values: where each comes from, what it costs, what to expect of it.

``METHOD-DATASET`` is the shared protocol of the paper's table, ``METHOD-msr-DATASET`` the same
with the regularizer. ReSSL comes as ``ressl-wmse``, in that protocol, and as ``ressl-native``, in
its authors' own, which the table quotes. ``METHOD-synthetic`` runs on embedded data.
"""

from dataclasses import dataclass, replace

from iclmsr import paper
from iclmsr.config import MSRConfig, PretrainConfig
from iclmsr.data.sources import DataConfig
from iclmsr.data.views import ViewConfig
from iclmsr.errors import IclmsrError, nearest
from iclmsr.methods import METHODS, MethodConfig
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


@dataclass(frozen=True)
class _Benchmark:
    """A data set of the paper's table, and what depends on it."""

    images: int  # to pretrain on
    image_size: int
    view_size: int
    epochs: int
    lr: float
    embedding_dim: int
    queue_size: int
    queue_decay: float  # of ReSSL's teacher
    norm: tuple[tuple[float, float, float], tuple[float, float, float]]
    native_norm: tuple[tuple[float, float, float], tuple[float, float, float]] | None = None
    evaluate: tuple[int | None, int | None] = (None, None)  # resize, then centre crop


_CIFAR10_NORM = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
_CIFAR100_NORM = ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))
_BENCHMARKS = {
    "cifar10": _Benchmark(50_000, 32, 32, 1000, 3e-3, 64, 4096, 0.99, _CIFAR10_NORM),
    "cifar100": _Benchmark(50_000, 32, 32, 1000, 3e-3, 64, 4096, 0.99, _CIFAR100_NORM),
    "stl10": _Benchmark(
        *(105_000, 96, 64, 2000, 2e-3, 128, 16384, 0.996),
        norm=((0.43, 0.42, 0.39), (0.27, 0.26, 0.27)),
        native_norm=((0.4408, 0.4279, 0.3867), (0.2682, 0.2610, 0.2686)),
        evaluate=(70, 64),
    ),
    "tiny-imagenet": _Benchmark(
        *(100_000, 64, 64, 1000, 2e-3, 128, 16384, 0.996),
        norm=((0.480, 0.448, 0.398), (0.277, 0.269, 0.282)),
        native_norm=((0.4802, 0.4481, 0.3975), (0.2302, 0.2265, 0.2262)),
    ),
}

_SHARED_SOURCE = {
    "simclr": "protocol of the W-MSE paper (Ermolov et al. 2021)",
    "byol": "protocol of the W-MSE paper",
    "w-mse": "W-MSE paper, 4 views",
    "ressl": "protocol of the W-MSE paper, ReSSL's views, queue and temperatures",
    "lmcl": "protocol of the W-MSE paper; thresholds and weight are ours",
    "ssl-hsic": "protocol of the W-MSE paper, SSL-HSIC's loss, BYOL's heads",
    "relic": "protocol of the W-MSE paper; temperature and weight are ours",
}
_RERUN = {  # by the authors of ACT, who keep every setting of the W-MSE paper
    ("barlow-twins", "cifar10"): "87.76 / 86.66, others' re-run",
    ("barlow-twins", "cifar100"): "61.64 / 55.94, others' re-run",
    ("barlow-twins", "tiny-imagenet"): "41.80 / 33.60, others' re-run",
    ("vicreg", "cifar10"): "86.76 / 83.70, others' re-run",
    ("vicreg", "cifar100"): "57.13 / 44.63, others' re-run",
    ("vicreg", "tiny-imagenet"): "40.04 / 30.46, others' re-run",
}


def _with_msr(recipe: Recipe, expected: str) -> Recipe:
    """The same run with the regularizer switched on."""
    config = recipe.config
    label, _, data = config.recipe.partition(f"-{config.data.source}")
    name = f"{label}-msr-{config.data.source}{data}"
    msr = replace(config.msr, enabled=True)
    share = 1 / msr.every_steps if msr.schedule == "interleaved" else msr.fraction
    cost = f"{recipe.cost}; stage 2 on {share:.0%} of the batches"
    return Recipe(replace(config, recipe=name, msr=msr), recipe.source, cost, expected)


def _cost(config: PretrainConfig, images: int) -> str:
    """Epochs, steps and how many views pass through which networks."""
    steps = images // config.batch_size
    seen = config.epochs * steps * config.batch_size / 1e6
    follows = hasattr(config.method, "target_decay")
    online = seen * (config.view_count - len(config.views.weak))
    target = seen * (len(config.views.weak) or config.view_count)
    views = f"{online:.0f} M views" if online >= 10 else f"{online:.1f} M views"
    more = f", {target:.0f} M through the target" if follows and target >= 1 else ""
    return f"{config.epochs} epochs of {steps} steps, {views}{more}"


def _expected(method: str, msr: bool, dataset: str) -> str:
    """What the paper's table says, or else what is known."""
    known = paper.TABLE.get((method, msr, dataset))
    if known is not None:
        return f"{known.linear:.2f} / {known.knn:.2f}"
    return "not reported" if msr else _RERUN.get((method, dataset), "not reported")


def _method(name: str, benchmark: _Benchmark) -> MethodConfig:
    """A method with the sizes of the shared protocol."""
    dim = benchmark.embedding_dim
    if name == "w-mse":
        return METHODS[name](embedding_dim=dim, sub_batch=2 * dim)
    if name == "ressl":
        queue, decay = benchmark.queue_size, benchmark.queue_decay
        return METHODS[name](embedding_dim=dim, queue_size=queue, target_decay=decay)
    if name == "dino":
        return METHODS[name]()
    return METHODS[name](embedding_dim=dim)


def _base(dataset: str) -> PretrainConfig:
    """What the two protocols share on a data set."""
    known = _BENCHMARKS[dataset]
    mean, std = known.norm
    return PretrainConfig(
        encoder=EncoderConfig(stem="cifar" if known.view_size == 32 else "small"),
        data=DataConfig(
            source=dataset,
            image_size=known.image_size,
            mean=mean,
            std=std,
            evaluate_resize=known.evaluate[0],
            evaluate_crop=known.evaluate[1],
        ),
        views=ViewConfig(size=known.view_size),
    )


def _shared(name: str, dataset: str) -> Recipe:
    """A method in the protocol of the paper's table."""
    known = _BENCHMARKS[dataset]
    label = "ressl-wmse" if name == "ressl" else name
    config = replace(
        _base(dataset),
        recipe=f"{label}-{dataset}",
        epochs=known.epochs,
        method=_method(name, known),
        optimizer=OptimizerConfig(lr=known.lr),
    )
    if name == "w-mse":
        config = replace(config, batch_size=256, view_count=4)
    if name == "ressl":
        config = replace(config, views=replace(config.views, weak=(1,)))
    source = _SHARED_SOURCE.get(name, "protocol of the W-MSE paper, the method's own loss")
    expected = "not reported" if name == "ressl" else _expected(name, False, dataset)
    return Recipe(config, source, _cost(config, known.images), expected)


def _ressl_native(dataset: str) -> Recipe:
    """ReSSL in its authors' own protocol for small images, which the paper's table quotes."""
    known = _BENCHMARKS[dataset]
    base = _base(dataset)
    mean, std = known.native_norm or known.norm
    config = replace(
        base,
        recipe=f"ressl-native-{dataset}",
        epochs=200,
        batch_size=256,
        method=METHODS["ressl"](
            hidden_dim=2048,
            embedding_dim=128,
            queue_size=known.queue_size,
            target_decay=known.queue_decay,
            bn_splits=8,
        ),
        data=replace(base.data, mean=mean, std=std),
        views=replace(
            base.views,
            interpolation="bilinear",
            grayscale=0.2,
            blur=0.5,
            crop_first=True,
            weak=(1,),
        ),
        optimizer=OptimizerConfig(
            name="sgd",
            lr=0.06,
            weight_decay=5e-4,
            warmup_steps=5 * (known.images // 256),
            schedule="cosine",
        ),
    )
    source = "ReSSL's authors (Zheng et al. 2021), settings for small images"
    return Recipe(config, source, _cost(config, known.images), _expected("ressl", False, dataset))


def _synthetic(name: str) -> Recipe:
    """A method on embedded data, small enough for a laptop."""
    sizes: dict[str, int | float] = {"hidden_dim": 256}
    if name in ("simclr", "lmcl", "relic"):
        sizes["temperature"] = 0.2
    if name == "dino":
        sizes["embedding_dim"] = 256
    config = PretrainConfig(
        recipe=f"{name}-synthetic",
        epochs=22,
        batch_size=128,
        precision="bf16",
        log_every=10,
        method=METHODS[name](**sizes),
        encoder=EncoderConfig(stem="small", width=16),
        data=DataConfig(source="synthetic", mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
        # Colour is random in every image; jittered hard, it stops being the easiest way to tell
        # them.
        views=ViewConfig(
            crop_scale=(0.6, 1.0),
            jitter=(0.8, 0.8, 0.8, 0.5),
            jitter_probability=1.0,
            grayscale=0.5,
            weak=(1,) if name == "ressl" else (),
        ),
        optimizer=OptimizerConfig(warmup_steps=40, schedule="cosine"),
        msr=MSRConfig(every_steps=20),
    )
    cost = f"{_cost(config, config.data.synthetic.train)}, about two minutes on 2 CPU cores"
    return Recipe(config, "ours, small enough for a laptop", cost, "see docs/methods.md")


def _all() -> dict[str, Recipe]:
    """Every recipe by its name, each beside the same with MSR."""
    found: list[Recipe] = []
    for dataset in _BENCHMARKS:
        for name in METHODS:
            shared = _shared(name, dataset)
            unknown = "not reported" if name == "ressl" else _expected(name, True, dataset)
            found += [shared, _with_msr(shared, unknown)]
            if name == "ressl":
                native = _ressl_native(dataset)
                found += [native, _with_msr(native, _expected(name, True, dataset))]
    for name in METHODS:
        small = _synthetic(name)
        found += [small, _with_msr(small, small.expected)]
    return {recipe.config.recipe: recipe for recipe in found}


RECIPES = _all()


def recipe(name: str) -> Recipe:
    """The recipe called ``name``; underscores count as dashes, ``ressl`` as ``ressl-wmse``.

    Raises:
        IclmsrError: There is none; names the nearest.

    >>> recipe("simclr-msr-cifar10").config.msr.enabled
    True
    """
    plain = name.replace("_", "-")
    for known in (plain, plain.replace("ressl-", "ressl-wmse-", 1)):
        if known in RECIPES:
            return RECIPES[known]
    raise IclmsrError(f"unknown recipe {name!r}: {nearest(name, RECIPES)}")
