"""The fold: what a case looks like, given the set of its events. Pure, and blind to the order in which they came in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from kybstream.ids import from_micros
from schemas.providers import kyb
from schemas.records import Case, OpenedAtSource, Service, Subject
from streams.event_order import in_order
from streams.facts import CasePolicy, Fact
from streams.flood import Absorbed, total
from streams.folding import Folding
from streams.linking import REGISTERED
from streams.withdrawing import elsewhere, in_force

MORE_SUBJECTS_THAN_EXPECTED = "more_subjects_than_expected"


def fold(tenant: str, case_id: str, facts: Iterable[Fact], policy: CasePolicy, absorbed: Sequence[Absorbed] = ()) -> Case:
    """The snapshot of a case with these facts, in whatever order they are given; there must be at least one.

    A provisional case whose callbacks have all been moved to their case is `merged`; one that keeps some is folded from
    those that stayed. A link that was withdrawn, and what left the case with it, counts as if it had never been. Absorbed
    events count; what they would do lies between the first and the last of their like, which are among the facts.
    """
    ordered = in_order(facts)
    gone = elsewhere(ordered)
    results = [fact for fact in ordered if fact.kind == "kyc"]
    merges = {event_id for fact in ordered if fact.kind == "merge" for event_id in fact.moved_events}
    merged = bool(gone & merges) and all(fact.event_id in gone for fact in results)
    standing = [fact for fact in in_force(ordered) if fact.event_id in merges or fact.event_id not in gone]
    folding = Folding(policy)
    for fact in standing:
        if merged or fact.event_id not in gone:
            folding.apply(fact)
    for each in absorbed:
        folding.count(each)

    # A case of which nothing is left but withdrawals began, all the same, with the links that were withdrawn.
    history = [fact for fact in standing if fact.kind != "withdrawal"]
    history = history or [fact for fact in ordered if fact.kind == "link"] or ordered
    opened_at, source = _opening(history)
    # An embedded time is never truth: a case must not expire because of it.
    waiting_since = history[0].at if source == "id_embedded" else opened_at
    if folding.reopened_at is not None:
        waiting_since = folding.reopened_at
    if folding.expected_subjects is not None and len(folding.subjects) > folding.expected_subjects:
        folding.anomalies.add(MORE_SUBJECTS_THAN_EXPECTED)

    def time(name: str) -> datetime | None:
        return _moment(folding.times.get(name))

    return Case(
        tenant=tenant,
        case_id=case_id,
        version=len(ordered) + total(absorbed),
        match_state=folding.match_state,
        kyb_status=folding.kyb_status,
        kyc_status=folding.kyc_status,
        outcome="merged" if merged else folding.outcome,
        merged_into=folding.merged_into if merged else None,
        services=_services(folding),
        subjects=_subjects(folding),
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
        updated_at=from_micros(ordered[-1].at),
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
