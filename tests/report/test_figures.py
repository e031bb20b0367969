"""The figures of a report against small histories counted by hand, against the views, and against numpy."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from kybstream.operations.report.asking import make_report
from kybstream.operations.report.figures import Report, SurvivalStep
from kybstream.operations.report.statements import TABLE_SECONDS
from kybstream.settings import ClickHouseSettings
from schemas.records import Case, Service
from tests.report.history import land_history
from tests.sinks.making import DAY, at, case, delivery, land, rows

NOW = datetime.now(UTC)


async def _report(clickhouse: ClickHouseSettings, *, days: int = 30, tenant: str | None = None) -> Report:
    made_at = datetime.now(UTC)
    return await make_report(clickhouse, since=(made_at - timedelta(days=days)).date(), made_at=made_at, tenant=tenant)


async def _march(clickhouse: ClickHouseSettings, tenant: str | None = None) -> Report:
    """From the start of DAY on, however long ago that is."""
    return await make_report(clickhouse, since=DAY.date(), made_at=at(days=20), tenant=tenant)


def _closed(case_id: str, days: float, **fields: object) -> Case:
    closed_at = at(days=days)
    made: dict[str, object] = {
        "outcome": "completed",
        "kyb_status": "resolved",
        "kyb_initiated_at": at(hours=1),
        "kyb_resolved_at": closed_at,
        "kyc_first_result_at": closed_at,
        "kyc_final_at": closed_at,
        "closed_at": closed_at,
    }
    return case(case_id, **made | fields)


async def test_percentiles_by_hand(clickhouse: ClickHouseSettings) -> None:
    """Over all tenants at once, of measured cases, by the day they closed; the others apart; earlier ones not at all."""
    aml = Service(name="aml", initiated_at=at(hours=2), resolved_at=at(hours=5))
    await land(
        clickhouse,
        [
            _closed("a", 1, services=(aml, Service(name="open", initiated_at=at(hours=2)))),
            _closed("b", 1, tenant="other", opened_at=at(hours=12), opened_at_source="link"),
            _closed("c", 4, tenant="other"),
            _closed("d", 4, opened_at_source="first_receipt"),
            _closed("e", -1, opened_at=at(days=-2), kyb_initiated_at=at(days=-2)),
            case("open"),
        ],
    )
    report = await _march(clickhouse)
    days = [(each.day.day, each.count, each.p50 / 3600, each.p90 / 3600) for each in report.latency]
    assert days == [(11, 2, 18, pytest.approx(22.8)), (14, 1, 96, 96)]
    parts = {(each.part, each.service, each.measured): (each.count, each.p50 / 3600) for each in report.parts}
    assert parts == {
        ("case", "", True): (3, 24),
        ("case", "", False): (1, 96),
        ("kyb", "", True): (4, 59),  # 23, 23, 95, 95 hours from the initiation, which was received
        ("kyc", "", True): (3, 24),
        ("kyc", "", False): (1, 96),
        ("service", "aml", True): (1, 3),
    }
    assert [(each.tenant, each.opened, each.closed, each.open) for each in report.tenants] == [
        ("acme", 3, 2, 1),
        ("other", 2, 2, 0),
    ]
    assert (report.straight_through.closed, report.straight_through.straight_through) == (4, 4)

    of_one = await _march(clickhouse, "other")
    assert [(each.day.day, each.count, each.p50 / 3600) for each in of_one.latency] == [(11, 1, 12), (14, 1, 96)]
    assert (of_one.tenants, of_one.funnel[0].cases) == ([], 2)


async def test_a_tenant_sees_nothing_of_others(clickhouse: ClickHouseSettings) -> None:
    """Not a case, not a delivery, not a sum; a tenant of any name is only compared."""
    await land_history(clickhouse, NOW, cases=40, tenants=("acme", "globex"))
    assert not (await _report(clickhouse, tenant="acme")).is_empty
    for name in ("nobody", "x' OR '1'='1", "\\'; DROP TABLE cases --"):
        report = await _report(clickhouse, tenant=name)
        assert report.is_empty
        lists = (report.latency, report.parts, report.funnel, report.deliveries, report.tenants, report.survival.steps)
        assert [len(each) for each in lists] == [0] * 6
        assert (report.straight_through.closed, sum(each.cases for each in report.ageing)) == (0, 0)


async def test_survival_by_hand(clickhouse: ClickHouseSettings) -> None:
    """Closed after 1 and 3 days, given up after 2 (its deadline), open for 4: 3/4, then 3/8 of all; half is over at day 3."""
    await land(
        clickhouse,
        [
            _closed("a", 1),
            case("expired", outcome="expired", deadline_at=at(days=2)),
            _closed("b", 3),
            case("open"),
            _closed("unmeasured", 1, opened_at_source="id_embedded"),
            case("before", opened_at=at(days=-1)),
        ],
    )
    curve = (await _march(clickhouse)).survival
    assert (curve.cases, curve.closed, curve.p50, curve.p90) == (4, 2, 3 * 86_400, None)
    steps = [(round(each.seconds / 86_400, 1), each.survival, each.left) for each in curve.steps]
    assert steps[:3] == [(1, 0.75, 3), (2, 0.75, 2), (3, 0.375, 1)]
    assert steps[-1][1:] == (0.375, 0)
    first = curve.steps[0]
    assert [first.lower, first.upper] == pytest.approx([0.128, 0.961], abs=5e-4)
    assert curve.at(3_600) == SurvivalStep(0.0, 1.0, None, None, 4)
    assert curve.at(86_400) == first
    assert curve.at(curve.steps[-1].seconds + 1) is None


async def test_survival_is_the_views(clickhouse: ClickHouseSettings) -> None:
    """For one tenant and one kind of opening each step is one of the view's, and no time of the table is left out."""
    history = [
        _closed(f"c{number}", number * number / 500, opened_at=DAY, kyb_initiated_at=DAY)
        if number % 7
        else case(f"c{number}", outcome="expired", deadline_at=at(days=number * number / 500))
        for number in range(1, 300)
    ]
    await land(clickhouse, history)
    curve = (await _march(clickhouse, "acme")).survival
    sql = "SELECT * FROM case_latency_survival WHERE part = 'case' ORDER BY seconds"
    view = {row["seconds"]: row for row in await rows(clickhouse, sql, final=False)}
    assert 150 < len(curve.steps) < len(view) == 299
    for step in curve.steps:
        row = view[step.seconds]
        assert (step.survival, step.lower, step.upper) == (row["survival"], row["survival_lower_95"], row["survival_upper_95"])
    for seconds in TABLE_SECONDS:
        before = [float(str(each)) for each in view if float(str(each)) <= seconds]
        if before:
            found = curve.at(seconds)
            assert found is not None
            assert found.seconds == max(before)
    assert curve.p50 == min(float(str(key)) for key, row in view.items() if float(str(row["survival"])) <= 0.5)


