"""A bound to what is kept of one case's events, whoever sends thousands of them. Pure, and blind to their order of arrival.

Of events that do the same to a case (`_company_keys`, `_person_keys`) the first few and the last few are kept. Those between
are absorbed into a count. That is a property of the *set* of events, so arrival order makes no difference here either. What the
fold makes of a case hangs on the first and the last of such events and on their number, with the exceptions that
docs/explanation/cases.md lists.

Never absorbed is what a later event may name: callbacks that a link or its withdrawal can take to another case, and what says
that some have moved. The intake bounds the number of both (`streams.intake_state`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import blake2b

import msgspec

from schemas.providers import kyb
from streams.event_order import order_key
from streams.facts import Fact
from streams.linking import LINKED, REGISTERED

EVENT_FLOOD = "event_flood"
MANY_SERVICES = "many_services"
MANY_PERSONS = "many_persons"

OTHER_SERVICES = 8
"""Services of a case that the provider's document does not list; of more, those with the smallest digests are kept."""

Keys = Callable[[Fact], list[tuple[str, ...]]]


@dataclass(frozen=True)
class Bounds:
    """What a case keeps one by one.

    Attributes:
        company: Events of the company; of more only those at the edges are kept, about as many.
        edge: Events of one person that do the same, from the beginning and as many from the end.
        persons: Persons in the case's own entry.
        weight: Events in it that belong to persons; one that names others weighs as much as these, too.
    """

    company: int = 100
    edge: int = 10
    persons: int = 100
    weight: int = 500


BOUNDS = Bounds()


class Absorbed(msgspec.Struct, array_like=True, frozen=True):
    """How many events like this one are not kept one by one; `like` says what of them counts."""

    like: Fact
    count: int


class Others(msgspec.Struct, array_like=True, frozen=True):
    """What the persons beyond the bound come to, who have entries of their own (`streams.others`).

    Attributes:
        cut: All persons from this one on, by pseudonym, are among them.
        persons: How many of them the case knows of, by status; who has left is none of them.
        events: How many events they have.
        attempts: Their results.
        resubmissions: Of these, those that follow a temporary rejection of the same person.
        linked: How many of them make the case wait for KYC.
        results: How many have a result.
        placements: How many have a result by each placement.
        anomalies: How many have each anomaly.
        first: The first of their events that is no withdrawal.
        first_result: Receipt of their first result; this and what follows does not depend on who has left.
        first_link: When the first of them was linked.
        last: Receipt of their last event.
        expected: When the newest number of persons was said with a link of theirs, and the number.
    """

    cut: str
    persons: dict[str, int] = {}
    events: int = 0
    attempts: int = 0
    resubmissions: int = 0
    linked: int = 0
    results: int = 0
    placements: dict[str, int] = {}
    anomalies: dict[str, int] = {}
    first: Fact | None = None
    first_result: int | None = None
    first_link: int | None = None
    last: int = 0
    expected: tuple[int, int] | None = None


