from __future__ import annotations

from datetime import UTC, datetime, timedelta

from kybstream.settings import ClickHouseSettings
from schemas.records import Record, Service
from sinks.query import query
from tests.sinks.making import at, case, delivery, land, rows

_MARCH_10 = "2026-03-10"


def _closed(case_id: str, seconds: float, **fields: object) -> Record:
    return case(
        case_id,
        version=2,
        outcome="completed",
        kyb_status="resolved",
        kyc_status="success",
        kyb_initiated_at=at(seconds=1),
        kyb_resolved_at=at(seconds=seconds),
        kyc_final_at=at(seconds=seconds / 2),
        closed_at=at(seconds=seconds),
        **fields,
    )


async def test_current_cases_are_the_newest_versions_without_merged_ones(clickhouse: ClickHouseSettings) -> None:
    """Of several versions, and of one version that landed twice, one row; of a merged case none; tenants apart."""
    await land(
        clickhouse,
        [
            case("c1", version=1),
            case("c1", version=3, outcome="completed", closed_at=at(hours=1)),
            case("c1", version=2),
            case("c1", version=1, tenant="other"),
            case("kyc:p", version=1, match_state="kyc_only"),
            case("kyc:p", version=2, match_state="kyc_only", outcome="merged", merged_into="c1"),
        ],
    )
    await land(clickhouse, [case("c1", version=3, outcome="rejected", closed_at=at(hours=1))])
    found = await rows(clickhouse, "SELECT tenant, case_id, version, outcome FROM current_cases ORDER BY tenant", final=False)
    assert found == [
        {"tenant": "acme", "case_id": "c1", "version": 3, "outcome": "rejected"},
        {"tenant": "other", "case_id": "c1", "version": 1, "outcome": "open"},
    ]


async def test_case_latency_by_hand(clickhouse: ClickHouseSettings) -> None:
    """Five closed cases of 10, 20, 30, 40 and 100 s: mean 40, median 30, p90 76, p95 88, p99 97.6; open ones do not count."""
    aml = Service(name="aml", initiated_at=at(seconds=2), resolved_at=at(seconds=8))
    half_open = Service(name="documents", initiated_at=at(seconds=2))
    await land(
        clickhouse,
        [
            _closed("c1", 10, services=(aml, half_open)),
            _closed("c2", 20, opened_at_source="link"),
            _closed("c3", 30, opened_at_source="id_embedded"),
            _closed("c4", 40, opened_at_source="first_receipt"),
            _closed("c5", 100),
            _closed("late", 86_400 + 7),
            case("open"),
        ],
    )
    found = await rows(clickhouse, "SELECT * FROM case_latency ORDER BY day, service, part", final=False)
    whole = {row["part"]: row for row in found if row["service"] == "(all)" and row["day"] == _MARCH_10}
    assert whole["case"] == {
        "day": _MARCH_10,
        "tenant": "acme",
        "service": "(all)",
        "part": "case",
        "cases": 5,
        "opened_by_event": 2,
        "opened_by_link": 1,
        "opened_by_id_embedded": 1,
        "opened_by_first_receipt": 1,
        "mean_seconds": 40,
        "p50_seconds": 30,
        "p90_seconds": 76,
        "p95_seconds": 88,
        "p99_seconds": 97.6,
    }
    assert (whole["kyb"]["p50_seconds"], whole["kyb"]["mean_seconds"]) == (29, 39)  # from its initiation, a second later
    assert (whole["kyc"]["p50_seconds"], whole["kyc"]["mean_seconds"]) == (15, 20)
    assert [(row["day"], row["p50_seconds"]) for row in found if row["part"] == "case"][-1] == ("2026-03-11", 86_407)
    named = {(row["service"], row["part"]): row["p50_seconds"] for row in found if row["service"] != "(all)"}
    assert named == {
        ("aml", "case"): 10,
        ("aml", "kyb"): 9,
        ("aml", "kyc"): 5,
        ("aml", "service"): 6,
        ("documents", "case"): 10,
        ("documents", "kyb"): 9,
        ("documents", "kyc"): 5,
    }


async def test_open_case_aging_by_hand(clickhouse: ClickHouseSettings) -> None:
    """Each border of the buckets on both sides; closed and expired cases are not open."""
    now = datetime.now(UTC)
    ages = {0: "0-2", 2.9: "0-2", 3.1: "3-10", 10.9: "3-10", 11.1: "11-30", 30.9: "11-30", 31.1: "31+", 200: "31+"}
    await land(
        clickhouse,
        [
            *(case(f"c{age}", opened_at=now - timedelta(days=age), deadline_at=now + timedelta(days=90 - age)) for age in ages),
            case("waiting", opened_at=now, deadline_at=now + timedelta(days=1), outcome="awaiting_resubmission"),
            case("expired", outcome="expired"),
            _closed("closed", 10),
        ],
    )
    found = await rows(
        clickhouse,
        "SELECT outcome, bucket, cases, past_deadline FROM open_case_aging ORDER BY outcome, from_day",
        final=False,
    )
    assert found == [
        {"outcome": "awaiting_resubmission", "bucket": "0-2", "cases": 1, "past_deadline": 0},
        {"outcome": "open", "bucket": "0-2", "cases": 2, "past_deadline": 0},
        {"outcome": "open", "bucket": "3-10", "cases": 2, "past_deadline": 0},
        {"outcome": "open", "bucket": "11-30", "cases": 2, "past_deadline": 0},
        {"outcome": "open", "bucket": "31+", "cases": 2, "past_deadline": 1},
    ]


