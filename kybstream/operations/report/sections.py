"""The sections of the page: each a heading, what it says in a sentence, a chart, and the figures as a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, timedelta
from xml.etree.ElementTree import Element

from kybstream.charts.bars import Row, bar_chart
from kybstream.charts.columns import Column, column_chart
from kybstream.charts.elements import element
from kybstream.charts.frame import About
from kybstream.charts.percentiles import Percentiles, percentile_chart
from kybstream.charts.scales import duration
from kybstream.charts.survival import Step, survival_chart
from kybstream.operations.report import reading
from kybstream.operations.report.figures import Funnel, Report, Spread
from kybstream.operations.report.statements import TABLE_SECONDS

_MOST_BARS = 12


def all_sections(report: Report) -> list[Element]:
    """All of them, in the order in which a reader asks."""
    made = [latency(report), survival(report), funnel(report), services(report), ageing(report), duplicates(report)]
    return [*made, tenants(report)] if len(report.tenants) > 1 else made


def latency(report: Report) -> Element:
    """Percentiles over time, and by part."""
    about = About("latency", reading.title(report, "latency"), reading.latency(report))
    per = {1: "day", 7: "week from"}.get(report.bucket_days, "month from")
    over_time = table(
        f"Percentiles by {per.split()[0]} of closing",
        (per, "cases", "median", "p90", "p99"),
        [(f"{each.day:%Y-%m-%d}", *_spread(each)) for each in report.latency],
    )
    by_part = table(
        "Percentiles by part of the case",
        ("part", "cases", "median", "p90", "p99"),
        [(_part_name(each.part, each.service), *_spread(each)) for each in report.parts if each.measured],
    )
    points = [Percentiles(each.day, each.count, each.p50, each.p90, each.p99) for each in report.latency]
    # What was before the first case was before us.
    chart = percentile_chart(about, points, points[0].day, report.made_at.astimezone(UTC).date()) if points else None
    return _section(
        about, chart, [folded("Figures by " + per.split()[0], over_time), folded("Figures by part and service", by_part)]
    )


def survival(report: Report) -> Element:
    """Kaplan-Meier."""
    curve = report.survival
    about = About("survival", reading.title(report, "survival"), reading.survival(report))
    steps = [Step(each.seconds, each.survival, each.lower, each.upper) for each in curve.steps]
    rows = [
        (duration(seconds), f"{step.survival:.1%}", _interval(step.lower, step.upper), f"{step.left:,}")
        for seconds in TABLE_SECONDS
        if (step := curve.at(seconds)) is not None
    ]
    figures = table("Share of cases still open", ("after", "still open", "95 % interval", "watched longer"), rows)
    return _section(about, survival_chart(about, steps, curve.p50) if steps else None, [folded("Figures", figures)])


def funnel(report: Report) -> Element:
    """The cases as a whole, step by step."""
    about = About("funnel", reading.title(report, "funnel"), reading.funnel(report))
    whole = next((each for each in report.funnel if each.service == "(all)"), None)
    if whole is None:
        return _section(about, None, [])
    steps = reading.funnel_steps(whole)
    bars = [
        Row(name, (count,), f"{count:,}   {reading.percent(count, whole.cases)}", f"{name}: {count:,} of {whole.cases:,}")
        for name, count in steps
    ]
    ends = [
        ("rejected", whole.rejected),
        ("expired", whole.expired),
        ("still open", whole.still_open),
    ]
    figures = table(
        "Cases by how far they came",
        ("step", "cases", "share"),
        [(name, f"{count:,}", reading.percent(count, whole.cases)) for name, count in (*steps, *ends)],
    )
    return _section(about, bar_chart(about, bars, [("fill-1", "cases")], stacked=False), [folded("Figures", figures)])


def services(report: Report) -> Element:
    """Each service by itself."""
    about = About("services", reading.title(report, "services"), reading.services(report))
    named = [each for each in report.funnel if each.service != "(all)"]
    if not named:
        return _section(about, None, [])
    series = [("fill-3", "cases that name it"), ("fill-2", "initiated"), ("fill-1", "resolved")]
    bars = [
        Row(each.service, (each.cases, each.initiated, each.resolved), _resolved(each), _all_of(each))
        for each in named[:_MOST_BARS]
    ]
    heads = ("service", "cases", "initiated", "resolved", "completed", "rejected", "expired", "still open")
    figures = table(
        "Cases by service",
        heads,
        [(each.service, *(f"{n:,}" for n in (each.cases, each.initiated, each.resolved)), *_outcomes(each)) for each in named],
    )
    more = report.services_left_out
    left_out = [element("p", {"class": "note"}, f"{more:,} services with fewer cases are left out.")] if more else []
    return _section(about, bar_chart(about, bars, series, stacked=False), [folded("Figures", figures), *left_out])


def ageing(report: Report) -> Element:
    """Open cases by age."""
    about = About("ageing", reading.title(report, "ageing"), reading.ageing(report))
    if not any(each.cases for each in report.ageing):
        return _section(about, None, [])
    bars = [
        Row(
            f"{each.bucket} days",
            (each.open, each.awaiting_resubmission),
            f"{each.cases:,}",
            f"{each.bucket} days: {each.open:,} open, {each.awaiting_resubmission:,} awaiting a resubmission",
        )
        for each in report.ageing
    ]
    figures = table(
        "Open cases by age",
        ("days", "open", "awaiting resubmission", "past deadline", "age from an embedded time"),
        [
            (each.bucket, *(f"{n:,}" for n in (each.open, each.awaiting_resubmission, each.past_deadline, each.embedded)))
            for each in report.ageing
        ],
    )
    series = [("fill-1", "open"), ("fill-4", "awaiting a resubmission")]
    return _section(about, bar_chart(about, bars, series, stacked=True), [folded("Figures", figures)])


def duplicates(report: Report) -> Element:
    """Deliveries by hour."""
    about = About("duplicates", reading.title(report, "duplicates"), reading.duplicates(report))
    if not report.deliveries:
        return _section(about, None, [])
    width = timedelta(hours=report.bucket_hours)
    first = report.deliveries[0].start.replace(hour=0)
    columns = [Column(each.start, (each.new, each.duplicates, each.quarantined)) for each in report.deliveries]
    chart = column_chart(
        about,
        columns,
        [("fill-2", "new"), ("fill-4", "duplicates"), ("fill-5", "quarantined")],
        first=first,
        last=max(report.made_at, columns[-1].start + width),
        width=width,
    )
    per = reading.stretch(report)
    figures = table(
        f"The {per}s with most duplicates",
        (per, "deliveries", "duplicates", "share", "quarantined"),
        [
            (
                reading.beginning(report, each),
                f"{each.deliveries:,}",
                f"{each.duplicates:,}",
                reading.percent(each.duplicates, each.deliveries),
                f"{each.quarantined:,}",
            )
            for each in reading.most_duplicates(report)
        ],
    )
    return _section(about, chart, [folded(f"The {per}s with most duplicates", figures)])


def tenants(report: Report) -> Element:
    """All tenants in a table."""
    figures = table(
        "Percentiles are of measured cases that closed in this period.",
        ("tenant", "opened", "closed", "open now", "median", "p90", "p99"),
        [
            (
                each.tenant,
                *(f"{n:,}" for n in (each.opened, each.closed, each.open)),
                *(_known(n) for n in (each.p50, each.p90, each.p99)),
            )
            for each in report.tenants
        ],
    )
    return element("section", {"id": "tenants-section"}, element("h2", None, "Tenants"), scrolled(figures))


def table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Element:
    """A table whose first column names its rows."""
    return element(
        "table",
        None,
        element("caption", None, caption),
        element("thead", None, element("tr", None, *(element("th", {"scope": "col"}, head) for head in heads))),
        element(
            "tbody",
            None,
            *(
                element("tr", None, element("th", {"scope": "row"}, row[0]), *(element("td", None, cell) for cell in row[1:]))
                for row in rows
            ),
        ),
    )


def folded(summary: str, figures: Element) -> Element:
    """A table that opens when one asks for it."""
    return element("details", None, element("summary", None, summary), scrolled(figures))


def scrolled(figures: Element) -> Element:
    """So that a wide table does not make the page wide; the keyboard can scroll it."""
    return element(
        "div", {"class": "scrolled", "tabindex": "0", "role": "region", "aria-label": figures[0].text or ""}, figures
    )


def _section(about: About, chart: Element | None, figures: Sequence[Element]) -> Element:
    shown = [element("div", {"class": "drawing"}, chart), *figures] if chart is not None else []
    heading = element("h2", {"id": f"{about.key}-heading"}, about.title)
    look = "said" if chart is not None else "said empty"
    return element(
        "section",
        {"aria-labelledby": f"{about.key}-heading"},
        heading,
        element("p", {"class": look}, about.description),
        *shown,
    )


def _part_name(part: str, service: str) -> str:
    return {"case": "case: opening to close", "kyb": "KYB half", "kyc": "KYC half"}.get(part, f"service {service}")


def _spread(spread: Spread) -> tuple[str, ...]:
    return (f"{spread.count:,}", *(duration(seconds) for seconds in (spread.p50, spread.p90, spread.p99)))


def _known(seconds: float | None) -> str:
    return reading.NONE if seconds is None else duration(seconds)


def _interval(lower: float | None, upper: float | None) -> str:
    return reading.NONE if lower is None or upper is None else f"{lower:.1%} to {upper:.1%}"


def _resolved(each: Funnel) -> str:
    return f"{reading.percent(each.resolved, each.cases)} of {each.cases:,} resolved"


def _all_of(each: Funnel) -> str:
    return f"{each.service}: {each.cases:,} cases, {each.initiated:,} initiated, {each.resolved:,} resolved"


def _outcomes(each: Funnel) -> tuple[str, ...]:
    return tuple(f"{count:,}" for count in (each.completed, each.rejected, each.expired, each.still_open))
