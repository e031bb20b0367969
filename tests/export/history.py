"""A history small enough to draw its process map by hand, and rows of the event log that no ClickHouse has seen."""

from __future__ import annotations

from datetime import timedelta

from kybstream.operations.export.log import LogRow
from kybstream.settings import ClickHouseSettings
from schemas.records import Case, Event
from tests.sinks.making import at, case, event, land

CASES = 12
"""Cases of `acme` that go the usual way; every third one by a resubmission."""

RESUBMITTED = 4
REJECTED = 2
SHARED_SUBJECT = "v1.shared"


async def land_history(clickhouse: ClickHouseSettings) -> None:
    """Usual and resubmitted cases, two rejected ones that share a person, and a case of another tenant with the same name."""
    events: list[Event] = []
    cases: list[Case] = []
    for number in range(CASES):
        subject = f"v1.person{number}"
        events += _case_of(number, f"s{number}", subject, resubmitted=number % 3 == 0)
        cases.append(_closed(f"s{number}", number, "completed"))
    for number in range(CASES, CASES + REJECTED):
        events += [
            _event(number, 0, f"s{number}", type="service_initiated", status="pending", services=("aml",)),
            _event(number, 1, f"s{number}", **_kyc(SHARED_SUBJECT), status="permanent_rejection"),
        ]
        cases.append(_closed(f"s{number}", number, "rejected", closed_hours=1))
    events.append(_event(99, 0, "s0", tenant="globex", type="service_initiated", status="pending", services=("aml",)))
    cases.append(case("s0", tenant="globex", opened_at=at(days=99)))
    await land(clickhouse, events)
    await land(clickhouse, cases)


def _case_of(number: int, case_id: str, subject: str, *, resubmitted: bool) -> list[Event]:
    both = ("aml", "kyb_check")
    made = [_event(number, 0, case_id, type="service_initiated", status="pending", services=both)]
    if resubmitted:
        made.append(_event(number, 1, case_id, **_kyc(subject), status="temporary_rejection"))
    return [
        *made,
        _event(number, 2, case_id, **_kyc(subject), status="success"),
        _event(number, 3, case_id, type="service_resolved", status="resolved", services=both),
    ]


def _kyc(subject: str) -> dict[str, str]:
    return {
        "source": "kyc",
        "source_kind": "kyc-registration",
        "type": "kyc_result",
        "subject": subject,
        "placement": "path_token",
    }


def _event(number: int, hours: int, case_id: str, **fields: object) -> Event:
    return event(100 * number + hours, case_id=case_id, received_at=at(days=number, hours=hours), **fields)


def _closed(case_id: str, number: int, outcome: str, closed_hours: int = 3) -> Case:
    opened_at = at(days=number)
    closed_at = opened_at + timedelta(hours=closed_hours)
    return case(case_id, version=3, outcome=outcome, opened_at=opened_at, closed_at=closed_at, updated_at=closed_at)


def row(**fields: str) -> LogRow:
    """A row: an initiation of aml in the case s1, unless something else is said."""
    made = {
        "tenant": "acme",
        "case_id": "s1",
        "at": "2026-03-10T00:00:01.000000Z",
        "activity": "aml",
        "transition": "start",
        "resource": "kyb",
        "event_id": "e1",
        "type": "service_initiated",
        "status": "pending",
        "subject": "",
        "kyc_level": "",
        "placement": "own",
        "opened_at": "2026-03-10T00:00:01.000000Z",
        "opened_at_source": "event",
        "updated_at": "2026-03-10T00:00:09.000000Z",
        "match_state": "kyb_only",
        "kyb_status": "pending",
        "kyc_status": "none",
        "outcome": "open",
    }
    return LogRow(**made | fields)
