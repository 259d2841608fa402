# SPDX-License-Identifier: Apache-2.0
"""How good an encoder is: features extracted once, then judged by pure functions of arrays."""

from iclmsr.evaluate.judge import evaluate, features_of, judge_features, report_path
from iclmsr.evaluate.settings import PROTOCOL, EvaluateConfig
from iclmsr.evaluate.table import show

__all__ = [
    "PROTOCOL",
    "EvaluateConfig",
    "evaluate",
    "features_of",
    "judge_features",
    "report_path",
    "show",
]
