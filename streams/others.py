"""The persons of a case beyond its bound: each has an entry of its own, and the case a summary of them. Pure.

A case with thousands of persons would cost the square of their number, if each event rewrote and folded all of them. The first
hundred by pseudonym are in the case's own entry (`streams.flood.Bounds`). Which persons these are is a property of the set of
events: who is out stays out, because more persons and more events only move the limit down. An event of a person who is out
reads and writes that person's entry, takes what it said before off the summary, and adds what it says now. So counts and
statuses stay exact. docs/explanation/cases.md says what is given up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta

import msgspec

from streams.event_order import in_order, order_key
from streams.facts import CasePolicy, Fact
from streams.flood import Absorbed, Bounds, Others, effect_on_person, said_by_person, total
from streams.folding import Folding
from streams.withdrawing import elsewhere, in_force

_POLICY = CasePolicy(timedelta(0))
_encoder = msgspec.msgpack.Encoder()


class Person(msgspec.Struct, array_like=True, frozen=True):
    """A person beyond the bound of a case: their events by id, as many as are kept, and the number of the others."""

    facts: dict[str, Fact] = {}
    absorbed: tuple[Absorbed, ...] = ()


_decoder = msgspec.msgpack.Decoder(Person)


def read_person(value: bytes | None) -> Person:
    """A person from their entry; without one, nobody yet.

    Raises:
        msgspec.MsgspecError: The value is of another version, or damaged.
    """
    return Person() if value is None else _decoder.decode(value)


def written(person: Person) -> bytes:
    """The person's entry."""
    return _encoder.encode(person)


def first_out(facts: Iterable[Fact], bounds: Bounds) -> str | None:
    """The first person, by pseudonym, for whom the case's own entry has no room; None when all have."""
    of_persons = [fact for fact in facts if fact.subject is not None]
    if len(of_persons) <= bounds.persons and sum(1 + len(fact.moved_events) for fact in of_persons) <= bounds.weight:
        return None
    # What a person weighs must never become less, or who is out would have to come back. Which event is kept for what it says
    # beside what it does may change; so counted is what they do, up to as many events as are kept for it, and, where events
    # were absorbed, what they say.
    alike: dict[tuple[str, ...], int] = {}
    says: dict[str, set[tuple[str, ...]]] = {}
    weights: dict[str, int] = {}
    for fact in of_persons:
        subject = fact.subject or ""
        key = (subject, *effect_on_person(fact))
        alike[key] = alike.get(key, 0) + 1
        weights[subject] = weights.get(subject, 0) + (alike[key] <= 2 * bounds.edge) + len(fact.moved_events)
        if fact.anomalies or fact.placement:
            says.setdefault(subject, set()).update(said_by_person(fact))
    for subject in {key[0] for key, number in alike.items() if number >= 2 * bounds.edge}:
        weights[subject] += len(says.get(subject, ()))
    taken = 0
    for place, subject in enumerate(sorted(weights)):
        taken += weights[subject]
        if place and (place >= bounds.persons or taken > bounds.weight):
            return subject
    return None


def with_person(others: Others, before: Person | None, after: Person) -> Others:
    """The summary after a person came to it (`before` is None), or after their events changed."""
    added = _summary(others.cut, after)
    taken = Others(others.cut) if before is None else _summary(others.cut, before)

    def count(name: str) -> int:
        return int(getattr(others, name) + getattr(added, name) - getattr(taken, name))

    return Others(
        cut=others.cut,
        persons=_counts(others.persons, added.persons, taken.persons),
        events=count("events"),
        attempts=count("attempts"),
        resubmissions=count("resubmissions"),
        linked=count("linked"),
        results=count("results"),
        placements=_counts(others.placements, added.placements, taken.placements),
        anomalies=_counts(others.anomalies, added.anomalies, taken.anomalies),
        first=min((fact for fact in (others.first, added.first) if fact is not None), key=order_key, default=None),
        first_result=min((at for at in (others.first_result, added.first_result) if at is not None), default=None),
        first_link=min((at for at in (others.first_link, added.first_link) if at is not None), default=None),
        last=max(others.last, added.last),
        expected=max((said for said in (others.expected, added.expected) if said is not None), default=None),
    )


def _summary(cut: str, person: Person) -> Others:
    """What one person comes to."""
    facts = in_order(person.facts.values())
    gone = elsewhere(facts)
    folding = Folding(_POLICY)
    for fact in in_force(facts):
        if fact.event_id not in gone:
            folding.apply(fact)
    for each in person.absorbed:
        folding.count(each)
    return Others(
        cut=cut,
        persons={status: number for status, number in folding.persons.items() if number},
        events=len(facts) + total(person.absorbed),
        attempts=sum(subject.attempts for subject in folding.subjects.values()),
        resubmissions=folding.resubmissions,
        linked=int(folding.linked),
        results=int(folding.has_result),
        placements=dict.fromkeys(folding.placements, 1),
        anomalies=dict.fromkeys(folding.anomalies, 1),
        first=next((fact for fact in facts if fact.kind != "withdrawal"), None),
        first_result=min((fact.at for fact in facts if fact.kind == "kyc"), default=None),
        first_link=min((fact.at for fact in facts if fact.kind == "link"), default=None),
        last=facts[-1].at,
        expected=max(
            ((fact.at, fact.expected_subjects) for fact in facts if fact.kind == "link" and fact.expected_subjects is not None),
            default=None,
        ),
    )


def _counts(held: Mapping[str, int], added: Mapping[str, int], taken: Mapping[str, int]) -> dict[str, int]:
    names = sorted({*held, *added})
    counts = {name: held.get(name, 0) + added.get(name, 0) - taken.get(name, 0) for name in names}
    return {name: number for name, number in counts.items() if number}
