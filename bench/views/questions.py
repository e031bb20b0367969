"""What is asked of each view: what a person would ask.

Most views are small however much lies below them (a row a day, tenant and source, say) and are asked whole. Those with a row
for each case, event or duration are asked what an analyst asks of them; nobody reads two million rows.
"""

from __future__ import annotations

from dataclasses import dataclass

from sinks.migrate import views

_WHOLE = "whole"
_MEDIANS = (
    "SELECT part, opened_at_source, minIf(seconds, survival <= 0.5) AS median_seconds, countIf(survival <= 0.5) > 0 "
    "AS is_known FROM case_latency_survival"
)
_ASKED = {
    "current_cases": {
        "one case": "SELECT * FROM current_cases WHERE case_id = '{case_id}'",
        "newest 100": "SELECT * FROM current_cases ORDER BY updated_at DESC LIMIT 100",
        "percentiles by month": (
            "SELECT toStartOfMonth(closed_at, 'UTC') AS month, quantilesExactInclusive(0.5, 0.9, 0.95, 0.99)"
            "(dateDiff('second', opened_at, closed_at)) AS seconds FROM current_cases WHERE closed_at IS NOT NULL "
            "AND opened_at_source IN ('event', 'link') GROUP BY month ORDER BY month"
        ),
    },
    "event_log": {
        "one case": "SELECT * FROM event_log WHERE `case:concept:name` = '{case_id}' ORDER BY `time:timestamp`, tie_rank",
        "one day": "SELECT * FROM event_log WHERE toDate(`time:timestamp`, 'UTC') = toDate('{day}')",
        "1,000 rows": "SELECT * FROM event_log WHERE `case:tenant` = 'acme' LIMIT 1000",
    },
    "case_latency": {
        "cases by day": (
            "SELECT day, opened_at_source, cases, p50_seconds, p90_seconds, p95_seconds, p99_seconds FROM case_latency "
            "WHERE service = '(all)' AND part = 'case' ORDER BY day, opened_at_source"
        ),
        "one service": "SELECT * FROM case_latency WHERE service = 'aml' AND part = 'service' ORDER BY day",
        "last 90 days": "SELECT * FROM case_latency WHERE day >= today() - 90",
        _WHOLE: "SELECT * FROM case_latency",
    },
    "case_latency_survival": {
        "medians of cases": f"{_MEDIANS} WHERE service = '(all)' AND part = 'case' GROUP BY part, opened_at_source",
        "medians of all parts": f"{_MEDIANS} WHERE service = '(all)' GROUP BY part, opened_at_source",
        "of one tenant": f"{_MEDIANS} WHERE service = '(all)' AND tenant = 'gamma' GROUP BY part, opened_at_source",
    },
}


@dataclass(frozen=True)
class Question:
    """One query of a view; `sql` may name `{case_id}`, a case that there is, and `{day}`, a day with events."""

    view: str
    name: str
    sql: str


def questions() -> list[Question]:
    """All of them, at least one a view, by view."""
    found = []
    for view in sorted(name for name, _ in views()):
        asked = _ASKED.get(view, {_WHOLE: f"SELECT * FROM {view}"})  # noqa: S608 (a name of ours)
        found += [Question(view, name, sql) for name, sql in asked.items()]
    return found
