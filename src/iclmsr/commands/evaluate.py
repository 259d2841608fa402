# SPDX-License-Identifier: Apache-2.0
"""``iclmsr evaluate``: how good an encoder is."""

from iclmsr.data.names import printable
from iclmsr.errors import IclmsrError
from iclmsr.options import Parser, asks_help, parse_options, usage


def evaluate_command(words: list[str]) -> None:
    """Measure an encoder: linear probe and nearest-neighbour accuracy.

    usage: iclmsr evaluate RUN [options below]
           iclmsr evaluate ENCODER --data.source NAME --data.root PATH [options below]

    Trains the probe on the training images and tests on the test images of the data that the
    run was pretrained on, or of those that --data... options name; writes RUN/evaluation.json,
    or RUN/evaluation-SOURCE.json on other data than the run's.
    ENCODER is any that is no run, as timm:MODEL@FILE; mean, std and image size come with it.
    docs/how-to/evaluate.md says which number is worth what, and what each costs.
    """
    source = words.pop(0) if words and not words[0].startswith("-") else None
    if asks_help(words):
        print(usage(evaluate_command))
    from iclmsr.evaluate import EvaluateConfig, evaluate, report_path, show

    if asks_help(words):
        parse_options(EvaluateConfig, EvaluateConfig(), words)
    if source is None:
        raise IclmsrError("evaluate needs a run folder or an encoder: iclmsr evaluate RUN")
    parser = Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("--data.source", dest="data")
    elsewhere = parser.parse_known_args(words)[0].data
    config = parse_options(EvaluateConfig, EvaluateConfig.of(source, elsewhere), words)
    report = evaluate(source, config)
    show(report)
    print(f"wrote {printable(report_path(source, report['encoder']['name'], config))}")
