"""The cases' state machine: `(state, event) -> (state, snapshot)`.

The state is the *set* of a case's events in compact form. Every new event gives a new snapshot, computed from the whole set in
order of receipt (`streams.fold`), so that arrival order, duplication and replay make no difference. An event already in the set
gives nothing: whoever put it there had its snapshot acknowledged first.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from kybstream.ids import derived_id, from_micros, to_micros
from schemas.records import Case, CaseEvent
from streams.facts import CasePolicy, Fact
from streams.fold import fold
from streams.linking import PROVISIONAL_PREFIX

_CLOSED = frozenset({"completed", "rejected", "expired", "merged"})


class CaseState(msgspec.Struct):
    """State of one case.

    Attributes:
        tenant: Owner of the case.
        case_id: KYB service_id, or kyc:<subject>.
        facts: Its events by id.
        expires_at: When the case expires, in microseconds since the epoch; None while nothing is waiting.
    """

    tenant: str
    case_id: str
    facts: dict[str, Fact] = {}
    expires_at: int | None = None


def case(state: CaseState | None, event: CaseEvent, policy: CasePolicy) -> tuple[CaseState, Case | None]:
    """Takes one event into its case.

    Returns:
        The new state, and the snapshot of the case with this event; None when the event is known.
    """
    if state is None:
        state = CaseState(event.tenant, event.case_id)
    if event.event_id in state.facts:
        return state, None
    facts = {**state.facts, event.event_id: Fact.of(event)}
    snapshot = fold(state.tenant, state.case_id, facts.values(), policy)
    expires_at = None if snapshot.outcome in _CLOSED else to_micros(snapshot.deadline_at)
    return CaseState(state.tenant, state.case_id, facts, expires_at), snapshot


def expiry(state: CaseState, now: datetime) -> CaseEvent | None:
    """The event that expires a case, if its deadline has passed; the same deadline always gives the same event."""
    if state.expires_at is None or to_micros(now) < state.expires_at:
        return None
    deadline = from_micros(state.expires_at)
    return CaseEvent(
        event_id=derived_id("expiry", state.tenant, state.case_id, str(state.expires_at)),
        tenant=state.tenant,
        case_id=state.case_id,
        received_at=deadline,
        kind="expiry",
    )


def case_policy(*, deadline: timedelta, kyc_always: bool, case_id: str) -> CasePolicy:
    """The policy for one case: a provisional case never waits for a company's KYC."""
    return CasePolicy(deadline=deadline, kyc_always=kyc_always and not case_id.startswith(PROVISIONAL_PREFIX))
