# SPDX-License-Identifier: Apache-2.0
"""How good an encoder is: features extracted once, then judged by pure functions of arrays."""

from iclmsr.evaluate.judge import (
    PROTOCOL,
    EvaluateConfig,
    evaluate,
    features_of,
    judge_features,
    show,
)

__all__ = ["PROTOCOL", "EvaluateConfig", "evaluate", "features_of", "judge_features", "show"]
