"""A naive model of a case, written from the rules alone, to be compared with `streams.fold`.

It shares no code with the fold: everything is computed from the whole history again after each event, by asking questions of
lists ("was there an initiation after the last resolution?") where the fold keeps running state.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from schemas.records import Case, CaseEvent, KybStatus, KycStatus, MatchState, OpenedAtSource, Outcome, Service, Subject
from tests.streams.membership import is_here, is_merged, precedence, stands

CLOSING = ("completed", "rejected")
TERMINAL = ("success", "permanent_rejection")
LINKED = ("registered", "path_token", "remark_token", "learned")


@dataclass(frozen=True)
class Rules:
    """What a tenant sets: the deadline after opening, and whether every case waits for KYC."""

    deadline: timedelta
    kyc_always: bool


def expected_case(tenant: str, case_id: str, events: Sequence[CaseEvent], rules: Rules) -> Case:
    """The snapshot that the rules ask for; `events` are distinct, in any order, at least one."""
    everything = sorted(events, key=precedence)
    merged = is_merged(everything)
    history = [event for event in everything if stands(event, everything)]
    counted = [event for event in history if merged or is_here(event.event_id, everything)]
    views = [View(counted[:length], rules) for length in range(1, len(counted) + 1)]
    story = outcomes(views)
    last = views[-1]
    taken = {name for event in everything if event.kind == "merge" for name in event.moved_events}
    beginning = [
        event
        for event in history
        if event.kind != "withdrawal" and (event.event_id in taken or is_here(event.event_id, everything))
    ]
    beginning = beginning or [event for event in everything if event.kind == "link"] or everything
    opened_at, source = opening(beginning)
    return Case(
        tenant=tenant,
        case_id=case_id,
        version=len(everything),
        match_state=last.match_state,
        kyb_status=last.kyb_status,
        kyc_status=last.kyc_status,
        outcome="merged" if merged else story.outcome,
        merged_into=[event.merged_into for event in history if event.kind == "merge"][-1] if merged else None,
        services=last.services,
        subjects=last.subjects,
        expected_subjects=last.expected,
        opened_at=opened_at,
        opened_at_source=source,
        kyb_initiated_at=first_time(event for event in counted if event.type == "service_initiated"),
        kyb_resolved_at=since([view.kyb_status == "resolved" for view in views], counted),
        kyc_first_result_at=first_time(event for event in counted if is_result(event)),
        kyc_final_at=since([view.kyc_status in TERMINAL for view in views], counted),
        linked_at=first_time(event for event in counted if event.kind == "link"),
        closed_at=None if merged else story.closed_at,
        deadline_at=(story.reopened_at or (beginning[0].received_at if source == "id_embedded" else opened_at))
        + rules.deadline,
        updated_at=everything[-1].received_at,
        placements=tuple(sorted({event.placement for event in counted if event.kind == "kyc" and event.placement})),
        resubmissions=sum(1 for results in last.results.values() for before in results[:-1] if before == "temporary_rejection"),
        aml_alerts=sum(1 for event in counted if event.type == "ongoing_aml_webhook"),
        anomalies=tuple(sorted(last.anomalies | story.anomalies)),
    )


class View:
    """A case as it looks after some of its history."""

    def __init__(self, history: Sequence[CaseEvent], rules: Rules) -> None:
        self.history = history
        self.last = history[-1]
        self.kyc = [event for event in history if event.kind == "kyc"]
        self.links = [event for event in history if event.kind == "link"]
        self.results: dict[str, list[str | None]] = {}
        for event in self.kyc:
            if event.subject is not None:
                self.results.setdefault(event.subject, []).append(event.status)
        self.expects_kyc = rules.kyc_always or bool(self.links) or any(event.placement in LINKED for event in self.kyc)
        numbers = [event.expected_subjects for event in self.links if event.expected_subjects is not None]
        self.expected = numbers[-1] if numbers else None
        self.services = self._services()
        self.subjects = self._subjects()

    def _services(self) -> tuple[Service, ...]:
        kyb = [event for event in self.history if event.kind == "kyb" and event.type != "ongoing_aml_webhook"]
        services = []
        for name in sorted({name for event in kyb for name in event.services}):
            mine = [event for event in kyb if name in event.services]
            starts = [index for index, event in enumerate(mine) if event.type == "service_initiated"]
            ends = [index for index, event in enumerate(mine) if resolves(event, name)]
            reopened = bool(ends) and any(index > ends[-1] and index != starts[0] for index in starts)
            services.append(
                Service(
                    name=name,
                    initiated_at=mine[starts[0]].received_at if starts else None,
                    resolved_at=mine[ends[-1]].received_at if ends and not reopened else None,
                )
            )
        return tuple(services)

    def _subjects(self) -> tuple[Subject, ...]:
        names = set(self.results) | {event.subject for event in self.links if event.subject is not None}
        return tuple(self._subject(name) for name in sorted(names))

    def _subject(self, name: str) -> Subject:
        counting: CaseEvent | None = None
        mine = [event for event in self.kyc if event.subject == name]
        for event in mine:
            final = counting is not None and counting.status in TERMINAL
            if event.status in TERMINAL or (event.status == "temporary_rejection" and not final):
                counting = event
        return Subject(
            subject=name,
            status=(counting.status if counting else None) or "pending",
            level=counting.kyc_level if counting else None,
            type=counting.kyc_type if counting else None,
            attempts=len(mine),
        )

    @property
    def kyb_status(self) -> KybStatus:
        """Resolved when one service is, and each that was initiated."""
        if not any(event.kind == "kyb" and event.type != "ongoing_aml_webhook" for event in self.history):
            return "none"
        resolved = [service.resolved_at is not None for service in self.services]
        initiated = [service.resolved_at is not None for service in self.services if service.initiated_at is not None]
        return "resolved" if any(resolved) and all(initiated) else "pending"

    @property
    def kyc_status(self) -> KycStatus:
        """The worst of the subjects."""
        statuses = [subject.status for subject in self.subjects]
        if "permanent_rejection" in statuses:
            return "permanent_rejection"
        if "temporary_rejection" in statuses:
            return "temporary_rejection"
        if not statuses:
            return "pending" if self.expects_kyc else "none"
        return "pending" if "pending" in statuses or len(statuses) < (self.expected or 0) else "success"

    @property
    def match_state(self) -> MatchState:
        """Which halves are there."""
        placements = {event.placement for event in self.kyc}
        if "conflict" in placements:
            return "conflict"
        if "ambiguous" in placements:
            return "ambiguous"
        kyb = any(event.kind == "kyb" for event in self.history)
        if kyb and self.results:
            return "matched"
        return "kyc_only" if self.results else "kyb_only"

    @property
    def anomalies(self) -> set[str]:
        """What is odd, apart from the times."""
        found = {anomaly for event in self.history for anomaly in event.anomalies}
        if any(event.kind == "withdrawal" for event in self.history):
            found.add("link_withdrawn")
        for results in self.results.values():
            for index, status in enumerate(results):
                final = [before for before in results[:index] if before in TERMINAL][-1:]
                if status not in (*TERMINAL, "temporary_rejection"):
                    found.add("kyc_unknown_status")
                elif final and status == "temporary_rejection":
                    found.add("kyc_regression")
                elif final and status != final[0]:
                    found.add("kyc_reversal")
        if self.expected is not None and len(self.subjects) > self.expected:
            found.add("more_subjects_than_expected")
        return found


@dataclass
class Story:
    """How the outcome came about."""

    outcome: Outcome = "open"
    closed_at: datetime | None = None
    reopened_at: datetime | None = None
    expired: bool = False
    anomalies: frozenset[str] = frozenset()


def outcomes(views: Sequence[View]) -> Story:
    """The outcome after the last event: a case expires while it waits, and a case that opens again waits anew."""
    story = Story()
    for view in views:
        at, before = view.last.received_at, story.outcome
        if view.last.kind == "expiry" and before not in CLOSING:
            story.expired = True
        closing = closing_outcome(view)
        if closing is None and before in CLOSING:
            story.reopened_at, story.expired = at, False
        if closing is not None and closing != before and story.expired:
            story.anomalies |= {"closed_after_expiry"}
        waiting: Outcome = "awaiting_resubmission" if view.kyc_status == "temporary_rejection" else "open"
        story.outcome = closing or ("expired" if story.expired else waiting)
        story.closed_at = None if closing is None else (story.closed_at if closing == before else at)
    return story


def closing_outcome(view: View) -> Outcome | None:
    """The outcome of a closed case; None when the case still waits."""
    if view.kyc_status == "permanent_rejection":
        return "rejected"
    enough = view.kyc_status == "success" or (view.kyc_status == "none" and not view.expects_kyc)
    return "completed" if view.kyb_status == "resolved" and enough else None


def opening(history: Sequence[CaseEvent]) -> tuple[datetime, OpenedAtSource]:
    """When the case began, and what says so."""
    first = history[0]
    if first.type == "service_initiated":
        return first.received_at, "event"
    if first.kind == "link" and first.placement == "registered":
        return first.received_at, "link"
    embedded = [event.id_embedded_at for event in history if event.id_embedded_at is not None]
    initiated = any(event.type == "service_initiated" for event in history)
    if embedded and not initiated and min(embedded) < first.received_at:
        return min(embedded), "id_embedded"
    return first.received_at, "first_receipt"


def resolves(event: CaseEvent, service: str) -> bool:
    """Whether the event resolves the service."""
    kind = event.type == "service_resolved" or (event.type == "document_purchase_request" and service == "documents")
    return kind and event.status == "resolved"


def is_result(event: CaseEvent) -> bool:
    """Whether the event is a result of a subject."""
    return event.kind == "kyc" and event.subject is not None


def first_time(events: Iterable[CaseEvent]) -> datetime | None:
    """Receipt of the first of these events."""
    times = [event.received_at for event in events]
    return times[0] if times else None


def since(holds: Sequence[bool], history: Sequence[CaseEvent]) -> datetime | None:
    """Since when something holds without a break; None when it does not."""
    if not holds[-1]:
        return None
    broken = [index for index, held in enumerate(holds) if not held]
    return history[broken[-1] + 1 if broken else 0].received_at
