"""What the figures say, in sentences: the same on the terminal, on the page and for those who hear the page."""

from __future__ import annotations

from datetime import UTC

from kybstream.charts.scales import duration
from kybstream.operations.report.figures import Deliveries, Funnel, Report, Spread

NONE = "\N{EN DASH}"
"""Stands where there is no figure."""

_TITLES = {
    "latency": "How long closed cases took",
    "survival": "Counting open cases too: share of cases still open",
    "funnel": "How far cases came",
    "services": "Where they get stuck: services",
    "ageing": "What is open now, by age",
    "duplicates": "Repeated deliveries by {stretch}",
}


def title(report: Report, key: str) -> str:
    """The title of a section."""
    return _TITLES[key].format(stretch=stretch(report))


def heading(report: Report) -> str:
    """Whose cases, and of when."""
    return f"{report.tenant or 'all tenants'}, {report.since:%Y-%m-%d} to {report.made_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def key_figures(report: Report) -> list[tuple[str, str, str]]:
    """Name, figure and what it counts, of the few that matter most."""
    whole, spread = _whole(report), report.part("case")
    straight, closed = report.straight_through.straight_through, report.straight_through.closed
    deliveries = sum(each.deliveries for each in report.deliveries)
    duplicates = sum(each.duplicates for each in report.deliveries)
    return [
        ("opened", f"{whole.cases if whole else 0:,}", "in this period"),
        ("closed", f"{closed:,}", "in this period"),
        ("open now", f"{_open(report):,}", "whenever opened"),
        ("median time", duration(spread.p50) if spread else NONE, "half close within"),
        ("p90 time", duration(spread.p90) if spread else NONE, "nine of ten close within"),
        ("straight through", percent(straight, closed), "of closed cases"),
        ("duplicates", percent(duplicates, deliveries), f"of {deliveries:,} deliveries"),
    ]


def latency(report: Report) -> str:
    """Closed cases."""
    spread, other = report.part("case"), report.part("case", measured=False)
    told = _spread(spread) if spread else "No case with a measured opening closed in this period."
    if other:
        told += (
            f" {other.count:,} more closed whose true opening is not known (median {duration(other.p50)} from an embedded time"
            " or the first receipt); not in these figures."
        )
    return told


def survival(report: Report) -> str:
    """All cases opened in the period, the open ones included."""
    curve = report.survival
    if not curve.steps:
        return "No case with a measured opening was opened in this period."
    half = (
        f"half of them are closed within {duration(curve.p50)}"
        if curve.p50 is not None
        else "less than half of them are closed yet"
    )
    nine = (
        f", nine of ten within {duration(curve.p90)}"
        if curve.p90 is not None
        else ", and when nine of ten will be is not yet known"
    )
    return (
        f"{_cases(curve.cases)} opened in this period, {curve.closed:,} of them closed. Each open one counts for as long as it "
        f"has been open: {half}{nine if curve.p50 is not None else ''}. (Kaplan-Meier. Closed cases alone look quicker.)"
    )


def funnel(report: Report) -> str:
    """The cases as a whole."""
    whole = _whole(report)
    if whole is None:
        return "No case was opened in this period."
    return (
        f"Of {_cases(whole.cases)} opened in this period, {percent(whole.completed, whole.cases)} are completed, "
        f"{percent(whole.rejected, whole.cases)} rejected, {percent(whole.expired, whole.cases)} expired and "
        f"{percent(whole.still_open, whole.cases)} still open."
    )


def services(report: Report) -> str:
    """The service that is least resolved."""
    named = [each for each in report.funnel if each.service != "(all)"]
    if not named:
        return "No case of this period names a service."
    worst = max(named, key=lambda each: each.cases - each.resolved)
    if worst.cases == worst.resolved:
        return "Every service of every case is resolved. Resolved is not approved: the verdict is not in the webhook."
    return (
        f"Most unresolved: {worst.service}, in {worst.cases - worst.resolved:,} of {_cases(worst.cases)}. "
        "Resolved is not approved: the verdict is not in the webhook."
    )


def ageing(report: Report) -> str:
    """What is open now."""
    open_now = _open(report)
    if not open_now:
        return "No case is open."
    told = f"{_cases(open_now)} {'is' if open_now == 1 else 'are'} open now, {report.ageing[-1].cases:,} for more than 30 days."
    oldest = min(each.oldest_opened_at for each in report.ageing if each.oldest_opened_at is not None)
    told += f" The oldest was opened on {oldest:%Y-%m-%d}."
    late = sum(each.past_deadline for each in report.ageing)
    return told + (f" {late:,} past the deadline." if late else "")


def duplicates(report: Report) -> str:
    """Deliveries that came again."""
    if not report.deliveries:
        return "Nothing was delivered in this period."
    worst = most_duplicates(report)[:1]
    total = sum(each.deliveries for each in report.deliveries)
    repeats = sum(each.duplicates for each in report.deliveries)
    told = f"{total:,} deliveries, {repeats:,} of them repeats ({percent(repeats, total)})."
    if worst and worst[0].duplicates:
        told += f" Most in one {stretch(report)}: {worst[0].duplicates:,}, {beginning(report, worst[0])} UTC."
    return told


def most_duplicates(report: Report, most: int = 10) -> list[Deliveries]:
    """The stretches with most repeats, the worst first."""
    return sorted((each for each in report.deliveries if each.duplicates), key=lambda each: (-each.duplicates, each.start))[
        :most
    ]


def beginning(report: Report, each: Deliveries) -> str:
    """When a stretch begins: a day needs no time of day."""
    return f"{each.start:%Y-%m-%d %H:%M}" if report.bucket_hours == 1 else f"{each.start:%Y-%m-%d}"


def stretch(report: Report) -> str:
    """What each of `report.deliveries` stands for."""
    return "hour" if report.bucket_hours == 1 else "day"


def funnel_steps(whole: Funnel) -> list[tuple[str, int]]:
    """Steps of a case, and how many cases came so far."""
    return [
        ("opened", whole.cases),
        ("KYB initiated", whole.initiated),
        ("KYB resolved", whole.resolved),
        ("linked to a person", whole.linked),
        ("KYC result received", whole.kyc_received),
        ("KYC result final", whole.kyc_final),
        ("completed", whole.completed),
    ]


def percent(part: int, whole: int) -> str:
    """A share; a dash when there is nothing to be a share of. Never 0 % of something, nor all of it when some is missing."""
    if not whole:
        return NONE
    share = part / whole
    if 0 < share < 0.0005:  # noqa: PLR2004 (what would be shown as 0.0 %)
        return "under 0.1 %"
    if 0.9995 <= share < 1:  # noqa: PLR2004 (what would be shown as 100.0 %)
        return "over 99.9 %"
    return f"{share:.1%}".replace("%", " %").replace(".0 %", " %")


def _spread(spread: Spread) -> str:
    if spread.count == 1:
        return f"One case closed, after {duration(spread.p50)}."
    return (
        f"Of {_cases(spread.count)} that closed, half took no longer than {duration(spread.p50)}, nine of ten no longer than "
        f"{duration(spread.p90)}, and 99 of 100 no longer than {duration(spread.p99)}."
    )


def _cases(count: int) -> str:
    return "1 case" if count == 1 else f"{count:,} cases"


def _whole(report: Report) -> Funnel | None:
    return next((each for each in report.funnel if each.service == "(all)"), None)


def _open(report: Report) -> int:
    return sum(each.cases for each in report.ageing)
