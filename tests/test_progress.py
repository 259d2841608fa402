# SPDX-License-Identifier: Apache-2.0
import io
import re

from rich.console import Console

from iclmsr.progress import RunProgress

LOSSES = {"loss": 4.5, "contrastive": 4.0}
HEALTH = {"embedding_std": 0.987, "effective_rank": 12.34, "saturated": 0.25}


def shown(terminal: bool) -> str:
    file = io.StringIO()
    console = Console(
        file=file, force_terminal=terminal, width=160, soft_wrap=True, highlight=False
    )
    with RunProgress(epochs=2, updates=8, done=2, console=console) as progress:
        for _ in range(2):
            progress.update(0, LOSSES, 123.4)
        progress.epoch(0, LOSSES, 123.4, HEALTH)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", file.getvalue())


def test_without_a_terminal_one_plain_line_an_epoch():
    (line,) = shown(terminal=False).splitlines()
    assert line.startswith("epoch 1/2  loss 4.500  contrastive 4.000  123 images/s  ETA 0:00:0")
    assert line.endswith("spread 0.99  rank 12.3  saturated 25 %")


def test_a_terminal_has_a_bar_with_losses_speed_and_remaining_time():
    text = shown(terminal=True)
    bar = next(line for line in text.splitlines() if "50%" in line)  # 4 of 8 updates
    for part in ("epoch 1/2", "━", "loss 4.500", "contrastive 4.000", "123 images/s", "ETA"):
        assert part in bar
