# SPDX-License-Identifier: Apache-2.0
import pytest

from iclmsr.errors import IclmsrError
from iclmsr.evaluate.protocol import FewLabelConfig, LinearProbeConfig, LogisticProbeConfig


def test_defaults_are_the_protocol():
    config = LinearProbeConfig()
    assert (config.epochs, config.batch_size) == (500, 1000)
    assert (config.lr, config.last_lr, config.weight_decay) == (1e-2, 1e-6, 5e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "linear-probe.epochs must be >= 1, got 0"),
        ({"batch_size": 0}, "linear-probe.batch-size must be >= 1, got 0"),
        ({"lr": 0.0}, "lr must be > 0 and finite, got 0.0"),
        ({"lr": float("inf")}, "got inf"),
        ({"last_lr": 0.1}, r"last-lr must be in \(0, lr\] = \(0, 0.01\], got 0.1"),
        ({"last_lr": 0.0}, "got 0.0"),
        ({"weight_decay": -1e-6}, "weight-decay must be >= 0 and finite, got -1e-06"),
        ({"weight_decay": float("nan")}, "got nan"),
    ],
)
def test_errors(change, message):
    with pytest.raises(IclmsrError, match=message) as caught:
        LinearProbeConfig(**change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        (LogisticProbeConfig, {"penalties": ()}, "penalties must be > 0 and finite, at least one"),
        (LogisticProbeConfig, {"penalties": (1.0, 0.0)}, r"got \(1.0, 0.0\)"),
        (LogisticProbeConfig, {"validation": 1.0}, r"validation must be in \(0, 1\), got 1.0"),
        (LogisticProbeConfig, {"tolerance": 0.0}, r"tolerance must be in \(0, 1\), got 0.0"),
        (LogisticProbeConfig, {"max_iterations": 0}, "max-iterations must be >= 1, got 0"),
        (FewLabelConfig, {"shares": (0.1, 1.5)}, r"shares must be in \(0, 1\], got 1.5"),
        (FewLabelConfig, {"draws": 0}, "few-labels.draws must be >= 1, got 0"),
    ],
)
def test_errors_of_the_others(kind, change, message):
    with pytest.raises(IclmsrError, match=message):
        kind(**change)