def bounded_company(facts: Iterable[Fact], kept: int, *, flooded: bool) -> set[str]:
    """Ids of the company's events that are kept.

    Args:
        facts: All of them that were kept so far, and what is new.
        kept: Up to how many are all kept, if none was absorbed.
        flooded: Whether others were absorbed before.
    """
    mine = sorted(facts, key=order_key)
    if len(mine) <= kept and not flooded:
        return {fact.event_id for fact in mine}
    names = {name for fact in mine for name in fact.services}
    edge = max(1, kept // 2 // (3 * len(names) + 4))
    held = _at_the_edges(mine, _company_keys, edge)
    embedded = [fact for fact in mine if fact.id_embedded_at is not None]
    return held | ({min(embedded, key=_embedded_at).event_id} if embedded else set())


def _embedded_at(fact: Fact) -> int:
    return fact.id_embedded_at or 0


def bounded_person(facts: Iterable[Fact], edge: int) -> set[str]:
    """Ids of one person's events that are kept, of those that were kept so far and what is new."""
    return _at_the_edges(sorted(facts, key=order_key), _person_keys, edge)


def _at_the_edges(ordered: list[Fact], keys_of: Keys, edge: int) -> set[str]:
    alike: dict[tuple[str, ...], list[str]] = {}
    for fact in ordered:
        for key in keys_of(fact):
            alike.setdefault(key, []).append(fact.event_id)
    held: set[str] = set()
    for key, ids in alike.items():
        # What an event says beside what it does is said by the first.
        held.update(ids[:1] if key[0] == "says" else (*ids[:edge], *ids[-edge:]))
    return held


def _company_keys(fact: Fact) -> list[tuple[str, ...]]:
    """What an event of the company does: to each service that it names, or to none."""
    says: list[tuple[str, ...]] = [("says", anomaly) for anomaly in fact.anomalies]
    if fact.moved_events:
        return [("names others", fact.event_id), *says]
    if fact.kind != "kyb":
        return [(fact.kind, fact.placement or "", str(fact.expected_subjects is None)), *says]
    if fact.type == kyb.ONGOING_AML:
        return [("alert",), *says]
    return [*((_effect(fact, name), name) for name in fact.services or ("",)), *says]


def _effect(fact: Fact, service: str) -> str:
    if fact.type == kyb.SERVICE_INITIATED:
        return "initiates"
    return "resolves" if resolves(fact, service) else "mentions"


def _person_keys(fact: Fact) -> list[tuple[str, ...]]:
    """What an event of a person does, and what it says beside."""
    return [effect_on_person(fact), *said_by_person(fact)]


def said_by_person(fact: Fact) -> list[tuple[str, ...]]:
    """What an event of a person says beside what it does: the first that says it is kept."""
    placements = [fact.placement] if fact.kind == "kyc" and fact.placement else []
    return [("says", said) for said in (*fact.anomalies, *placements)]


def effect_on_person(fact: Fact) -> tuple[str, ...]:
    """What an event does to its person: those of which this is the same do the same."""
    if fact.moved_events or (fact.kind == "kyc" and not absorbable(fact)):
        return ("names others", fact.event_id)
    if fact.kind == "kyc":
        return ("result", fact.status or "")
    return (fact.kind, fact.placement or "", str(fact.expected_subjects is None), str(fact.merged_into is None))


def resolves(fact: Fact, service: str) -> bool:
    """Whether a KYB event resolves the service."""
    if fact.status != kyb.RESOLVED:
        return False
    return fact.type == kyb.SERVICE_RESOLVED or (fact.type == kyb.DOCUMENT_PURCHASE_REQUEST and service == "documents")


def absorbable(fact: Fact) -> bool:
    """Whether nothing will ever name this event, so that a number can stand for it."""
    if fact.kind == "kyc":
        # A token's placement is final (`streams.links`); what the intake marked came after all that it can move.
        return fact.placement in LINKED - {REGISTERED} or EVENT_FLOOD in fact.anomalies
    return fact.kind == "kyb"


def kept_services(names: Iterable[str]) -> set[str]:
    """Those of a case's services that are kept."""
    others = sorted(set(names) - kyb.SERVICES, key=lambda name: blake2b(name.encode(), digest_size=8).digest())
    return {*kyb.SERVICES, *others[:OTHER_SERVICES]}


def counted(absorbed: Iterable[Absorbed], gone: Iterable[Fact]) -> tuple[Absorbed, ...]:
    """The counts with these events among them."""
    counts: dict[Fact, int] = {}
    for each in absorbed:
        kind = like(each.like.bounded())
        counts[kind] = counts.get(kind, 0) + each.count
    for fact in gone:
        kind = like(fact)
        counts[kind] = counts.get(kind, 0) + 1
    return tuple([Absorbed(kind, count) for kind, count in sorted(counts.items(), key=lambda item: repr(item[0]))])


def like(fact: Fact) -> Fact:
    """What of an absorbed event counts."""
    is_result = fact.kind == "kyc"
    return Fact(
        event_id="",
        at=0,
        kind=fact.kind if is_result else "other",
        type=fact.type if fact.type == kyb.ONGOING_AML else None,
        status=fact.status if is_result else None,
        subject=fact.subject,
    )


def total(absorbed: Iterable[Absorbed]) -> int:
    """How many events are not kept one by one."""
    return sum(each.count for each in absorbed)
