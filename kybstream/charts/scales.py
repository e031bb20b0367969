"""From a value to a place in a chart, and which values an axis names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0

# What people count time in.
_STEPS = (
    *(base * power for power in (0.001, 0.01, 0.1) for base in (1.0, 2.0, 5.0)),
    *(1.0, 2.0, 5.0, 10.0, 15.0, 30.0),
    *(MINUTE * each for each in (1, 2, 5, 10, 15, 30)),
    *(HOUR * each for each in (1, 2, 3, 6, 12)),
    *(DAY * each for each in (1, 2, 5, 7, 10, 14, 30, 60, 90, 180, 365, 730)),
)
_MARKS = (0.001, 0.01, 0.1, 1.0, 10.0, MINUTE, 10 * MINUTE, HOUR, 6 * HOUR, DAY, 7 * DAY, 30 * DAY, 90 * DAY, 365 * DAY)


@dataclass(frozen=True)
class Scale:
    """A straight or logarithmic way from values to places.

    Attributes:
        low: The value at `start`.
        high: The value at `end`; above `low`.
        start: A place, in units of the drawing.
        end: Another.
        logarithmic: Equal ratios are equally far apart; `low` is above 0 then, and lower values lie at `start`.
    """

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """The place of a value."""
        if self.logarithmic:
            share = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def duration(seconds: float) -> str:
    """A duration as a person says it, in one unit: `420 ms`, `3.4 h`, `12 days`."""
    for unit, length in (("days", DAY), ("h", HOUR), ("min", MINUTE), ("s", 1.0)):
        # What would be rounded up to the next unit is told in it.
        if seconds >= length * (0.9995 if length > 1 else 1):
            return _one_day(f"{_three_digits(seconds / length)} {unit}")
    return f"{_three_digits(seconds * 1000)} ms" if seconds > 0 else "0"


def _one_day(text: str) -> str:
    return "1 day" if text == "1 days" else text


def _three_digits(value: float) -> str:
    return f"{value:.0f}" if value >= 99.95 else f"{value:.3g}"  # noqa: PLR2004 (what is shown as 100)


def duration_ticks(high: float, most: int = 8) -> list[float]:
    """Durations from 0 up to `high` that people count in, `most` at the most."""
    step = next((step for step in _STEPS if high / step <= most - 1), high)
    return [step * index for index in range(math.floor(high / step + 1e-9) + 1)]


def duration_marks(low: float, high: float) -> list[float]:
    """Durations to name on a logarithmic axis."""
    return [mark for mark in _MARKS if low <= mark <= high]


def count_ticks(high: float, most: int = 5) -> list[int]:
    """Whole numbers from 0 up to `high`."""
    power = 0
    while True:
        for base in (1, 2, 5):
            step = base * 10**power
            if high / step <= most:
                return list(range(0, math.floor(high) + 1, step))
        power += 1


def date_ticks(first: date, last: date, most: int = 9) -> list[date]:
    """Days of a period, equally far apart."""
    days = (last - first).days + 1
    step = next(step for step in (1, 2, 7, 14, 28, 56, 91, 182, 364, 728, 3640, days) if days / step <= most)
    return [first + timedelta(days=offset) for offset in range(0, days, step)]


def day_name(day: date, days: Sequence[date] = ()) -> str:
    """A day as an axis names it; with its year where the axis has more than one."""
    years = {each.year for each in days}
    return f"{day.day} {day:%b} {day.year}" if len(years) > 1 else f"{day.day} {day:%b}"
