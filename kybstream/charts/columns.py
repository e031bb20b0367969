"""Stacked columns over time, as many as there are hours: drawn as one area a series, so that thousands stay small."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from xml.etree.ElementTree import Element

from kybstream.charts.elements import element
from kybstream.charts.frame import WIDTH, About, Plot, bottom_axis, drawing, hint, left_axis, path
from kybstream.charts.scales import Scale, count_ticks, date_ticks, day_name

_PLOT = Plot(left=72, top=30, right=WIDTH - 28, bottom=270)
_HEIGHT = 298.0
_MOST_HINTS = 60
_FEW_DAYS = timedelta(days=2)


@dataclass(frozen=True)
class Column:
    """Counts of one stretch of time, one for each series, the lowest first."""

    start: datetime
    counts: Sequence[int]


def column_chart(
    about: About,
    columns: Sequence[Column],
    series: Sequence[tuple[str, str]],
    *,
    first: datetime,
    last: datetime,
    width: timedelta,
) -> Element:
    """Columns in order of time.

    Args:
        about: What it is.
        columns: At least one; a stretch without a column has nothing.
        series: Class and label of each, the lowest first.
        first: Where the axis begins.
        last: Where it ends.
        width: Of one column.
    """
    x = Scale(0, (last - first) / width, _PLOT.left, _PLOT.right)
    highest = max(sum(column.counts) for column in columns)
    y = Scale(0, highest or 1, _PLOT.bottom, _PLOT.top)
    parts = left_axis(_PLOT, [(y(tick), f"{tick:,}") for tick in count_ticks(highest)])
    for index, (look, _) in enumerate(series):
        if any(column.counts[index] for column in columns):
            parts.append(path(look, _outline(columns, index, (x, y), (first, width)), closed=True))
    parts += [_hint(column, series, x, first, width) for column in _highest(columns)]
    places = [(x((moment - first) / width), name) for moment, name in _ticks(first, last)]
    parts += bottom_axis(_PLOT, [(place, name) for place, name in places if _PLOT.left <= place <= _PLOT.right])
    return drawing(about, _HEIGHT, parts, legend=list(series))


def _ticks(first: datetime, last: datetime) -> list[tuple[datetime, str]]:
    """Days; of a few days the hours, too."""
    if last - first <= _FEW_DAYS:
        hours = 3 if last - first <= _FEW_DAYS / 2 else 6
        moments = [
            first + timedelta(hours=hours * index) for index in range(math.floor((last - first) / timedelta(hours=hours)) + 1)
        ]
        return [(moment, f"{moment:%H:%M}" if moment.hour else day_name(moment.date())) for moment in moments]
    days = date_ticks(first.date(), last.date())
    return [(datetime.combine(day, datetime.min.time(), first.tzinfo), day_name(day, days)) for day in days]


def _outline(
    columns: Sequence[Column], index: int, scales: tuple[Scale, Scale], begins: tuple[datetime, timedelta]
) -> list[tuple[float, float]]:
    """Around all columns of a series: up and down at each, along the base between them and back."""
    (x, y), (first, width) = scales, begins
    made: list[tuple[float, float]] = []
    back: list[tuple[float, float]] = []
    for column in columns:
        begin = (column.start - first) / width
        left, right = x(begin), x(begin + 1)
        low, high = y(sum(column.counts[:index])), y(sum(column.counts[: index + 1]))
        base = y(0)
        made += [(left, base), (left, high), (right, high), (right, base)]
        back += [(left, base), (left, low), (right, low), (right, base)]
    return [*made, *reversed(back)]


def _highest(columns: Sequence[Column]) -> list[Column]:
    return sorted(columns, key=lambda column: sum(column.counts), reverse=True)[:_MOST_HINTS]


def _hint(column: Column, series: Sequence[tuple[str, str]], x: Scale, first: datetime, width: timedelta) -> Element:
    """An invisible column that says its figures when one points at it."""
    begin = (column.start - first) / width
    when = f"{column.start:%Y-%m-%d %H:%M}" if width < timedelta(days=1) else f"{column.start:%Y-%m-%d}"
    told = ", ".join(f"{count:,} {label}" for (_, label), count in zip(series, column.counts, strict=True))
    place = {"x": x(begin), "y": _PLOT.top, "width": x(1) - x(0), "height": _PLOT.bottom - _PLOT.top}
    return element("rect", {"class": "ghost", **place}, hint(f"{when}: {told}"))
