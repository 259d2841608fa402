# SPDX-License-Identifier: Apache-2.0
import csv
from dataclasses import replace
from pathlib import Path

import pytest

from iclmsr import paper
from iclmsr.data.sources import load
from iclmsr.errors import IclmsrError
from iclmsr.methods import METHODS
from iclmsr.optim import learning_rate
from iclmsr.recipes import RECIPES, recipe

DATASETS = ("cifar10", "cifar100", "stl10", "tiny-imagenet")


@pytest.mark.parametrize("dataset", [*DATASETS, "synthetic"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_on_every_data_set_with_and_without_msr(method, dataset):
    plain = recipe(f"{method}-{dataset}")
    regularized = recipe(f"{method}-msr-{dataset}")
    assert plain.config.method.name == method
    assert plain.config.data.source == dataset
    assert not plain.config.msr.enabled
    assert regularized.config == replace(
        plain.config,
        recipe=regularized.config.recipe,
        msr=replace(plain.config.msr, enabled=True),
    )


def test_expectations_are_the_papers():
    """Every number of the table is the expectation of one recipe, and none is made up."""
    table = Path(paper.__file__).with_name("paper-table.csv").read_text()
    for row in csv.DictReader(table.splitlines()):
        method = row["base"].lower().replace("ressl", "ressl-native")
        msr = "msr-" if row["regularizer"] else ""
        expected = f"{row['linear_top1']} / {row['knn5_top1']}"
        assert recipe(f"{method}-{msr}{row['dataset']}").expected == expected
    assert len(paper.TABLE) == 44
    for name in ("w-mse-msr-cifar10", "ssl-hsic-msr-stl10", "relic-msr-cifar100", "dino-cifar10"):
        assert recipe(name).expected == "not reported"


@pytest.mark.parametrize(
    ("dataset", "epochs", "lr", "dim", "size", "stem", "view"),
    [
        ("cifar10", 1000, 3e-3, 64, 32, "cifar", 32),
        ("cifar100", 1000, 3e-3, 64, 32, "cifar", 32),
        ("stl10", 2000, 2e-3, 128, 96, "small", 64),
        ("tiny-imagenet", 1000, 2e-3, 128, 64, "small", 64),
    ],
)
def test_the_shared_protocol(dataset, epochs, lr, dim, size, stem, view):
    for method in METHODS:
        config = recipe(f"{method}-{dataset}").config
        assert (config.epochs, config.optimizer.lr) == (epochs, lr)
        assert (config.data.image_size, config.views.size) == (size, view)
        assert config.encoder.stem == stem
        assert method == "dino" or config.method.embedding_dim == dim
        assert config.batch_size * config.view_count == 1024
        assert config.views.blur == 0
        assert config.views.weak == ((1,) if method == "ressl" else ())
        assert config.optimizer.weight_decay == 1e-6
    assert recipe(f"w-mse-{dataset}").config.view_count == 4
    assert recipe(f"w-mse-{dataset}").config.method.sub_batch == 2 * dim


@pytest.mark.parametrize(
    ("dataset", "queue", "decay", "steps"),
    [
        ("cifar10", 4096, 0.99, 195),
        ("stl10", 16384, 0.996, 410),
        ("tiny-imagenet", 16384, 0.996, 390),
    ],
)
def test_ressl_in_its_authors_own_protocol(dataset, queue, decay, steps):
    config = recipe(f"ressl-native-{dataset}").config
    method, views = config.method, config.views
    assert (method.hidden_dim, method.embedding_dim, method.bn_splits) == (2048, 128, 8)
    assert (method.queue_size, method.target_decay) == (queue, decay)
    assert (method.student_temperature, method.teacher_temperature) == (0.1, 0.04)
    assert (config.epochs, config.batch_size) == (200, 256)
    assert (views.interpolation, views.blur, views.blur_sigma) == ("bilinear", 0.5, (0.1, 2.0))
    assert (views.grayscale, views.jitter, views.crop_first, views.weak) == (
        *(0.2, (0.4, 0.4, 0.4, 0.1), True, (1,)),
    )
    optimizer = config.optimizer
    assert (optimizer.name, optimizer.lr, optimizer.weight_decay) == ("sgd", 0.06, 5e-4)
    rate = {"steps_per_epoch": steps, "epochs": 200}
    assert learning_rate(optimizer, 5 * steps, **rate) == pytest.approx(0.06)
    assert learning_rate(optimizer, 5 * steps // 2, **rate) == pytest.approx(0.03, rel=0.01)
    assert learning_rate(optimizer, 200 * steps - 1, **rate) < 1e-6
    shared = recipe(f"ressl-wmse-{dataset}").config
    assert (shared.method.queue_size, shared.method.target_decay) == (queue, decay)
    assert shared.method.bn_splits == 1


def test_other_spellings():
    assert recipe("ressl_native_cifar10") is recipe("ressl-native-cifar10")
    assert recipe("ressl-msr-cifar10") is recipe("ressl-wmse-msr-cifar10")
    with pytest.raises(IclmsrError, match="unknown recipe 'byol-cifar'.*byol-cifar10"):
        recipe("byol-cifar")


def test_costs_count_views():
    assert recipe("simclr-cifar10").cost == "1000 epochs of 97 steps, 99 M views"
    assert recipe("w-mse-cifar10").cost == "1000 epochs of 195 steps, 200 M views"
    assert recipe("ressl-native-msr-cifar10").cost == (
        "200 epochs of 195 steps, 10.0 M views, 10 M through the target; "
        "stage 2 on 10% of the batches"
    )


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_data_set_has_a_reader(dataset):
    data = recipe(f"byol-{dataset}").config.data
    with pytest.raises(IclmsrError, match="data.root is not set"):
        load(data, "train")
    assert (data.evaluate_resize, data.evaluate_crop) == (
        (70, 64) if dataset == "stl10" else (None, None)
    )


def test_recipe_names_are_the_configs_labels():
    assert all(name == known.config.recipe for name, known in RECIPES.items())
    assert len(RECIPES) == len(METHODS) * 5 * 2 + 4 * 2
