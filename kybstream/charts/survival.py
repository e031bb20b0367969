"""A survival curve: the share that lasts longer than a time, with its confidence interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from kybstream.charts.frame import WIDTH, About, Plot, bottom_axis, drawing, left_axis, line, path, text
from kybstream.charts.scales import Scale, duration, duration_ticks

_PLOT = Plot(left=72, top=30, right=WIDTH - 28, bottom=290)
_HEIGHT = 318.0


@dataclass(frozen=True)
class Step:
    """From `seconds` on, `share` lasts longer (0 to 1); `lower` and `upper` enclose it, None where unknown."""

    seconds: float
    share: float
    lower: float | None
    upper: float | None


def survival_chart(about: About, steps: Sequence[Step], median: float | None) -> Element:
    """Steps in order of time; at least one. The curve begins with all at time 0."""
    end = max(steps[-1].seconds, 1e-6)
    x = Scale(0, end, _PLOT.left, _PLOT.right)
    y = Scale(0, 1, _PLOT.bottom, _PLOT.top)
    parts = left_axis(_PLOT, [(y(share), f"{share:.0%}") for share in (0, 0.25, 0.5, 0.75, 1)])
    enclosed = [step for step in steps if step.lower is not None and step.upper is not None]
    if enclosed:
        upper = _stairs([(step.seconds, step.upper or 0.0) for step in enclosed], end, x, y)
        lower = _stairs([(step.seconds, step.lower or 0.0) for step in enclosed], end, x, y)
        parts.append(path("band-1", [*upper, *reversed(lower)], closed=True))
    parts.append(path("line-1", _stairs([(0.0, 1.0), *((step.seconds, step.share) for step in steps)], end, x, y)))
    if median is not None:
        place = x(median)
        after_half = place > (_PLOT.left + _PLOT.right) / 2
        parts += [
            line("marker", _PLOT.left, y(0.5), place, y(0.5)),
            line("marker", place, y(0.5), place, _PLOT.bottom),
            text(
                "label strong",
                place + (-8 if after_half else 8),
                y(0.5) - 8,
                f"half within {duration(median)}",
                anchor="end" if after_half else "start",
            ),
        ]
    parts += bottom_axis(_PLOT, [(x(tick), duration(tick)) for tick in duration_ticks(end)])
    return drawing(
        about, _HEIGHT, parts, legend=[("line-1 swatch", "share still open"), ("band-1", "95 % confidence interval")]
    )


def _stairs(points: Sequence[tuple[float, float]], end: float, x: Scale, y: Scale) -> list[tuple[float, float]]:
    """Each share holds until the next point, the last one to the end."""
    made: list[tuple[float, float]] = []
    for seconds, share in points:
        if made:
            made.append((x(seconds), made[-1][1]))
        made.append((x(seconds), y(share)))
    made.append((x(end), made[-1][1]))
    return made
