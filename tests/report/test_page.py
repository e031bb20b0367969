"""The page as HTML: whole in itself, readable without its charts, and with nothing of the data taken for markup."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from html.parser import HTMLParser

import msgspec
import pytest

from kybstream.operations.report import reading
from kybstream.operations.report.figures import (
    Age,
    DaySpread,
    Deliveries,
    Funnel,
    PartSpread,
    Report,
    StraightThrough,
    Survival,
    SurvivalStep,
    Tenant,
)
from kybstream.operations.report.page import html_page
from tests.report.history import HOSTILE

SINCE, MADE_AT = date(2026, 3, 1), datetime(2026, 3, 10, 12, tzinfo=UTC)
CHARTS = ["latency", "survival", "funnel", "services", "ageing", "duplicates"]
BUCKETS = [Age("0-2"), Age("3-10"), Age("11-30"), Age("31+")]

EMPTY = Report(
    since=SINCE,
    made_at=MADE_AT,
    tenant=None,
    tenants=[],
    bucket_days=1,
    latency=[],
    parts=[],
    survival=Survival([], 0, 0, None, None),
    straight_through=StraightThrough(0, 0),
    funnel=[],
    services_left_out=0,
    ageing=BUCKETS,
    bucket_hours=1,
    deliveries=[],
)


def _report(name: str) -> Report:
    """A bit of everything, with this name for all that others name."""
    return msgspec.structs.replace(
        EMPTY,
        tenant=name,
        tenants=[Tenant(name, 2, 1, 1, 60.0, 60.0, 60.0), Tenant("quiet", 0, 0, 1, None, None, None)],
        latency=[DaySpread(1, 60.0, 60.0, 60.0, SINCE)],
        parts=[
            PartSpread(1, 60.0, 60.0, 60.0, "case", "", True),  # noqa: FBT003 (a row)
            PartSpread(2, 5.0, 5.0, 5.0, "case", "", False),  # noqa: FBT003 (a row)
            PartSpread(1, 60.0, 60.0, 60.0, "service", name, True),  # noqa: FBT003 (a row)
        ],
        survival=Survival([SurvivalStep(60.0, 0.5, 0.1, 0.9, 1), SurvivalStep(9_000.0, 0.5, 0.1, 0.9, 0)], 2, 1, 60.0, None),
        straight_through=StraightThrough(1, 1),
        funnel=[Funnel("(all)", 2, 2, 1, 1, 1, 1, 1, 0, 0, 1), Funnel(name, 2, 2, 1, 1, 1, 1, 1, 0, 0, 1)],
        services_left_out=3,
        ageing=[Age("0-2", 1, 0, 0, 0, MADE_AT), *BUCKETS[1:]],
        deliveries=[Deliveries(datetime(2026, 3, 1, 5, tzinfo=UTC), 7, 3, 1)],
    )


@dataclass
class _Read(HTMLParser):
    """What a browser would find."""

    tags: list[str] = field(default_factory=list)
    attributes: list[tuple[str, str, str]] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)
    _open: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag != "meta":
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts.append((self._open[-1], data))

    def all_of(self, tag: str) -> list[str]:
        return [text for inside, text in self.texts if inside == tag]


def _read(report: Report) -> _Read:
    found = _Read()
    found.feed(html_page(report))
    found.close()
    return found


def test_names_are_text_wherever_they_stand() -> None:
    """A tenant and a service called like markup add no element, attribute or style; they are shown as they are."""
    hostile, harmless = _read(_report(HOSTILE)), _read(_report("x"))
    assert hostile.tags == harmless.tags
    assert [(tag, name) for tag, name, _ in hostile.attributes] == [(tag, name) for tag, name, _ in harmless.attributes]
    assert hostile.all_of("style") == harmless.all_of("style")
    shown = HOSTILE.replace("\u202e", "\ufffd").replace("\x1b", "\ufffd")
    assert sum(shown in text for _, text in hostile.texts) >= 5
    assert not any("\x1b" in text or "\u202e" in text for _, text in hostile.texts)


def test_nothing_is_loaded_or_run() -> None:
    """No element that loads, no attribute that runs; the policy forbids both, and knows the one style sheet."""
    found = _read(_report("acme"))
    assert not {"script", "link", "img", "iframe", "object", "use", "image", "a", "form"} & set(found.tags)
    assert not [
        name for _, name, _ in found.attributes if name.startswith("on") or name in {"style", "src", "href", "xlink:href"}
    ]
    assert "url(" not in found.all_of("style")[0]
    assert "@import" not in found.all_of("style")[0]
    [policy] = [
        value for tag, name, value in found.attributes if tag == "meta" and "default-src" in value and name == "content"
    ]
    digest = base64.b64encode(hashlib.sha256(found.all_of("style")[0].encode()).digest()).decode()
    assert policy.split("; ")[:2] == ["default-src 'none'", f"style-src 'sha256-{digest}'"]


def test_each_chart_is_told_in_words_and_figures() -> None:
    """Title, description and heading of each chart, a sentence beside it, and a table with heads below it."""
    page = html_page(_report("acme"))
    sections = re.findall(r"<section.*?</section>", page, re.DOTALL)
    charts = [section for section in sections if "<svg" in section]
    assert [re.findall(r'<svg id="(\w+)"', section) for section in charts] == [[key] for key in CHARTS]
    for section in charts:
        title, description = re.findall(r"<title id=[^>]*>(.+?)</title><desc id=[^>]*>(.+?)</desc>", section)[0]
        assert f">{title}</h2>" in section
        assert f'<p class="said">{description}</p>' in section
        assert re.search(r"<table><caption>.+?</caption><thead><tr><th scope=\"col\">.*<tbody><tr><th scope=\"row\">", section)


def test_an_empty_page_says_so() -> None:
    """Without any case there is no chart, no table, no figure made of nothing; each section says what there is none of."""
    found = _read(EMPTY)
    assert not {"svg", "table", "details"} & set(found.tags)
    assert "There are no cases and no deliveries yet." in found.all_of("p")
    assert sum(text.startswith(("No case", "Nothing")) for text in found.all_of("p")) == len(CHARTS)
    assert not re.search(r"\b(nan|None|inf)\b", " ".join(text for inside, text in found.texts if inside != "style"))
    figures = {name: figure for name, figure, _ in reading.key_figures(EMPTY)}
    assert figures["median time"] == figures["duplicates"] == reading.NONE


def test_tenants_are_compared_only_when_there_are_several() -> None:
    """One tenant alone needs no table."""
    several = _report("acme")
    assert "Tenants" in _read(several).all_of("h2")
    assert "Tenants" not in _read(msgspec.structs.replace(several, tenants=several.tenants[:1])).all_of("h2")


@pytest.mark.parametrize(
    ("part", "whole", "told"),
    [
        (0, 0, reading.NONE),
        (0, 9, "0 %"),
        (1, 9_999, "under 0.1 %"),
        (9_999, 10_000, "over 99.9 %"),
        (9, 9, "100 %"),
        (1, 3, "33.3 %"),
    ],
)
def test_a_share_is_never_rounded_to_none_or_all(part: int, whole: int, told: str) -> None:
    """One case among ten thousand is not 0 %."""
    assert reading.percent(part, whole) == told


def test_what_is_said() -> None:
    """The sentences of a small history: those not measured, the open ones, the unresolved service, the worst hour."""
    report = _report("acme")
    assert reading.latency(report).startswith("One case closed, after 1 min. 2 more closed whose true opening is not known")
    assert "half of them are closed within 1 min, and when nine of ten will be is not yet known" in reading.survival(report)
    assert reading.funnel(report).startswith("Of 2 cases opened in this period, 50 % are completed")
    assert reading.services(report).startswith("Most unresolved: acme, in 1 of 2 cases.")
    assert reading.ageing(report) == "1 case is open now, 0 for more than 30 days. The oldest was opened on 2026-03-10."
    assert reading.duplicates(report).endswith("3 of them repeats (42.9 %). Most in one hour: 3, 2026-03-01 05:00 UTC.")
    by_day = msgspec.structs.replace(report, bucket_hours=24)
    assert reading.duplicates(by_day).endswith("Most in one day: 3, 2026-03-01 UTC.")
    assert reading.title(by_day, "duplicates") == "Repeated deliveries by day"
