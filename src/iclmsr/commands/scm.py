# SPDX-License-Identifier: Apache-2.0
"""``iclmsr scm``: the structural causal model."""

from pathlib import Path

from iclmsr.data.names import printable
from iclmsr.options import asks_help, out_option, usage


def scm_command(words: list[str]) -> None:
    """Print and draw the structural causal model.

    usage: iclmsr scm [--out FILE.png]

    The picture goes to scm.png unless FILE.png is given.
    """
    if asks_help(words):
        print(usage(scm_command))
        return
    out = out_option(words, Path("scm.png"))

    from iclmsr.causal import INSTANCE_DISCRIMINATION, describe, draw

    print(describe(INSTANCE_DISCRIMINATION))
    draw(INSTANCE_DISCRIMINATION, out)
    print(f"wrote {printable(out)}")
