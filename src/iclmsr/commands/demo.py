# SPDX-License-Identifier: Apache-2.0
"""``iclmsr demo``: the main job on embedded data."""

from pathlib import Path

from iclmsr.options import asks_help, out_option, usage


def demo_command(words: list[str]) -> None:
    """Pretrain SimCLR + MSR on embedded data, evaluate it, draw a picture.

    usage: iclmsr demo [--out RUN]

    Downloads nothing; a few minutes on two CPU cores. RUN is runs/demo unless given.
    """
    if asks_help(words):
        print(usage(demo_command))
        return
    out = out_option(words, Path("runs/demo"))

    from iclmsr.demo import demo

    demo(out)
