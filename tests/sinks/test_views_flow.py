"""`sla_status`, `throughput_daily`, `funnel_by_service` and `straight_through_rate`: figures computed by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from kybstream.settings import ClickHouseSettings
from schemas.providers.body import Json
from schemas.providers.kyb import read_kyb
from schemas.records import Service
from tests.sinks.making import at, case, land, rows


async def test_sla_status_by_hand(clickhouse: ClickHouseSettings) -> None:
    """Closed exactly at the target's end is met, a microsecond later is not; what is open is within, at risk or breached."""
    now = datetime.now(UTC)
    opened = {name: now - timedelta(hours=hours) for name, hours in (("within", 1), ("at risk", 21), ("breached", 25))}
    late = at(hours=24, microseconds=1)
    await land(
        clickhouse,
        [
            case("met", outcome="completed", closed_at=at(hours=24)),
            case("missed", outcome="rejected", closed_at=late),
            case("expired", outcome="expired", deadline_at=at(hours=2)),
            case("reopened", version=1, outcome="completed", closed_at=at(hours=1)),
            *(
                case(name, opened_at=time, opened_at_source="link", deadline_at=time + timedelta(hours=24))
                for name, time in opened.items()
            ),
        ],
    )
    await land(clickhouse, [case("reopened", version=2)])
    sql = (
        "SELECT opened_at_source, target_hours, sum(cases), sum(met), sum(breached_closed), sum(breached_open), sum(at_risk), "
        "sum(within), avg(met_rate) FROM sla_status "
        "WHERE service = '(all)' AND (target_hours IN (24, 48) OR target_hours IS NULL) "
        "GROUP BY opened_at_source, target_hours ORDER BY opened_at_source, target_hours NULLS LAST"
    )
    found = [tuple(row.values()) for row in await rows(clickhouse, sql, final=False)]
    # The case that expired and the one that was opened again were not closed, long ago.
    by_event = {target: figures for source, target, *figures in found if source == "event"}
    assert by_event[24] == [4, 1, 1, 2, 0, 0, 1 / 4]
    assert by_event[48] == [4, 2, 0, 2, 0, 0, 2 / 4]
    assert by_event[None][:3] == [4, 2, 0]  # 90 days
    by_link = [(target, *figures[:6]) for source, target, *figures in found if source == "link"]
    assert by_link == [(24, 3, 0, 0, 1, 1, 1), (48, 3, 0, 0, 0, 0, 3), (None, 3, 0, 0, 1, 1, 1)]


async def test_sla_status_by_service_and_undecided(clickhouse: ClickHouseSettings) -> None:
    """A case counts under each of its services; a rate of nothing is null."""
    now = datetime.now(UTC)
    services = (Service(name="aml"), Service(name="kyc"))
    await land(clickhouse, [case("c", opened_at=now, services=services)])
    sql = "SELECT service, cases, within, met_rate FROM sla_status WHERE target_hours = 72 ORDER BY service"
    assert await rows(clickhouse, sql, final=False) == [
        {"service": name, "cases": 1, "within": 1, "met_rate": None} for name in ("(all)", "aml", "kyc")
    ]


@pytest.mark.parametrize("time_zone", ["UTC", "Asia/Tokyo"])
async def test_throughput_by_hand(clickhouse: ClickHouseSettings, time_zone: str) -> None:
    """Two days with something on them, none between: opened, closed, expired and left open; midnight begins a day."""
    await land(
        clickhouse,
        [
            case("c1", outcome="completed", closed_at=at(hours=23, minutes=59, seconds=59, microseconds=999_999)),
            case("c2", outcome="rejected", closed_at=at(days=2)),
            case("c3", opened_at_source="id_embedded", outcome="expired", deadline_at=at(days=2, hours=1)),
            case("c4", version=1, outcome="completed", closed_at=at(hours=1)),
            case("c5", opened_at=at(days=2), opened_at_source="first_receipt"),
            case("other", tenant="other"),
        ],
    )
    await land(clickhouse, [case("c4", version=2)])  # opened again
    sql = f"SELECT * FROM throughput_daily ORDER BY tenant, day SETTINGS session_timezone = '{time_zone}'"  # noqa: S608
    assert [tuple(row.values()) for row in await rows(clickhouse, sql, final=False)] == [
        # day, tenant, opened, unmeasured, completed, rejected, expired, open at its end
        ("2026-03-10", "acme", 4, 1, 1, 0, 0, 3),
        ("2026-03-12", "acme", 1, 1, 0, 1, 1, 2),
        ("2026-03-10", "other", 1, 0, 0, 0, 0, 1),
    ]


