"""The cases' state machine: `(state, event) -> (state, snapshot)`.

The state is the *set* of a case's events in compact form, with a bound (`streams.flood`). Every new event gives a new snapshot,
computed from the whole set in order of receipt (`streams.fold`), so that arrival order, duplication and replay make no
difference. An event already in the set gives nothing: whoever put it there had its snapshot acknowledged first.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

import msgspec

from kybstream.ids import derived_id, from_micros, to_micros
from schemas.providers import kyb
from schemas.records import Case, CaseEvent
from streams.aside import Aside
from streams.facts import CasePolicy, Fact
from streams.flood import (
    BOUNDS,
    MANY_SERVICES,
    Absorbed,
    Bounds,
    Others,
    bounded_company,
    bounded_person,
    counted,
    kept_services,
)
from streams.fold import fold
from streams.linking import PROVISIONAL_PREFIX
from streams.others import Person, first_out, read_person, with_person, written

_CLOSED = frozenset({"completed", "rejected", "expired", "merged"})
_TIME_BYTES = 8
_BOUNDED_AS_NOW = 2
"""Which bounds the facts of a state have; it changes when they become tighter."""


class CaseState(msgspec.Struct):
    """State of one case.

    Attributes:
        tenant: Owner of the case.
        case_id: KYB service_id, or kyc:<subject>.
        facts: Its events by id: all, or of very many those at the edges of time (`streams.flood`).
        absorbed: How many others there were; their ids have entries of their own (`streams.aside`).
        expires_at: When the case expires, in microseconds since the epoch; None while nothing is waiting.
        others: The persons beyond the bound, who have entries of their own; None while there are none.
        more_services: Whether there were more services than are kept.
        bounds: Which bounds its facts have; those of older versions had fewer.
    """

    tenant: str
    case_id: str
    facts: dict[str, Fact] = {}
    expires_at: int | None = None
    absorbed: tuple[Absorbed, ...] = ()
    others: Others | None = None
    more_services: bool = False
    bounds: int = 0


def case(
    state: CaseState | None, event: CaseEvent, policy: CasePolicy, aside: Aside, *, bounds: Bounds = BOUNDS
) -> tuple[CaseState, Case | None]:
    """Takes one event into its case.

    Args:
        state: None for a case that begins.
        event: Of this case.
        policy: The rules.
        aside: What lies beside the state; the caller writes what this changes.
        bounds: How much is kept one by one.

    Returns:
        The new state, and the snapshot of the case with this event; None when the event is known.
    """
    if state is None:
        state = CaseState(event.tenant, event.case_id, bounds=_BOUNDED_AS_NOW)
    fact = Fact.of(event)
    person = _person_out(state, fact.subject, aside)
    if _knows(state, person, event.event_id, aside):
        return state, None
    after = msgspec.structs.replace(state) if state.bounds == _BOUNDED_AS_NOW else _bounded(state, aside, bounds)
    if person is None or after.others is None:
        after.facts = {**after.facts, fact.event_id: fact}
        _bound(after, fact, aside, bounds)
    else:
        grown = _kept_of(Person({**person.facts, fact.event_id: fact}, person.absorbed), aside, bounds)
        after.others = with_person(after.others, person if person.facts else None, grown)
        aside.put(_entry(fact.subject), written(grown))
    snapshot = fold(after.tenant, after.case_id, after.facts.values(), policy, after.absorbed, others=after.others)
    if after.more_services:
        snapshot = msgspec.structs.replace(snapshot, anomalies=tuple(sorted({*snapshot.anomalies, MANY_SERVICES})))
    after.expires_at = None if snapshot.outcome in _CLOSED else to_micros(snapshot.deadline_at)
    return after, snapshot


def _person_out(state: CaseState, subject: str | None, aside: Aside) -> Person | None:
    """The person of an event, if they are beyond the bound of the case."""
    if state.others is None or subject is None or subject < state.others.cut:
        return None
    return read_person(aside.get(_entry(subject)))


def _knows(state: CaseState, person: Person | None, event_id: str, aside: Aside) -> bool:
    if event_id in (state.facts if person is None else person.facts):
        return True
    return bool(state.absorbed or person) and aside.get(event_id) is not None


def _entry(subject: str | None) -> str:
    return f"subject:{subject}"


def _bounded(state: CaseState, aside: Aside, bounds: Bounds) -> CaseState:
    """The state of an older version with the bounds of this one."""
    after = msgspec.structs.replace(
        state,
        facts={event_id: fact.bounded() for event_id, fact in state.facts.items()},
        absorbed=counted(state.absorbed, ()),
        bounds=_BOUNDED_AS_NOW,
    )
    for fact in {fact.subject: fact for fact in after.facts.values()}.values():
        _bound(after, fact, aside, bounds)
    return after


def _bound(state: CaseState, fact: Fact, aside: Aside, bounds: Bounds) -> None:
    """Brings a state with one more event within its bounds."""
    if fact.subject is None:
        _bound_services(state, fact)
        if len(state.facts) > bounds.company or state.absorbed:
            _bound_company(state, aside, bounds)
        return
    if len(state.facts) > 2 * bounds.edge:
        mine = Person({key: each for key, each in state.facts.items() if each.subject == fact.subject})
        kept = _kept_of(mine, aside, bounds)
        state.facts = {key: each for key, each in state.facts.items() if key in kept.facts or each.subject != fact.subject}
        state.absorbed = counted(state.absorbed, [mine.facts[key] for key in mine.facts.keys() - kept.facts.keys()])
    cut = first_out(state.facts.values(), bounds)
    if cut is not None:
        _move_out(state, cut, aside)


def _bound_services(state: CaseState, fact: Fact) -> None:
    if kyb.SERVICES.issuperset(fact.services):
        return
    names = {name for each in state.facts.values() for name in each.services}
    kept = kept_services(names)
    if names <= kept:
        return
    state.more_services = True
    for key, each in state.facts.items():
        if not kept.issuperset(each.services):
            services = tuple(name for name in each.services if name in kept)
            state.facts = {**state.facts, key: msgspec.structs.replace(each, services=services)}


def _bound_company(state: CaseState, aside: Aside, bounds: Bounds) -> None:
    mine = {key: each for key, each in state.facts.items() if each.subject is None}
    flooded = any(each.like.subject is None for each in state.absorbed)
    kept = bounded_company(mine.values(), bounds.company, flooded=flooded)
    gone = [each for key, each in mine.items() if key not in kept]
    if gone:
        _put_ids_aside(gone, aside)
        state.facts = {key: each for key, each in state.facts.items() if key in kept or each.subject is not None}
        state.absorbed = counted(state.absorbed, gone)


def _kept_of(person: Person, aside: Aside, bounds: Bounds) -> Person:
    """What is kept of a person's events."""
    if len(person.facts) <= 2 * bounds.edge:
        return person
    kept = bounded_person(person.facts.values(), bounds.edge)
    gone = [fact for key, fact in person.facts.items() if key not in kept]
    _put_ids_aside(gone, aside)
    return Person({key: fact for key, fact in person.facts.items() if key in kept}, counted(person.absorbed, gone))


def _put_ids_aside(gone: Iterable[Fact], aside: Aside) -> None:
    for fact in gone:
        aside.put(fact.event_id, fact.at.to_bytes(_TIME_BYTES, "big"))


def _move_out(state: CaseState, cut: str, aside: Aside) -> None:
    """Gives each person from this one on an entry of their own."""
    others = Others(cut) if state.others is None else msgspec.structs.replace(state.others, cut=cut)
    out = sorted({each.subject for each in state.facts.values() if each.subject is not None and each.subject >= cut})
    for subject in out:
        person = Person(
            {key: each for key, each in state.facts.items() if each.subject == subject},
            tuple(each for each in state.absorbed if each.like.subject == subject),
        )
        others = with_person(others, None, person)
        aside.put(_entry(subject), written(person))
    state.others = others
    state.facts = {key: each for key, each in state.facts.items() if each.subject is None or each.subject < cut}
    state.absorbed = tuple(each for each in state.absorbed if each.like.subject is None or each.like.subject < cut)


def absorbed_at(value: bytes) -> int | None:
    """Receipt of an absorbed event, of its entry, in microseconds since the epoch; None of a person's entry."""
    return int.from_bytes(value, "big") if len(value) == _TIME_BYTES else None


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
