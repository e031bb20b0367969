"""A case while its events are applied one by one: the rules of services, subjects, statuses and outcome.

After each event the statuses are computed anew, so that times of change (`closed_at`, `kyb_resolved_at`, `kyc_final_at`) are
the receipt of the event that made the change. docs/explanation/cases.md states the rules in words.
"""

from __future__ import annotations

import msgspec

from schemas.providers import kyb, kyc
from schemas.records import KybStatus, KycStatus, MatchState, Outcome
from streams.facts import CasePolicy, Fact
from streams.flood import EVENT_FLOOD, MANY_PERSONS, Absorbed, Others, resolves
from streams.linking import AMBIGUOUS, CONFLICT, LINKED

KYC_REGRESSION = "kyc_regression"
KYC_REVERSAL = "kyc_reversal"
KYC_UNKNOWN_STATUS = "kyc_unknown_status"
CLOSED_AFTER_EXPIRY = "closed_after_expiry"
LINK_WITHDRAWN = "link_withdrawn"
PENDING_SUBJECT = "pending"

_TERMINAL = frozenset({kyc.SUCCESS, kyc.PERMANENT_REJECTION})
_KNOWN = frozenset({kyc.SUCCESS, kyc.PERMANENT_REJECTION, kyc.TEMPORARY_REJECTION})
_CLOSING = frozenset({"completed", "rejected"})


class FoldedService(msgspec.Struct):
    """A service while facts are applied."""

    initiations: int = 0
    initiated_at: int | None = None
    resolved_at: int | None = None
    reopened: bool = False

    @property
    def resolved(self) -> bool:
        """Whether its newest resolution still counts."""
        return self.resolved_at is not None and not self.reopened


class FoldedSubject(msgspec.Struct):
    """A subject while facts are applied; `newest` is its newest result, which need not be the one that counts."""

    status: str = PENDING_SUBJECT
    level: str | None = None
    type: str | None = None
    attempts: int = 0
    newest: str | None = None


