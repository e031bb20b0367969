"""Percentiles over time: median, bands up to higher percentiles, and below them how many cases each point stands for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from xml.etree.ElementTree import Element

from kybstream.charts.elements import element
from kybstream.charts.frame import WIDTH, About, Plot, bottom_axis, drawing, hint, left_axis, path, text
from kybstream.charts.scales import Scale, date_ticks, day_name, duration, duration_marks, duration_ticks

_PLOT = Plot(left=72, top=30, right=WIDTH - 52, bottom=270)
_STRIP = Plot(left=_PLOT.left, top=292, right=_PLOT.right, bottom=336)
_HEIGHT = 362.0
_LINE = 14.0
_TOO_WIDE = 40.0
"""With a longest p99 of more times the shortest median, equal distances would show nothing of the median."""


@dataclass(frozen=True)
class Percentiles:
    """What took how long in one stretch of time; durations in seconds."""

    day: date
    count: int
    p50: float
    p90: float
    p99: float


def percentile_chart(about: About, points: Sequence[Percentiles], first: date, last: date) -> Element:
    """Points from `first` to `last`; at least one."""
    x = Scale(first.toordinal() - 0.5, last.toordinal() + 0.5, _PLOT.left, _PLOT.right)
    y = _durations(points)
    most = max(point.count for point in points)
    volume = Scale(0, most, _STRIP.bottom, _STRIP.top)
    ticks = date_ticks(first, last)
    at = [(x(point.day.toordinal()), point) for point in points]
    marks = duration_marks(y.low, y.high) if y.logarithmic else duration_ticks(y.high, 6)
    parts = [
        *left_axis(_PLOT, [(y(mark), duration(mark)) for mark in marks]),
        *_bands(at, y),
        *_names(at[-1], y),
        *_columns(at, volume, x),
        *left_axis(_STRIP, [(_STRIP.top, f"{most:,} cases")]),
        *bottom_axis(_STRIP, [(x(day.toordinal()), day_name(day, (first, last))) for day in ticks]),
    ]
    if y.logarithmic:
        parts.append(text("tick", _PLOT.right, 14, "logarithmic: each line is a multiple of the one below", anchor="end"))
    legend = [
        ("line-1 swatch", "median"),
        ("band-1", "to p90: nine of ten are below"),
        ("band-2", "to p99"),
    ]
    return drawing(about, _HEIGHT, parts, legend=legend)


def _durations(points: Sequence[Percentiles]) -> Scale:
    low = min(point.p50 for point in points)
    high = max(point.p99 for point in points)
    if low > 0 and high / low > _TOO_WIDE:
        return Scale(low * 0.8, high * 1.25, _PLOT.bottom, _PLOT.top, logarithmic=True)
    return Scale(0, high * 1.08 or 1.0, _PLOT.bottom, _PLOT.top)


def _bands(at: Sequence[tuple[float, Percentiles]], y: Scale) -> list[Element]:
    p50 = [(x, y(point.p50)) for x, point in at]
    p90 = [(x, y(point.p90)) for x, point in at]
    p99 = [(x, y(point.p99)) for x, point in at]
    dots = [
        element(
            "g",
            {"class": "point"},
            hint(
                f"{day_name(point.day)}: {point.count:,} cases, median {duration(point.p50)}, "
                f"p90 {duration(point.p90)}, p99 {duration(point.p99)}"
            ),
            # A point by itself has no band: the line shows how far its percentiles are apart.
            element("line", {"class": "whisker", "x1": x, "x2": x, "y1": y(point.p50), "y2": y(point.p99)}),
            element("circle", {"class": "dot-1", "cx": x, "cy": y(point.p50), "r": 3.5}),
            element("circle", {"class": "dot-2", "cx": x, "cy": y(point.p90), "r": 2.5}),
            element("circle", {"class": "dot-3", "cx": x, "cy": y(point.p99), "r": 2}),
        )
        for x, point in at
    ]
    if len(at) == 1:
        return dots
    return [
        path("band-2", [*p90, *reversed(p99)], closed=True),
        path("band-1", [*p50, *reversed(p90)], closed=True),
        path("line-3", p99),
        path("line-2", p90),
        path("line-1", p50),
        *dots,
    ]


def _names(last: tuple[float, Percentiles], y: Scale) -> list[Element]:
    """The name of each line at its end, apart enough to be read."""
    x, point = last
    made: list[Element] = []
    lowest = y.start + _LINE
    for name, seconds in (("median", point.p50), ("p90", point.p90), ("p99", point.p99)):
        lowest = min(y(seconds) + 4, lowest - _LINE)
        made.append(text("tick", x + 10, lowest, name))
    return made


def _columns(at: Sequence[tuple[float, Percentiles]], volume: Scale, x: Scale) -> list[Element]:
    nearest = min((later - earlier for (earlier, _), (later, _) in pairwise(at)), default=x(1) - x(0))
    width = max(min(nearest * 0.7, 26.0), 1.0)
    return [
        element(
            "rect",
            {
                "class": "volume",
                "x": place - width / 2,
                "y": volume(point.count),
                "width": width,
                "height": volume.start - volume(point.count),
            },
            hint(f"{day_name(point.day)}: {point.count:,} cases"),
        )
        for place, point in at
    ]