async def test_percentiles_by_numpy(clickhouse: ClickHouseSettings) -> None:
    """Many cases of three tenants: as numpy computes them of all durations, and the days add up."""
    await land_history(clickhouse, NOW, cases=500, tenants=("a", "b", "c"))
    report = await _report(clickhouse)
    sql = (
        "SELECT dateDiff('microsecond', opened_at, closed_at) / 1e6 AS seconds, toDate(closed_at) AS day FROM current_cases "
        "WHERE closed_at IS NOT NULL AND opened_at_source IN ('event', 'link')"
    )
    found = await rows(clickhouse, sql, final=False)
    seconds = [float(str(row["seconds"])) for row in found if str(row["day"]) >= report.since.isoformat()]
    whole = report.part("case")
    assert whole is not None
    assert [whole.p50, whole.p90, whole.p99] == pytest.approx(list(np.quantile(seconds, [0.5, 0.9, 0.99])))
    assert sum(each.count for each in report.latency) == whole.count == len(seconds)
    assert sum(each.closed for each in report.tenants) == report.straight_through.closed
    assert sum(each.opened for each in report.tenants) == report.funnel[0].cases
    assert sum(each.open for each in report.tenants) == sum(each.cases for each in report.ageing)


async def test_funnel_and_ageing_by_hand(clickhouse: ClickHouseSettings) -> None:
    """All cases first, then services by how many name them; open cases whenever they were opened, in all four buckets."""
    aml, documents = Service(name="aml", initiated_at=DAY, resolved_at=at(days=1)), Service(name="documents", initiated_at=DAY)
    await land(
        clickhouse,
        [
            _closed("a", 1, services=(aml, documents), linked_at=DAY),
            case("b", services=(aml,), opened_at=NOW - timedelta(days=4), opened_at_source="id_embedded", deadline_at=NOW),
            case("c", tenant="other", outcome="awaiting_resubmission", opened_at=NOW - timedelta(days=400)),
        ],
    )
    report = await _march(clickhouse)
    assert [(each.service, each.cases, each.initiated, each.resolved, each.completed) for each in report.funnel] == [
        ("(all)", 2, 1, 1, 1),
        ("aml", 2, 2, 2, 1),
        ("documents", 1, 1, 0, 1),
    ]
    found = [(each.bucket, each.open, each.awaiting_resubmission, each.past_deadline, each.embedded) for each in report.ageing]
    assert found == [("0-2", 0, 0, 0, 0), ("3-10", 1, 0, 1, 1), ("11-30", 0, 0, 0, 0), ("31+", 0, 1, 1, 0)]
    assert report.ageing[3].oldest_opened_at == NOW - timedelta(days=400)