async def test_delivery_duplicates_by_hand(clickhouse: ClickHouseSettings) -> None:
    """Two of three events repeated, for 20 s and 2 days; a delivery that landed twice counts once."""

    def repeat(number: int, of: int, **later: float) -> Record:
        return delivery(
            number, verdict="duplicate", event_id=f"event-{of:06d}", received_at=at(seconds=of) + timedelta(**later)
        )

    first = [delivery(1), delivery(2), delivery(3), repeat(4, 1, seconds=10), repeat(5, 1, seconds=20)]
    await land(clickhouse, [*first, repeat(6, 2, days=2), delivery(7, verdict="quarantined", event_id=None)])
    await land(clickhouse, first)
    found = await rows(clickhouse, "SELECT * FROM delivery_duplicates ORDER BY day", final=False)
    assert found == [
        {
            "day": _MARCH_10,
            "tenant": "acme",
            "source": "kyb",
            "deliveries": 6,
            "new": 3,
            "duplicates": 2,
            "quarantined": 1,
            "duplicate_rate": 2 / 6,
            "repeated_events": 2,
            "span_p50_seconds": (20 + 2 * 86_400) / 2,
            "span_p90_seconds": 20 + 0.9 * (2 * 86_400 - 20),
            "span_max_seconds": 2 * 86_400,
        },
        {
            "day": "2026-03-12",
            "tenant": "acme",
            "source": "kyb",
            "deliveries": 1,
            "new": 0,
            "duplicates": 1,
            "quarantined": 0,
            "duplicate_rate": 1,
            "repeated_events": 0,
            "span_p50_seconds": None,
            "span_p90_seconds": None,
            "span_max_seconds": None,
        },
    ]


async def test_delivery_delay_by_hand(clickhouse: ClickHouseSettings) -> None:
    """Delays of 1, 2, 3, 4 and 10 s, landed at given times: mean 4, median 3, p90 7.6, p95 8.8, p99 9.76."""
    for number, delay in enumerate((1, 2, 3, 4, 10)):
        await query(
            clickhouse,
            "INSERT INTO deliveries (delivery_id, received_at, tenant, source, verdict, _inserted_at) VALUES "  # noqa: S608
            f"('d{number}', '2026-03-10 12:00:00', 'acme', 'kyc', 'new', '2026-03-10 12:00:{delay:02d}')",
        )
    (row,) = await rows(clickhouse, "SELECT * FROM delivery_delay", final=False)
    assert row == {
        "day": _MARCH_10,
        "tenant": "acme",
        "source": "kyc",
        "deliveries": 5,
        "mean_seconds": 4,
        "p50_seconds": 3,
        "p90_seconds": 7.6,
        "p95_seconds": 8.8,
        "p99_seconds": 9.76,
        "max_seconds": 10,
    }


async def test_match_quality_by_hand(clickhouse: ClickHouseSettings) -> None:
    """Cases by state, outcome and rule; of those linked after 10 and 20 s the median is 15 and p90 19."""
    await land(
        clickhouse,
        [
            case("c1", placements=("path_token", "learned"), linked_at=at(seconds=10)),
            case("c2", placements=("registered",), linked_at=at(seconds=20), anomalies=("kyc_reversal",)),
            case("c3", placements=("remark_token",)),
            case("c4", match_state="kyc_only", placements=("unlinked",)),
        ],
    )
    found = await rows(clickhouse, "SELECT * FROM match_quality ORDER BY match_state", final=False)
    names = ("registered", "path_token", "remark_token", "learned", "unlinked", "conflict", "ambiguous")
    unlinked, matched = found
    assert (unlinked["match_state"], unlinked["cases"], unlinked["linked"]) == ("kyc_only", 1, 0)
    assert (unlinked["time_to_link_p50_seconds"], unlinked["by_unlinked"]) == (None, 1)
    assert (matched["match_state"], matched["outcome"], matched["cases"]) == ("matched", "open", 3)
    assert [matched[f"by_{name}"] for name in names] == [1, 1, 1, 1, 0, 0, 0]
    assert (matched["with_anomalies"], matched["linked"]) == (1, 2)
    assert (matched["time_to_link_p50_seconds"], matched["time_to_link_p90_seconds"]) == (15, 19)
