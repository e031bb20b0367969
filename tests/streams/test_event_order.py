"""Events of one receipt: what they say decides their order, never their ids."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from itertools import permutations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.records import Case, CaseEvent
from streams.cases import CaseState, case, case_policy
from tests.streams.histories import DEADLINE, START, TENANT, histories
from tests.streams.pipeline import (
    SERVICE_ID,
    TOKEN,
    Door,
    kyb_body,
    kyc_body,
    nothing_aside,
    run_intake,
)


def snapshot_of(events: Sequence[CaseEvent], *, kyc_always: bool = False) -> Case:
    """The last snapshot of a case with these events, in this order of arrival."""
    policy = case_policy(deadline=DEADLINE, kyc_always=kyc_always, case_id=events[0].case_id)
    state: CaseState | None = None
    last: Case | None = None
    for event in events:
        state, last = case(state, event, policy, nothing_aside())
    assert last is not None
    return last


def renamed(events: Sequence[CaseEvent], ids: dict[str, str]) -> list[CaseEvent]:
    """The same events under other ids."""
    return [
        msgspec.structs.replace(
            event,
            event_id=ids.get(event.event_id, event.event_id),
            moved_events=tuple(ids.get(name, name) for name in event.moved_events),
        )
        for event in events
    ]


@given(data=st.data(), history=histories(), kyc_always=st.booleans())
@settings(max_examples=150, deadline=None)
def test_a_case_does_not_depend_on_the_ids_of_its_events(
    data: st.DataObject, history: list[CaseEvent], *, kyc_always: bool
) -> None:
    """Equal histories have equal figures: the same events under other ids give the same snapshot."""
    names = [event.event_id for event in history]
    ids = dict(zip(names, data.draw(st.permutations(names)), strict=True))
    assert snapshot_of(renamed(history, ids), kyc_always=kyc_always) == snapshot_of(history, kyc_always=kyc_always)


@pytest.mark.parametrize("number", range(14))
def test_equal_histories_close_at_the_same_moment(number: int) -> None:
    """Initiated, resolved, then a success whose path names the case: closed when the result came, for any delivery id."""
    door = Door(drawn=number * 100)
    deliveries = [
        door.delivery(kyb_body()),
        door.delivery(kyb_body(type="service_resolved", status="resolved"), after=timedelta(hours=1)),
        door.delivery(kyc_body(), after=timedelta(hours=2), case_token=TOKEN),
    ]
    told = run_intake([door.record(delivery) for delivery in deliveries])
    snapshot = told.cases()[f"acme/{SERVICE_ID}"]
    assert snapshot.outcome == "completed"
    assert snapshot.closed_at == START + timedelta(hours=2)


def at_once(kind: str, event_id: str, **fields: object) -> CaseEvent:
    """An event of the one moment that these tests are about."""
    return msgspec.convert(
        {
            "event_id": event_id,
            "tenant": TENANT,
            "case_id": SERVICE_ID,
            "received_at": START,
            "kind": kind,
            **fields,
        },
        CaseEvent,
    )


def test_of_results_of_one_moment_the_worst_counts() -> None:
    """A temporary rejection, a success and a permanent one of one receipt: permanent, whatever their ids."""
    statuses = ("temporary_rejection", "success", "permanent_rejection")
    for ids in permutations("abc"):
        events = [at_once("kyc", each, subject="v1.anna", status=status) for each, status in zip(ids, statuses, strict=True)]
        (subject,) = snapshot_of(events).subjects
        assert (subject.status, subject.attempts) == ("permanent_rejection", 3)


def test_an_initiation_comes_before_the_resolution_of_its_moment() -> None:
    """A second initiation and a resolution of one receipt: resolved, whatever their ids."""
    for ids in permutations("abc"):
        first = at_once("kyb", ids[0], type="service_initiated", services=("kyc",))
        first = msgspec.structs.replace(first, received_at=START - timedelta(hours=1))
        again = at_once("kyb", ids[1], type="service_initiated", services=("kyc",))
        done = at_once("kyb", ids[2], type="service_resolved", status="resolved", services=("kyc",))
        assert snapshot_of([first, again, done]).kyb_status == "resolved"


def test_what_comes_at_the_deadline_is_in_time() -> None:
    """A result of the very moment of the expiry closes the case, and is not flagged as late."""
    for ids in permutations("ab"):
        begun = at_once("link", "l", subject="v1.anna", placement="registered")
        begun = msgspec.structs.replace(begun, received_at=START - timedelta(hours=1))
        expiry = at_once("expiry", ids[0])
        result = at_once("kyc", ids[1], subject="v1.anna", status="permanent_rejection", placement="registered")
        snapshot = snapshot_of([begun, expiry, result])
        assert (snapshot.outcome, snapshot.anomalies) == ("rejected", ())