async def test_deliveries_by_hour_and_by_day(clickhouse: ClickHouseSettings) -> None:
    """Each delivery once, in the hour of its receipt; by the day when the period is long."""
    found = [
        delivery(1, received_at=at(hours=1)),
        delivery(2, received_at=at(hours=1, minutes=59), verdict="duplicate", tenant="other"),
        delivery(3, received_at=at(hours=2), verdict="quarantined"),
        delivery(4, received_at=at(days=-1)),
    ]
    await land(clickhouse, found)
    await land(clickhouse, found[:2])
    hours = [
        (each.start.hour, each.deliveries, each.new, each.duplicates, each.quarantined)
        for each in (await _march(clickhouse)).deliveries
    ]
    assert hours == [(1, 2, 1, 1, 0), (2, 1, 0, 0, 1)]
    of_one = await _march(clickhouse, "other")
    assert [(each.start, each.duplicates) for each in of_one.deliveries] == [(at(hours=1), 1)]
    [day] = (await make_report(clickhouse, since=DAY.date(), made_at=at(days=90), tenant=None)).deliveries
    assert (day.start, day.deliveries, day.duplicates) == (DAY, 3, 1)
    sql = "SELECT * FROM duplicates_hourly ORDER BY hour, tenant"
    assert [tuple(row.values()) for row in await rows(clickhouse, sql, final=False)] == [
        ("2026-03-09T00:00:00Z", "acme", "kyb", 1, 0, 0, 0),
        ("2026-03-10T01:00:00Z", "acme", "kyb", 1, 0, 0, 0),
        ("2026-03-10T01:00:00Z", "other", "kyb", 1, 1, 0, 1),
        ("2026-03-10T02:00:00Z", "acme", "kyb", 1, 0, 1, 0),
    ]


@pytest.mark.parametrize(("days", "starts"), [(30, ["2026-03-12", "2026-03-15"]), (90, ["2026-03-10"]), (600, ["2026-03-10"])])
async def test_long_periods_are_told_by_week_and_month(clickhouse: ClickHouseSettings, days: int, starts: list[str]) -> None:
    """Weeks begin on Monday and months on their first, but not before the period does."""
    await land(clickhouse, [_closed("a", 2), _closed("b", 5)])
    report = await make_report(clickhouse, since=DAY.date(), made_at=at(days=days), tenant=None)
    assert [f"{each.day:%Y-%m-%d}" for each in report.latency] == starts
