"""The cases' state machine: `(state, event) -> (state, snapshot)`.

The state is the *set* of a case's events in compact form, with a bound (`streams.flood`). Every new event gives a new snapshot,
computed from the whole set in order of receipt (`streams.fold`), so that arrival order, duplication and replay make no
difference. An event already in the set gives nothing: whoever put it there had its snapshot acknowledged first.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from kybstream.ids import derived_id, from_micros, to_micros
from schemas.records import Case, CaseEvent
from streams.aside import Aside
from streams.facts import CasePolicy, Fact
from streams.flood import EDGE, Absorbed, with_one_more
from streams.fold import fold
from streams.linking import PROVISIONAL_PREFIX

_CLOSED = frozenset({"completed", "rejected", "expired", "merged"})
_TIME_BYTES = 8


class CaseState(msgspec.Struct):
    """State of one case.

    Attributes:
        tenant: Owner of the case.
        case_id: KYB service_id, or kyc:<subject>.
        facts: Its events by id: all, or of very many alike ones the first and the last (`streams.flood`).
        absorbed: How many others there were; their ids have entries of their own (`streams.aside`).
        expires_at: When the case expires, in microseconds since the epoch; None while nothing is waiting.
    """

    tenant: str
    case_id: str
    facts: dict[str, Fact] = {}
    expires_at: int | None = None
    absorbed: tuple[Absorbed, ...] = ()


def case(
    state: CaseState | None, event: CaseEvent, policy: CasePolicy, aside: Aside, *, edge: int = EDGE
) -> tuple[CaseState, Case | None]:
    """Takes one event into its case.

    Args:
        state: None for a case that begins.
        event: Of this case.
        policy: The rules.
        aside: What lies beside the state; the caller writes what this changes.
        edge: How many of alike events are kept from the beginning and from the end.

    Returns:
        The new state, and the snapshot of the case with this event; None when the event is known.
    """
    if state is None:
        state = CaseState(event.tenant, event.case_id)
    if event.event_id in state.facts or (state.absorbed and aside.get(event.event_id) is not None):
        return state, None
    kept = with_one_more(state.facts, state.absorbed, Fact.of(event), edge)
    if kept.gone is not None:
        aside.put(kept.gone.event_id, kept.gone.at.to_bytes(_TIME_BYTES, "big"))
    snapshot = fold(state.tenant, state.case_id, kept.facts.values(), policy, kept.absorbed)
    expires_at = None if snapshot.outcome in _CLOSED else to_micros(snapshot.deadline_at)
    return CaseState(state.tenant, state.case_id, kept.facts, expires_at, kept.absorbed), snapshot


def absorbed_at(value: bytes) -> int:
    """Receipt of an absorbed event, of its entry, in microseconds since the epoch."""
    return int.from_bytes(value, "big")


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
