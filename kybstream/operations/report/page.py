"""The report as one HTML page that needs nothing else: no script, no font, no picture, and a policy that says so."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC
from functools import cache
from importlib import resources
from xml.etree.ElementTree import Element

from kybstream.charts.elements import element, written
from kybstream.operations.report import reading
from kybstream.operations.report.figures import Report
from kybstream.operations.report.sections import all_sections

_NOTES = (
    "Days are days in UTC. Percentiles are exact and never averages of percentiles. Measured is a case whose opening was "
    "received or registered; times from ids or first receipts are not mixed in. Persons appear nowhere."
)


def html_page(report: Report) -> str:
    """The page. All text of the data is escaped, because elements are written and no markup is joined."""
    style = _style()
    title = f"Case latency: {reading.heading(report)}"
    body = [
        element("header", None, element("h1", None, "Case latency"), element("p", None, reading.heading(report))),
        element(
            "main",
            None,
            *([element("p", {"class": "said empty"}, "There are no cases and no deliveries yet.")] if report.is_empty else []),
            element("dl", {"class": "figures"}, *(_figure(*each) for each in reading.key_figures(report))),
            *all_sections(report),
        ),
        element("footer", None, element("p", None, _NOTES), element("p", None, _made(report))),
    ]
    head = [
        element("meta", {"charset": "utf-8"}),
        element("meta", {"http-equiv": "Content-Security-Policy", "content": _policy(style)}),
        element("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        element("meta", {"name": "color-scheme", "content": "light dark"}),
        element("meta", {"name": "referrer", "content": "no-referrer"}),
        element("title", None, title),
        element("style", None, style),
    ]
    page = element("html", {"lang": "en"}, element("head", None, *head), element("body", None, *body))
    return "<!DOCTYPE html>\n" + written(page) + "\n"


def _figure(name: str, figure: str, what: str) -> Element:
    return element(
        "div",
        None,
        element("dt", None, name),
        element("dd", None, element("strong", None, figure), " ", element("span", None, what)),
    )


def _made(report: Report) -> str:
    return f"Made by kyb-stream report, {report.made_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC."


@cache
def _style() -> str:
    return resources.files("kybstream.operations.report").joinpath("page.css").read_text(encoding="utf-8")


def _policy(style: str) -> str:
    """Nothing may be loaded or run; this very style sheet, known by its hash, may be used."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
