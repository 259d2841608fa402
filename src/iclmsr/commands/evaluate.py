# SPDX-License-Identifier: Apache-2.0
"""``iclmsr evaluate``: how good an encoder is."""

from pathlib import Path

from iclmsr.errors import IclmsrError
from iclmsr.options import asks_help, parse_options, usage


def evaluate_command(words: list[str]) -> None:
    """Measure a run's encoder: linear probe and 5-nn accuracy.

    usage: iclmsr evaluate RUN [options below]

    Trains the probe on the training images and tests on the test images of the data that the
    run was pretrained on, or of those that --data... options name; writes RUN/evaluation.json.
    """
    run = Path(words.pop(0)) if words and not words[0].startswith("-") else None
    if asks_help(words):
        print(usage(evaluate_command))
    from iclmsr.evaluate import EvaluateConfig, evaluate, show

    if asks_help(words):
        parse_options(EvaluateConfig, EvaluateConfig(), words)
    if run is None:
        raise IclmsrError("evaluate needs a run folder: iclmsr evaluate RUN")
    config = parse_options(EvaluateConfig, EvaluateConfig.of_run(run), words)
    show(evaluate(run, config))
    print(f"wrote {run / 'evaluation.json'}")
