from __future__ import annotations

from datetime import UTC, datetime, timedelta

from kybstream.settings import ClickHouseSettings
from schemas.records import Record
from sinks.migrate import views
from sinks.query import query
from tests.sinks.making import at, case, delivery, land, rows

_MARCH_10 = "2026-03-10"


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


async def test_open_case_aging_by_hand(clickhouse: ClickHouseSettings) -> None:
    """Each border of the buckets on both sides; closed and expired cases are not open."""
    now = datetime.now(UTC)
    ages = {0: "0-2", 2.9: "0-2", 3.1: "3-10", 10.9: "3-10", 11.1: "11-30", 30.9: "11-30", 31.1: "31+", 200: "31+"}
    await land(
        clickhouse,
        [
            *(case(f"c{age}", opened_at=now - timedelta(days=age), deadline_at=now + timedelta(days=90 - age)) for age in ages),
            case(
                "waiting",
                opened_at=now,
                opened_at_source="id_embedded",
                deadline_at=now + timedelta(days=1),
                outcome="awaiting_resubmission",
            ),
            case("expired", outcome="expired"),
            case("closed", outcome="completed", closed_at=at(seconds=10)),
        ],
    )
    found = await rows(
        clickhouse,
        "SELECT outcome, bucket, cases, opened_by_id_embedded AS embedded, past_deadline "
        "FROM open_case_aging ORDER BY outcome, from_day",
        final=False,
    )
    assert found == [
        {"outcome": "awaiting_resubmission", "bucket": "0-2", "cases": 1, "embedded": 1, "past_deadline": 0},
        {"outcome": "open", "bucket": "0-2", "cases": 2, "embedded": 0, "past_deadline": 0},
        {"outcome": "open", "bucket": "3-10", "cases": 2, "embedded": 0, "past_deadline": 0},
        {"outcome": "open", "bucket": "11-30", "cases": 2, "embedded": 0, "past_deadline": 0},
        {"outcome": "open", "bucket": "31+", "cases": 2, "embedded": 0, "past_deadline": 1},
    ]


async def test_a_repeat_whose_first_delivery_is_gone_spans_nothing(clickhouse: ClickHouseSettings) -> None:
    """Retention took the first: the repeat counts as one, its event has no span that anybody knows."""
    await land(clickhouse, [delivery(1, verdict="duplicate")])
    (row,) = await rows(clickhouse, "SELECT * FROM delivery_duplicates", final=False)
    assert (row["duplicates"], row["repeated_events"], row["span_p50_seconds"]) == (1, 0, None)


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
            "span_p95_seconds": 20 + 0.95 * (2 * 86_400 - 20),
            "span_p99_seconds": 20 + 0.99 * (2 * 86_400 - 20),
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
            "span_p95_seconds": None,
            "span_p99_seconds": None,
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
    """Cases by state, outcome and rule; linked after 10 and 20 s: median 15, p90 19, p95 19.5, p99 19.9.

    The one linked long after a time that is only embedded in its id counts as linked, and not in the times.
    """
    await land(
        clickhouse,
        [
            case("c1", placements=("path_token", "learned"), linked_at=at(seconds=10)),
            case("c2", placements=("registered",), linked_at=at(seconds=20), anomalies=("kyc_reversal",)),
            case("c3", placements=("remark_token",), linked_at=at(days=9), opened_at_source="id_embedded"),
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
    assert (matched["with_anomalies"], matched["linked"]) == (1, 3)
    assert [matched[f"time_to_link_p{share}_seconds"] for share in (50, 90, 95, 99)] == [15, 19, 19.5, 19.9]


def test_no_comment_of_a_view_is_taken_for_an_alias() -> None:
    """ClickHouse 24.8 reads `FROM (...) COMMENT '...'` as an alias, and fails: a clause or an alias of ours comes between."""
    assert [name for name, sql in views() if "\n)\nCOMMENT" in sql] == []
