"""Charts: scales that people read, elements that cannot be broken out of, and drawings of very little."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from xml.etree.ElementTree import Element, fromstring

import pytest

from kybstream.charts.bars import Row, bar_chart
from kybstream.charts.columns import Column, column_chart
from kybstream.charts.elements import element, printable, shortened, written
from kybstream.charts.frame import About
from kybstream.charts.percentiles import Percentiles, percentile_chart
from kybstream.charts.scales import Scale, count_ticks, date_ticks, duration, duration_marks, duration_ticks
from kybstream.charts.survival import Step, survival_chart

ABOUT = About("it", "A chart", "What is to be seen in it.")
DAY = date(2026, 3, 10)
NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0, "0"),
        (0.0004, "0.4 ms"),
        (0.42, "420 ms"),
        (1, "1 s"),
        (59.99, "1 min"),
        (90, "1.5 min"),
        (3_599.9, "1 h"),
        (3_600, "1 h"),
        (86_399, "1 day"),
        (86_400, "1 day"),
        (188_000, "2.18 days"),
        (86_400 * 99.96, "100 days"),
        (86_400 * 1_234, "1234 days"),
    ],
)
def test_a_duration_is_told_in_one_unit(seconds: float, told: str) -> None:
    """Three digits, and never 60 s or 24 h."""
    assert duration(seconds) == told


@pytest.mark.parametrize("high", [0.003, 0.9, 7, 100, 3_000, 50_000, 400_000, 3e6, 8e6, 9e7])
def test_an_axis_of_durations_has_a_few_even_ticks(high: float) -> None:
    """From 0, evenly, not beyond the end; at least two, or nothing could be read off."""
    ticks = duration_ticks(high)
    assert 2 <= len(ticks) <= 8
    assert ticks[0] == 0
    assert ticks[-1] <= high * (1 + 1e-9)
    assert {round((b - a) / ticks[1], 6) for a, b in pairwise(ticks)} == {1}


def test_other_axes() -> None:
    """Whole counts; days within the period, as many as there is room for; marks of a logarithmic axis within its ends."""
    assert count_ticks(0) == [0]
    assert count_ticks(3) == [0, 1, 2, 3]
    assert count_ticks(1_234) == [0, 500, 1_000]
    assert date_ticks(DAY, DAY) == [DAY]
    assert [tick.day for tick in date_ticks(DAY, DAY + timedelta(days=14))] == [10, 12, 14, 16, 18, 20, 22, 24]
    assert len(date_ticks(DAY, DAY + timedelta(days=100_000))) <= 9
    assert duration_marks(30, 100_000) == [60, 600, 3_600, 21_600, 86_400]
    log = Scale(1, 100, 0, 10, logarithmic=True)
    assert (log(1), log(10), log(100), log(0)) == (0, 5, 10, 0)


def test_text_stays_text() -> None:
    """Markup in text and in attributes is escaped; control and direction characters are replaced; order is kept."""
    made = element("p", {"title": '"><b>', "width": 1.204}, "a<b", element("i", None, "&"), "c\x1b[31m\u202ed")
    assert written(made) == '<p title="&quot;&gt;<b&gt;" width="1.2">a&lt;b<i>&amp;</i>c\ufffd[31m\ufffdd</p>'
    assert printable("\x00tab\tand\nline ü 漢 \u2066") == "\ufffdtab\tand\nline ü 漢 \ufffd"
    assert shortened("a long name", 7) == "a long…"


def _numbers(drawing: Element) -> list[float]:
    """Every place in the drawing."""
    places = [
        each.get(name, "") for each in drawing.iter() for name in ("x", "y", "x1", "x2", "y1", "y2", "d", "width", "height")
    ]
    return [float(number) for place in places for number in re.findall(r"-?(?:nan|inf|[\d.]+)", place)]


TINY = Percentiles(DAY, 1, 0.0, 0.0, 0.0)
WIDE = Percentiles(DAY + timedelta(days=1), 5, 0.5, 4_000.0, 9e6)


@pytest.mark.parametrize(
    "drawing",
    [
        percentile_chart(ABOUT, [TINY], DAY, DAY),
        percentile_chart(ABOUT, [TINY, WIDE], DAY, DAY + timedelta(days=400)),
        percentile_chart(ABOUT, [WIDE], DAY, DAY + timedelta(days=2)),
        survival_chart(ABOUT, [Step(0.0, 1.0, None, None)], None),
        survival_chart(ABOUT, [Step(10.0, 0.5, 0.1, 0.9), Step(20.0, 0.0, None, None)], 10.0),
        bar_chart(ABOUT, [Row("none", (0, 0), "0", "nothing")], [("fill-1", "a"), ("fill-2", "b")], stacked=True),
        column_chart(
            ABOUT,
            [Column(NOON, (0, 0)), Column(NOON + timedelta(hours=3), (0, 7))],
            [("fill-1", "a"), ("fill-2", "b")],
            first=NOON - timedelta(hours=12),
            last=NOON + timedelta(hours=4),
            width=timedelta(hours=1),
        ),
    ],
)
def test_very_little_can_be_drawn(drawing: Element) -> None:
    """One point, equal values, zeros: no number is missing, all lie within the drawing; it is named and described."""
    numbers = _numbers(drawing)
    _, _, width, height = map(float, (drawing.get("viewBox") or "").split())
    assert numbers
    assert all(-1 <= number <= max(width, height) for number in numbers)
    named = fromstring(written(drawing))  # noqa: S314 (our own)
    assert named.get("role") == "img"
    labels = {each.get("id"): each.text for each in named.iter()}
    assert [labels[key] for key in (named.get("aria-labelledby") or "").split()] == [ABOUT.title, ABOUT.description]


def test_a_survival_curve_is_a_staircase() -> None:
    """The share holds until the next step: only horizontal and vertical lines."""
    drawing = survival_chart(ABOUT, [Step(10.0, 0.6, 0.3, 0.8), Step(40.0, 0.2, 0.1, 0.5), Step(50.0, 0.2, 0.1, 0.5)], 40.0)
    [curve] = [each.get("d", "") for each in drawing.iter("path") if each.get("class") == "line-1"]
    points = [tuple(map(float, point.split())) for point in curve.strip("M").split("L")]
    assert len(points) == 8
    assert all(a[0] == b[0] or a[1] == b[1] for a, b in pairwise(points))
