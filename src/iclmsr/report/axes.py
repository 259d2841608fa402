# SPDX-License-Identifier: Apache-2.0
"""Scales and ticks of a chart."""

import math
from dataclasses import dataclass

from iclmsr.report.markup import Html, element, join


@dataclass(frozen=True)
class Scale:
    """Values along one side of a chart.

    Attributes:
        low: The value at ``begin``.
        high: The value at ``end``.
        begin: Pixels.
        end: Pixels.
        logarithmic: Whether equal ratios are equally far apart; ``low`` is then > 0.
    """

    low: float
    high: float
    begin: float
    end: float
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """Where a value lies, pixels, with one decimal.

        >>> Scale(0, 10, 100, 200).at(5)
        150.0
        """
        low, high = self.low, self.high
        if self.logarithmic:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return round(self.begin + (value - low) / (high - low) * (self.end - self.begin), 1)

    def ticks(self, count: int = 5) -> list[float]:
        """Round values within the scale, about ``count`` of them.

        >>> Scale(0, 9.3, 0, 1).ticks()
        [0, 2, 4, 6, 8]
        """
        if self.logarithmic:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            ticks = [float(f"{digit}e{power}") for power in powers for digit in (1, 2, 5)]
            inside = [tick for tick in ticks if self.low <= tick <= self.high]
            return inside[:: max(1, round(len(inside) / count))]
        step = 10 ** math.floor(math.log10((self.high - self.low) / count))
        fitting = [m * step for m in (1, 2, 5, 10) if (self.high - self.low) / (m * step) <= count]
        step = fitting[0] if fitting else 10 * step
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [round(place * step, 12) for place in range(first, last + 1)]


def around(values: list[float], *, whole: bool = False) -> tuple[float, float]:
    """Ends of a scale that holds all values with a little room, or exactly for ``whole``."""
    low, high = min(values), max(values)
    if high - low < 1e-9 * max(abs(high), 1):
        room = max(abs(high) * 0.1, 0.5 if whole else 1e-3)
        return (max(0.0, low - room) if low >= 0 and not whole else low - room), high + room
    room = 0 if whole else 0.06 * (high - low)
    return (max(0.0, low - room) if low >= 0 else low - room), high + room


def text_of(value: float) -> str:
    """A tick's label.

    >>> text_of(20000.0), text_of(0.25), text_of(1e-4)
    ('20,000', '0.25', '1e-4')
    """
    if value and abs(value) < 1e-3:
        return f"{value:.0e}".replace("e-0", "e-")
    return f"{value:,.6g}" if abs(value) < 1e6 else f"{value:.3g}"


def frame(x: Scale, y: Scale, x_label: str, y_label: str) -> Html:
    """Both axes with ticks, labels and horizontal rules."""
    parts = []
    for tick in y.ticks(4):
        at = y.at(tick)
        parts.append(element("line", x1=x.begin, x2=x.end, y1=at, y2=at, class_="grid"))
        parts.append(element("text", text_of(tick), x=x.begin - 6, y=at + 4, class_="tick end"))
    parts.append(x_axis(x, y.begin, x_label))
    middle = round((y.begin + y.end) / 2, 1)
    turn = f"translate(12 {middle}) rotate(-90)"
    parts.append(element("text", y_label, transform=turn, class_="axis middle"))
    return join(parts)


def x_axis(x: Scale, bottom: float, label: str) -> Html:
    """The axis below a chart."""
    parts = [element("line", x1=x.begin, x2=x.end, y1=bottom, y2=bottom, class_="base")]
    for tick in x.ticks(5):
        at = x.at(tick)
        parts.append(element("line", x1=at, x2=at, y1=bottom, y2=bottom + 4, class_="base"))
        parts.append(element("text", text_of(tick), x=at, y=bottom + 16, class_="tick middle"))
    middle = round((x.begin + x.end) / 2, 1)
    parts.append(element("text", label, x=middle, y=bottom + 32, class_="axis middle"))
    return join(parts)