async def test_funnel_by_hand(clickhouse: ClickHouseSettings) -> None:
    """Three cases of a day: one went all the way, one is resolved without an initiation and rejected, one waits."""
    both = {"initiated_at": at(seconds=1), "resolved_at": at(seconds=9)}
    done = {
        "kyb_status": "resolved",
        "kyc_first_result_at": at(seconds=5),
        "kyc_final_at": at(seconds=5),
        "closed_at": at(seconds=9),
    }
    await land(
        clickhouse,
        [
            case(
                "whole",
                outcome="completed",
                services=(Service(name="aml", **both), Service(name="kyb_check", **both)),
                kyb_initiated_at=at(seconds=1),
                linked_at=at(seconds=2),
                **done,
            ),
            case(
                "no initiation",
                outcome="rejected",
                opened_at_source="id_embedded",
                services=(Service(name="aml", resolved_at=at(seconds=9)),),
                **done,
            ),
            case(
                "waits",
                outcome="awaiting_resubmission",
                services=(Service(name="aml", initiated_at=at(seconds=1)),),
                kyb_initiated_at=at(seconds=1),
                linked_at=at(seconds=1),
                kyc_first_result_at=at(seconds=5),
            ),
            case("expired", outcome="expired"),
        ],
    )
    found = await rows(clickhouse, "SELECT * EXCEPT (day, tenant) FROM funnel_by_service ORDER BY service", final=False)
    assert [tuple(row.values()) for row in found] == [
        # service, cases, initiated, resolved, linked, kyc received, kyc final, completed, rejected, expired, still open
        ("(all)", 4, 2, 2, 2, 3, 2, 1, 1, 1, 1),
        ("aml", 3, 2, 2, 2, 3, 2, 1, 1, 0, 1),
        ("kyb_check", 1, 1, 1, 1, 1, 1, 1, 0, 0, 0),
    ]


async def test_straight_through_rate_by_hand(clickhouse: ClickHouseSettings) -> None:
    """Of six closed cases two needed no second look; what another needed is told, and one can need several."""
    closed = {"outcome": "completed", "closed_at": at(hours=2)}
    await land(
        clickhouse,
        [
            case("straight", services=(Service(name="aml"),), **closed),
            case("in two steps", version=2, **closed),
            case("in two steps", version=3, **closed),  # a later event that changed nothing
            case("rejected", **closed | {"outcome": "rejected"}),
            case("resubmitted", resubmissions=1, anomalies=("kyc_regression",), **closed),
            case("odd", anomalies=("link_service_id_mismatch",), **closed),
            case("reopened", version=1, **closed | {"closed_at": at(hours=1)}),
            case("reopened", version=2),
            case("reopened", version=3, **closed),
            case("open"),
            case("expired", outcome="expired"),
        ],
    )
    found = await rows(clickhouse, "SELECT * FROM straight_through_rate ORDER BY service", final=False)
    assert [tuple(row.values()) for row in found] == [
        # closed, straight through, rejected, resubmitted, reopened, with anomalies
        ("2026-03-10", "acme", "(all)", 6, 2, 1, 1, 1, 2, 2 / 6),
        ("2026-03-10", "acme", "aml", 1, 1, 0, 0, 0, 0, 1),
    ]


async def test_a_service_named_as_the_totals_counts_once(clickhouse: ClickHouseSettings) -> None:
    """What a body calls `(all)` has a row of its own in every view that has totals, and the totals count its case once."""
    services = tuple(Service(name=name, initiated_at=at(), resolved_at=at(hours=1)) for name in named_in(["(all)", "kyc"]))
    closed = {"outcome": "completed", "kyb_status": "resolved", "closed_at": at(hours=1), "kyb_resolved_at": at(hours=1)}
    await land(clickhouse, [case("c", services=services, kyb_initiated_at=at(), **closed)])
    for view, count, only in (
        ("case_latency", "max(cases)", "part IN ('case', 'service')"),
        ("case_latency_survival", "max(at_risk)", "part IN ('case', 'service')"),
        ("funnel_by_service", "sum(cases)", "1"),
        ("sla_status", "sum(cases)", "target_hours = 72"),
        ("straight_through_rate", "sum(closed)", "1"),
    ):
        sql = f"SELECT service, {count} AS counted FROM {view} WHERE {only} GROUP BY service ORDER BY service"  # noqa: S608
        found = {row["service"]: row["counted"] for row in await rows(clickhouse, sql, final=False)}
        assert found == {"(all)": 1, "((all))": 1, "kyc": 1}, view


def named_in(services: list[str]) -> tuple[str, ...]:
    """The services of a body, as a case has them."""
    return read_kyb({"services": list[Json](services)}, at()).services
