# SPDX-License-Identifier: Apache-2.0
"""What a person sees of a run: a live bar on a terminal, one plain line an epoch elsewhere."""

import time
from collections.abc import Mapping
from datetime import timedelta
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

WAIT = 0.03
"""A share of an epoch's time above which waiting for data is worth a word."""


class RunProgress:
    """Shows epoch, losses, images/s and remaining time.

    Args:
        epochs: Epochs in the run.
        updates: Updates in the run.
        done: Updates made before this session.
        console: Where to write; standard output by default.
        quiet: Write nothing: another process of the run does.
    """

    def __init__(
        self,
        epochs: int,
        updates: int,
        done: int,
        console: Console | None = None,
        *,
        quiet: bool = False,
    ) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True, quiet=quiet)
        self.epochs, self.updates, self.done = epochs, updates, done
        self.began, self.before = time.monotonic(), done
        self.bar: Progress | None = None
        self.task = TaskID(0)
        if self.console.is_terminal and not quiet:
            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TextColumn("{task.percentage:3.0f}%"),
                TextColumn("{task.fields[text]}"),
                TextColumn("ETA"),
                TimeRemainingColumn(),
                console=self.console,
            )
            self.task = self.bar.add_task("", total=updates, completed=done, text="")

    def __enter__(self) -> "RunProgress":
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.bar is not None:
            self.bar.stop()

    def update(self, epoch: int, losses: Mapping[str, float], images_per_second: float) -> None:
        """One update more is done.

        Args:
            epoch: Its epoch, from 0.
            losses: Means over the epoch so far, in nats.
            images_per_second: Over the epoch so far.
        """
        self.done += 1
        if self.bar is not None:
            self.bar.update(
                self.task,
                completed=self.done,
                description=f"epoch {epoch + 1}/{self.epochs}",
                text=f"{_shown(losses)}  {images_per_second:.0f} images/s",
            )

    def epoch(
        self,
        epoch: int,
        losses: Mapping[str, float],
        images_per_second: float,
        health: Mapping[str, float],
        wait: float = 0.0,
    ) -> None:
        """An epoch is done: its losses, speed and health in one line.

        Args:
            epoch: Its number, from 0.
            losses: Their means, in nats.
            images_per_second: Over the epoch.
            health: Of its last step.
            wait: Share of its time, in [0, 1], that was spent on getting data.
        """
        spent = time.monotonic() - self.began
        left = spent / max(self.done - self.before, 1) * (self.updates - self.done)
        parts = [
            f"epoch {epoch + 1}/{self.epochs}",
            _shown(losses),
            f"{images_per_second:.0f} images/s",
            f"ETA {timedelta(seconds=round(left))}",
            f"spread {health['embedding_std']:.2f}",
        ]
        if "effective_rank" in health:
            parts.append(f"rank {health['effective_rank']:.1f}")
        if "saturated" in health:
            parts.append(f"saturated {100 * health['saturated']:.0f} %")
        if wait > WAIT:
            parts.append(f"waited for data {100 * wait:.0f} %")
        self.say("  ".join(parts))

    def say(self, line: str) -> None:
        """Prints a line above the bar."""
        self.console.print(line, markup=False)


def _shown(losses: Mapping[str, float]) -> str:
    """Losses as ``loss 4.21 = contrastive 3.1 + ...`` would be too long: name and value."""
    return "  ".join(f"{name} {value:.3f}" for name, value in losses.items())
