"""Horizontal bars with their labels to the left and their figures to the right: beside or within one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from kybstream.charts.elements import element, shortened
from kybstream.charts.frame import WIDTH, About, drawing, hint, text
from kybstream.charts.scales import Scale

_LEFT, _RIGHT = 196.0, WIDTH - 250.0
_ROW, _BAR = 34.0, 22.0
_LONGEST_LABEL = 24


@dataclass(frozen=True)
class Row:
    """A row of bars.

    Attributes:
        label: What it is about.
        lengths: One for each series.
        note: The figures in words, at its end.
        hint: More about it.
    """

    label: str
    lengths: Sequence[float]
    note: str
    hint: str


def bar_chart(about: About, rows: Sequence[Row], series: Sequence[tuple[str, str]], *, stacked: bool) -> Element:
    """Rows from top to bottom.

    Args:
        about: What it is.
        rows: At least one.
        series: Class and label of each series; one alone needs no legend.
        stacked: One bar beside the other; else each begins at the left, the first lowest.
    """
    top = 30.0 if len(series) > 1 else 8.0
    longest = max((sum(row.lengths) if stacked else max(row.lengths)) for row in rows)
    scale = Scale(0, longest or 1.0, 0, _RIGHT - _LEFT)
    parts: list[Element] = []
    for index, row in enumerate(rows):
        y = top + index * _ROW
        bars, begin = (
            [element("rect", {"class": "track", "x": _LEFT, "y": y, "width": _RIGHT - _LEFT, "height": _BAR, "rx": 3})],
            0.0,
        )
        for (look, _), length in zip(series, row.lengths, strict=True):
            if length > 0:
                # What is there is seen, however little it is beside the longest.
                width = max(scale(length), 2.0)
                bars.append(
                    element("rect", {"class": look, "x": _LEFT + begin, "y": y, "width": width, "height": _BAR, "rx": 3})
                )
                begin += width if stacked else 0.0
        parts += [
            text("label", _LEFT - 10, y + 16, shortened(row.label, _LONGEST_LABEL), anchor="end"),
            element("g", {"class": "row"}, hint(row.hint), *bars),
            text("label", _RIGHT + 10, y + 16, row.note),
        ]
    return drawing(about, top + len(rows) * _ROW, parts, legend=series if len(series) > 1 else ())