class Folding(msgspec.Struct):
    """A case while its facts are applied, in order of receipt."""

    policy: CasePolicy
    services: dict[str, FoldedService] = {}
    subjects: dict[str, FoldedSubject] = {}
    persons: dict[str, int] = {}
    """How many persons have each status, those beyond the bound among them."""
    anomalies: set[str] = set()
    placements: dict[str, None] = {}
    has_kyb: bool = False
    has_service_event: bool = False
    has_result: bool = False
    linked: bool = False
    expired: bool = False
    expected_subjects: int | None = None
    expected_since: int = 0
    merged_into: str | None = None
    resubmissions: int = 0
    aml_alerts: int = 0
    times: dict[str, int] = {}
    reopened_at: int | None = None
    outcome: Outcome = "open"

    def apply(self, fact: Fact) -> None:
        """Takes one fact, and notes the times at which it changed a status."""
        self.anomalies.update(fact.anomalies)
        match fact.kind:
            case "kyb":
                self._kyb(fact)
            case "kyc":
                self._kyc(fact)
            case "link":
                self._link(fact)
            case "merge":
                self.merged_into = fact.merged_into
            case "withdrawal":
                # Of one that a later link made void nothing is left to tell: it is not in force.
                self.anomalies.add(LINK_WITHDRAWN)
            case "expiry":
                # What is closed does not expire; a case that opens again gets a deadline of its own.
                self.expired = self.expired or self.outcome not in _CLOSING
        self._settle(fact.at)

    def take(self, others: Others) -> None:
        """Takes all persons beyond the bound, at the time of their last event."""
        self.anomalies.add(MANY_PERSONS)
        self.anomalies.update(others.anomalies)
        self.placements.update(dict.fromkeys(others.placements))
        self.linked = self.linked or others.linked > 0
        self.has_result = self.has_result or others.results > 0
        self.resubmissions += others.resubmissions
        for status, number in others.persons.items():
            self.persons[status] = self.persons.get(status, 0) + number
        for name, at, counts in (
            ("kyc_first_result_at", others.first_result, others.results),
            ("linked_at", others.first_link, others.linked),
        ):
            if at is not None and counts:
                self.times[name] = min(at, self.times.get(name, at))
        if others.expected is not None and others.expected > (self.expected_since, self.expected_subjects or 0):
            self.expected_since, self.expected_subjects = others.expected
        self._settle(others.last)

    def count(self, absorbed: Absorbed) -> None:
        """Counts events that lie between the first and the last of those that do the same; to be called after all facts."""
        self.anomalies.add(EVENT_FLOOD)
        fact = absorbed.like
        if fact.type == kyb.ONGOING_AML:
            self.aml_alerts += absorbed.count
        if fact.kind == "kyc" and fact.subject is not None:
            self.subjects[fact.subject].attempts += absorbed.count
            if fact.status == kyc.TEMPORARY_REJECTION:
                # Each is followed by a result of the same person, if only by the last temporary rejection.
                self.resubmissions += absorbed.count

    def _kyb(self, fact: Fact) -> None:
        self.has_kyb = True
        if fact.type == kyb.ONGOING_AML:
            self.aml_alerts += 1
            return
        self.has_service_event = True
        if fact.type == kyb.SERVICE_INITIATED:
            self.times.setdefault("kyb_initiated_at", fact.at)
        for name in fact.services:
            service = self.services.setdefault(name, FoldedService())
            if fact.type == kyb.SERVICE_INITIATED:
                service.initiations += 1
                if service.initiated_at is None:
                    service.initiated_at = fact.at
                # The only initiation after a resolution is disorder on the wire; a second one asks for the service again.
                service.reopened = service.resolved_at is not None and service.initiations > 1
            elif resolves(fact, name):
                service.resolved_at = fact.at
                service.reopened = False

    def _kyc(self, fact: Fact) -> None:
        if fact.placement:
            self.placements[fact.placement] = None
            self.linked = self.linked or fact.placement in LINKED
        if fact.subject is None:
            return
        subject = self._subject(fact.subject)
        subject.attempts += 1
        self.has_result = True
        self.times.setdefault("kyc_first_result_at", fact.at)
        if subject.newest == kyc.TEMPORARY_REJECTION:
            self.resubmissions += 1
        subject.newest = fact.status
        if fact.status not in _KNOWN:
            self.anomalies.add(KYC_UNKNOWN_STATUS)
            return
        if subject.status in _TERMINAL and fact.status == kyc.TEMPORARY_REJECTION:
            self.anomalies.add(KYC_REGRESSION)
            return
        if subject.status in _TERMINAL and fact.status != subject.status:
            self.anomalies.add(KYC_REVERSAL)
        self.persons[subject.status] -= 1
        subject.status, subject.level, subject.type = fact.status or PENDING_SUBJECT, fact.kyc_level, fact.kyc_type
        self.persons[subject.status] = self.persons.get(subject.status, 0) + 1

    def _subject(self, name: str) -> FoldedSubject:
        subject = self.subjects.get(name)
        if subject is None:
            subject = self.subjects[name] = FoldedSubject()
            self.persons[PENDING_SUBJECT] = self.persons.get(PENDING_SUBJECT, 0) + 1
        return subject

    def _link(self, fact: Fact) -> None:
        self.linked = True
        self.times.setdefault("linked_at", fact.at)
        if fact.subject is not None:
            self._subject(fact.subject)
        if fact.expected_subjects is not None:
            self.expected_subjects, self.expected_since = fact.expected_subjects, fact.at

    def _settle(self, at: int) -> None:
        """Statuses after a fact, and the times at which they changed."""
        kyb_status, kyc_status = self.kyb_status, self.kyc_status
        self._hold("kyb_resolved_at", at, holds=kyb_status == "resolved")
        self._hold("kyc_final_at", at, holds=kyc_status in _TERMINAL)
        before, self.outcome = self.outcome, self._outcome(kyb_status, kyc_status)
        if before in _CLOSING and self.outcome not in _CLOSING:
            # It waits anew, with a deadline of its own.
            self.reopened_at, self.expired = at, False
            self.outcome = self._outcome(kyb_status, kyc_status)
        if self.outcome not in _CLOSING:
            self.times.pop("closed_at", None)
        elif self.outcome != before:
            self.times["closed_at"] = at
            if self.expired:
                self.anomalies.add(CLOSED_AFTER_EXPIRY)

    def _hold(self, name: str, at: int, *, holds: bool) -> None:
        if holds:
            self.times.setdefault(name, at)
        else:
            self.times.pop(name, None)

    @property
    def kyb_status(self) -> KybStatus:
        """resolved: at least one service is, and every initiated one; an AML alert alone says nothing."""
        if not self.has_service_event:
            return "none"
        done = False
        for service in self.services.values():
            if service.resolved:
                done = True
            elif service.initiations:
                return "pending"
        return "resolved" if done else "pending"

    @property
    def kyc_expected(self) -> bool:
        """Whether the case waits for KYC: a link, a token or the tenant's setting says so."""
        return self.linked or self.policy.kyc_always

    @property
    def kyc_status(self) -> KycStatus:
        """The worst of the subjects."""
        statuses = {status for status, number in self.persons.items() if number}
        if kyc.PERMANENT_REJECTION in statuses:
            return "permanent_rejection"
        if kyc.TEMPORARY_REJECTION in statuses:
            return "temporary_rejection"
        if not statuses and not self.kyc_expected:
            return "none"
        enough = sum(self.persons.values()) >= (self.expected_subjects or 1)
        return "success" if enough and statuses == {kyc.SUCCESS} else "pending"

    def _outcome(self, kyb_status: KybStatus, kyc_status: KycStatus) -> Outcome:
        if kyc_status == "permanent_rejection":
            return "rejected"
        done = kyc_status == "success" or (kyc_status == "none" and not self.kyc_expected)
        if kyb_status == "resolved" and done:
            return "completed"
        if self.expired:
            return "expired"
        return "awaiting_resubmission" if kyc_status == "temporary_rejection" else "open"

    @property
    def match_state(self) -> MatchState:
        """Whether both halves are there; a case that so far only a link names is kyb_only."""
        if CONFLICT in self.placements:
            return "conflict"
        if AMBIGUOUS in self.placements:
            return "ambiguous"
        if self.has_kyb and self.has_result:
            return "matched"
        return "kyc_only" if self.has_result else "kyb_only"
