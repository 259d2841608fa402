# SPDX-License-Identifier: Apache-2.0
from itertools import product

import numpy as np
import pytest
from scipy import stats

from iclmsr.errors import IclmsrError
from iclmsr.study.statistics import bootstrap_interval, paired, sign_flip_p, summary

VALUES = [1.3, -0.4, 2.2, 0.9, 3.1]


def test_mean_and_deviation_by_hand():
    assert summary([2.0, 4.0, 9.0]) == (3, 5.0, pytest.approx(13**0.5))
    assert summary([7.5]) == (1, 7.5, None)


@pytest.mark.parametrize("values", [VALUES, VALUES[:3], VALUES[1:]])
def test_interval_against_all_resamples(values):
    means = [np.mean(drawn) for drawn in product(values, repeat=len(values))]
    found = bootstrap_interval(values, level=0.8)
    spread = max(values) - min(values)
    assert found == pytest.approx(np.quantile(means, [0.1, 0.9]), abs=0.04 * spread)


def test_interval_against_scipy():
    known = stats.bootstrap(
        (VALUES,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert bootstrap_interval(VALUES) == pytest.approx((known.low, known.high), abs=0.06)


def test_interval_depends_on_its_arguments_only():
    assert bootstrap_interval(VALUES) == bootstrap_interval(VALUES)
    assert bootstrap_interval(VALUES, resamples=50) != bootstrap_interval(
        VALUES, resamples=50, seed=1
    )
    low, high = bootstrap_interval(VALUES, level=0.5)
    assert bootstrap_interval(VALUES)[0] < low < high < bootstrap_interval(VALUES)[1]


def test_p_by_hand():
    assert sign_flip_p([1.0] * 5) == 2 / 32
    assert sign_flip_p([2.0, -1.0]) == 1.0  # |1| against 1, 3, 3, 1
    assert sign_flip_p([3.0, 2.0, -1.0]) == 0.5  # 4 against 4, 6, 0, 2, and their negatives
    assert sign_flip_p([0.1, 0.2, -0.3]) == 1.0  # the sum is 0 on paper only
    assert sign_flip_p([0.0, 0.0]) == 1.0


@pytest.mark.parametrize("seed", range(4))
def test_p_against_scipy(seed):
    values = np.random.default_rng(seed).normal(0.5, 1, 7)
    known = stats.permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=np.inf
    )
    assert sign_flip_p(values.tolist()) == pytest.approx(known.pvalue)


def test_above_20_differences_signs_are_drawn(monkeypatch):
    values = np.random.default_rng(0).normal(0.4, 1, 21).tolist()
    drawn = sign_flip_p(values)
    assert drawn == sign_flip_p(values)
    assert sign_flip_p([1.0] * 40) == 1 / 100_001
    assert paired(dict(enumerate(values)), dict.fromkeys(range(21), 0.0)).p == drawn
    monkeypatch.setattr("iclmsr.study.statistics.MOST_SIGNS", 21)
    assert drawn == pytest.approx(sign_flip_p(values), abs=0.005)
    assert drawn > 0.02


def test_differences_go_by_seed():
    found = paired({4: 60.0, 1: 70.0, 9: 1.0, 2: 50.0}, {1: 68.0, 2: 51.0, 4: 60.0, 3: 99.0})
    assert found.differences == {1: 2.0, 2: -1.0, 4: 0.0}
    assert (found.mean, found.more, found.less) == (pytest.approx(1 / 3), 1, 1)
    assert found.interval == bootstrap_interval([2.0, -1.0, 0.0])
    assert found.p == sign_flip_p([2.0, -1.0, 0.0])
    assert paired({0: 3.0}, {0: 1.0})[1:] == (2.0, None, 1, 0, 1.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: summary([]), "at least one value, got none"),
        (lambda: summary([1.0, float("nan")]), "finite values, got [1.0, nan]"),
        (lambda: paired({0: 1.0}, {1: 1.0}), "a common seed, got [0] and [1]"),
        (lambda: bootstrap_interval([1.0], level=1.0), "level must be in (0, 1), got 1.0"),
        (lambda: bootstrap_interval([1.0], resamples=0), "resamples must be >= 1, got 0"),
        (lambda: sign_flip_p([]), "at least one value, got none"),
    ],
)
def test_what_cannot_be_computed(call, message):
    with pytest.raises(IclmsrError) as caught:
        call()
    assert message in str(caught.value)
