"""What all charts share: the drawing with its title and description, axes, and the legend."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from kybstream.charts.elements import element

WIDTH = 960.0
_LEGEND_TOP = 14.0
_CHARACTER = 6.6
"""About the width of a character of the legend."""


@dataclass(frozen=True)
class About:
    """What a chart is, for those who see it and those who do not.

    Attributes:
        key: Its id on the page; a word.
        title: What it shows.
        description: What is to be seen in it: the figures in a sentence.
    """

    key: str
    title: str
    description: str


@dataclass(frozen=True)
class Plot:
    """The rectangle within the axes."""

    left: float
    top: float
    right: float
    bottom: float


def drawing(about: About, height: float, parts: Iterable[Element], *, legend: Sequence[tuple[str, str]] = ()) -> Element:
    """A chart: an image with title and description, as wide as all are.

    Args:
        about: What it is.
        height: In units of the drawing; the width is WIDTH.
        parts: What is drawn, the lowest first.
        legend: Class and label of each series.
    """
    named = {
        "id": about.key,
        "class": "chart",
        "role": "img",
        "viewBox": f"0 0 {WIDTH:g} {height:g}",
        "aria-labelledby": f"{about.key}-title {about.key}-description",
    }
    return element(
        "svg",
        named,
        element("title", {"id": f"{about.key}-title"}, about.title),
        element("desc", {"id": f"{about.key}-description"}, about.description),
        *parts,
        *_legend(legend),
    )


def _legend(series: Sequence[tuple[str, str]]) -> list[Element]:
    made: list[Element] = []
    left = 0.0
    for look, label in series:
        made += [
            element("rect", {"class": look, "x": left, "y": _LEGEND_TOP - 10, "width": 14, "height": 10, "rx": 2}),
            element("text", {"class": "label", "x": left + 20, "y": _LEGEND_TOP}, label),
        ]
        left += 44 + _CHARACTER * len(label)
    return made


def text(look: str, x: float, y: float, content: str, *, anchor: str = "start") -> Element:
    """A line of text."""
    return element("text", {"class": look, "x": x, "y": y, "text-anchor": anchor}, content)


def line(look: str, x1: float, y1: float, x2: float, y2: float) -> Element:
    """A straight line."""
    return element("line", {"class": look, "x1": x1, "y1": y1, "x2": x2, "y2": y2})


def hint(content: str) -> Element:
    """What a browser shows when one points at the element around it."""
    return element("title", None, content)


def left_axis(plot: Plot, ticks: Iterable[tuple[float, str]]) -> list[Element]:
    """Horizontal lines with their names, by their height."""
    made: list[Element] = []
    for y, name in ticks:
        made += [line("grid", plot.left, y, plot.right, y), text("tick", plot.left - 8, y + 4, name, anchor="end")]
    return made


def bottom_axis(plot: Plot, ticks: Iterable[tuple[float, str]]) -> list[Element]:
    """The line below, and names at places along it."""
    made = [line("axis", plot.left, plot.bottom, plot.right, plot.bottom)]
    for x, name in ticks:
        made += [line("axis", x, plot.bottom, x, plot.bottom + 5), text("tick", x, plot.bottom + 19, name, anchor="middle")]
    return made


def path(look: str, points: Sequence[tuple[float, float]], *, closed: bool = False) -> Element:
    """A line through points, or the area within them."""
    steps = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return element("path", {"class": look, "d": f"M{steps}{'Z' if closed else ''}"})
