"""`event_log`: what an export for process mining holds, row by row."""

from __future__ import annotations

from kybstream.settings import ClickHouseSettings
from tests.sinks.making import at, case, event, land, rows

_SQL = (
    "SELECT `case:concept:name` AS case_id, `concept:name` AS activity, `lifecycle:transition` AS transition, "
    "`org:resource` AS who, dateDiff('second', toDateTime64('2026-03-10', 6, 'UTC'), `time:timestamp`) AS seconds "
    "FROM event_log ORDER BY `case:concept:name`, `time:timestamp`, tie_rank, `concept:name`"
)
_KYC = {"source": "kyc", "source_kind": "kyc-registration", "type": "kyc_result", "subject": "p", "placement": "path_token"}


async def test_event_log_by_hand(clickhouse: ClickHouseSettings) -> None:
    """A case from initiation to close: a row for each service, each result and the end; ties by order of cause and effect."""
    await land(
        clickhouse,
        [
            event(1, status="pending", services=("aml", "kyb_check")),
            event(2, status="temporary_rejection", **_KYC),
            event(3, status="success", **_KYC),
            event(4, type="service_resolved", status="resolved", services=("aml", "kyb_check")),
            event(5, type="document_purchase_request", status="resolved", services=("documents",)),
            event(6, type="ongoing_aml_webhook", status="pending", services=("aml",)),
            event(7, type="service_resolved", status="pending", services=("aml",)),
            event(8, type="brand_new"),
            event(9, status="9", **_KYC),
        ],
    )
    await land(clickhouse, [event(1, status="pending", services=("aml", "kyb_check"))])
    await land(
        clickhouse,
        [case("s1", outcome="completed", linked_at=at(seconds=2), closed_at=at(seconds=4)), case("s2", outcome="expired")],
    )
    assert [tuple(row.values()) for row in await rows(clickhouse, _SQL, final=False)] == [
        ("s1", "aml", "start", "kyb", 1),
        ("s1", "kyb_check", "start", "kyb", 1),
        ("s1", "linked", "complete", "kyb-stream", 2),
        ("s1", "kyc_result temporary_rejection", "complete", "kyc", 2),
        ("s1", "kyc_result success", "complete", "kyc", 3),
        ("s1", "aml", "complete", "kyb", 4),
        ("s1", "kyb_check", "complete", "kyb", 4),
        ("s1", "completed", "complete", "kyb-stream", 4),
        ("s1", "documents", "complete", "kyb", 5),
        ("s1", "ongoing_aml_webhook", "complete", "kyb", 6),
        ("s1", "aml", "unknown", "kyb", 7),
        ("s1", "brand_new", "unknown", "kyb", 8),
        ("s1", "kyc_result unknown", "complete", "kyc", 9),
        ("s2", "expired", "ate_abort", "kyb-stream", 90 * 86_400),
    ]
    (row,) = await rows(clickhouse, "SELECT * FROM event_log WHERE event_id = 'event-000002'", final=False)
    assert {name: row[name] for name in ("case:tenant", "tie_rank", "type", "status", "subject", "placement", "kyc_level")} == {
        "case:tenant": "acme",
        "tie_rank": 6,
        "type": "kyc_result",
        "status": "temporary_rejection",
        "subject": "p",
        "placement": "path_token",
        "kyc_level": "",
    }


async def test_event_log_ranks_events_of_one_moment_as_the_case_does(clickhouse: ClickHouseSettings) -> None:
    """Whatever their ids, rows of one time stand in the order in which the events count."""
    kyc_statuses = ("permanent_rejection", "success", "temporary_rejection", "9")
    kyb_types = ("service_resolved", "document_purchase_request", "ongoing_aml_webhook", "service_initiated")
    moment = at(seconds=1)
    events = [event(number, **_KYC, status=status, received_at=moment) for number, status in enumerate(kyc_statuses)]
    events += [event(number, type=name, services=(), received_at=moment) for number, name in enumerate(kyb_types, start=10)]
    await land(clickhouse, events)
    await land(clickhouse, [case("s1", outcome="rejected", linked_at=moment, closed_at=moment)])
    found = await rows(clickhouse, "SELECT tie_rank, `concept:name` AS activity FROM event_log ORDER BY tie_rank", final=False)
    assert [(row["tie_rank"], row["activity"]) for row in found] == [
        (0, "linked"),
        (1, "service_initiated"),
        (2, "ongoing_aml_webhook"),
        (3, "document_purchase_request"),
        (4, "service_resolved"),
        (5, "kyc_result unknown"),
        (6, "kyc_result temporary_rejection"),
        (7, "kyc_result success"),
        (8, "kyc_result permanent_rejection"),
        (9, "rejected"),
    ]


async def test_event_log_follows_a_merge(clickhouse: ClickHouseSettings) -> None:
    """Results of a provisional case are under the case it was merged into, of this tenant; others stay where they are."""
    await land(
        clickhouse,
        [
            event(1, **_KYC | {"case_id": "kyc:p", "placement": "unlinked"}, status="success"),
            event(2, **_KYC | {"case_id": "kyc:p", "placement": "unlinked"}, status="success", tenant="other"),
            event(3, **_KYC | {"case_id": "kyc:q", "placement": "unlinked"}, status="success"),
        ],
    )
    await land(
        clickhouse,
        [
            case("kyc:p", version=2, outcome="merged", merged_into="s1"),
            case("kyc:p", version=1, tenant="other"),
            case("kyc:q", version=1, outcome="merged", merged_into="s1"),
            case("kyc:q", version=2),  # and came back
            case("s1"),
        ],
    )
    found = await rows(clickhouse, "SELECT `case:concept:name` AS name, event_id FROM event_log ORDER BY event_id", final=False)
    assert [tuple(row.values()) for row in found] == [
        ("s1", "event-000001"),
        ("kyc:p", "event-000002"),
        ("kyc:q", "event-000003"),
    ]
