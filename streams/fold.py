"""The fold: what a case looks like, given the set of its events. Pure, and blind to the order in which they came in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from kybstream.ids import from_micros
from schemas.providers import kyb, kyc
from schemas.records import Case, OpenedAtSource, Service, Subject
from streams.event_order import in_order, order_key
from streams.facts import CasePolicy, Fact
from streams.flood import Absorbed, Others, total
from streams.folding import PENDING_SUBJECT, Folding
from streams.linking import REGISTERED
from streams.withdrawing import elsewhere, in_force

MORE_SUBJECTS_THAN_EXPECTED = "more_subjects_than_expected"
OTHERS = "(others)"
"""In the place of a pseudonym: all persons beyond the bound."""

_WORST_FIRST = (kyc.PERMANENT_REJECTION, kyc.TEMPORARY_REJECTION, PENDING_SUBJECT, kyc.SUCCESS)


def fold(
    tenant: str,
    case_id: str,
    facts: Iterable[Fact],
    policy: CasePolicy,
    absorbed: Sequence[Absorbed] = (),
    *,
    others: Others | None = None,
) -> Case:
    """The snapshot of a case with these facts, in whatever order they are given; there must be at least one.

    A provisional case whose callbacks have all been moved to their case is `merged`; one that keeps some is folded from
    those that stayed. A link that was withdrawn, and what left the case with it, counts as if it had never been. Absorbed
    events count; what they would do lies between the first and the last that do the same, which are among the facts. Persons
    beyond the bound (`others`) count as if all that they have done had been done at the time of their last event.
    """
    ordered = in_order(facts)
    gone = elsewhere(ordered)
    results = [fact for fact in ordered if fact.kind == "kyc"]
    merges = {event_id for fact in ordered if fact.kind == "merge" for event_id in fact.moved_events}
    merged = bool(gone & merges) and all(fact.event_id in gone for fact in results)
    standing = [fact for fact in in_force(ordered) if fact.event_id in merges or fact.event_id not in gone]
    folding = Folding(policy)
    remaining = others
    for fact in standing:
        if remaining is not None and fact.at > remaining.last:
            folding.take(remaining)
            remaining = None
        if merged or fact.event_id not in gone:
            folding.apply(fact)
    if remaining is not None:
        folding.take(remaining)
    for each in absorbed:
        folding.count(each)

    # A case of which nothing is left but withdrawals began, all the same, with the links that were withdrawn.
    history = [fact for fact in standing if fact.kind != "withdrawal"]
    history = history or [fact for fact in ordered if fact.kind == "link"] or ordered
    if others is not None and others.first is not None:
        history = sorted([others.first, *history], key=order_key)
    opened_at, source = _opening(history)
    # An embedded time is never truth: a case must not expire because of it.
    waiting_since = history[0].at if source == "id_embedded" else opened_at
    if folding.reopened_at is not None:
        waiting_since = folding.reopened_at
    if folding.expected_subjects is not None and sum(folding.persons.values()) > folding.expected_subjects:
        folding.anomalies.add(MORE_SUBJECTS_THAN_EXPECTED)

    def time(name: str) -> datetime | None:
        return _moment(folding.times.get(name))

    return Case(
        tenant=tenant,
        case_id=case_id,
        version=len(ordered) + total(absorbed) + (others.events if others else 0),
        match_state=folding.match_state,
        kyb_status=folding.kyb_status,
        kyc_status=folding.kyc_status,
        outcome="merged" if merged else folding.outcome,
        merged_into=folding.merged_into if merged else None,
        services=_services(folding),
        subjects=_subjects(folding) + _other_subjects(others),
        expected_subjects=folding.expected_subjects,
        opened_at=from_micros(opened_at),
        opened_at_source=source,
        kyb_initiated_at=time("kyb_initiated_at"),
        kyb_resolved_at=time("kyb_resolved_at"),
        kyc_first_result_at=time("kyc_first_result_at"),
        kyc_final_at=time("kyc_final_at"),
        linked_at=time("linked_at"),
        closed_at=None if merged else time("closed_at"),
        deadline_at=from_micros(waiting_since) + policy.deadline,
        updated_at=from_micros(max(ordered[-1].at, others.last if others else 0)),
        placements=tuple(sorted(folding.placements)),
        resubmissions=folding.resubmissions,
        aml_alerts=folding.aml_alerts,
        anomalies=tuple(sorted(folding.anomalies)),
    )


def _services(folding: Folding) -> tuple[Service, ...]:
    return tuple(
        Service(
            name=name,
            initiated_at=_moment(service.initiated_at),
            resolved_at=_moment(service.resolved_at if service.resolved else None),
        )
        for name, service in sorted(folding.services.items())
    )


def _subjects(folding: Folding) -> tuple[Subject, ...]:
    return tuple(
        Subject(subject=name, level=subject.level, type=subject.type, status=subject.status, attempts=subject.attempts)
        for name, subject in sorted(folding.subjects.items())
    )


def _other_subjects(others: Others | None) -> tuple[Subject, ...]:
    """One row for all persons beyond the bound: the worst of their statuses, and all of their results."""
    if others is None or not others.persons:
        return ()
    return (Subject(subject=OTHERS, status=min(others.persons, key=_WORST_FIRST.index), attempts=others.attempts),)


def _opening(ordered: list[Fact]) -> tuple[int, OpenedAtSource]:
    """When the case began: the earliest of what is known, and where that comes from.

    An initiation or a registered link says so itself. Without any initiation, the time embedded in the KYB id counts if it is
    earlier than all that was received; else the first receipt.
    """
    first = ordered[0]
    if first.kind == "kyb" and first.type == kyb.SERVICE_INITIATED:
        return first.at, "event"
    if first.kind == "link" and first.placement == REGISTERED:
        return first.at, "link"
    if not any(fact.type == kyb.SERVICE_INITIATED for fact in ordered):
        embedded = [fact.id_embedded_at for fact in ordered if fact.id_embedded_at is not None]
        if embedded and min(embedded) < first.at:
            return min(embedded), "id_embedded"
    return first.at, "first_receipt"


def _moment(micros: int | None) -> datetime | None:
    return None if micros is None else from_micros(micros)
