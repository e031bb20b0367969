"""How a scripted case must end, by the rules that cases are folded by, from what its script says.

Written for the situations that are scripted here, and on purpose without the state machines of `streams`: it is what they are
compared with.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from kybstream.simulator.kyc_bodies import PERMANENT_REJECTION, SUCCESS, TEMPORARY_REJECTION, KycStatusCode
from kybstream.simulator.planned import MatchState, Outcome

KybStatus: TypeAlias = Literal["none", "pending", "resolved"]
KycStatus: TypeAlias = Literal["none", "pending", "success", "temporary_rejection", "permanent_rejection"]


@dataclass(frozen=True)
class KybFact:
    """What the fold reads of a KYB event."""

    type: str
    services: tuple[str, ...]


@dataclass(frozen=True)
class KycFact:
    """What the fold reads of a callback; `subject` is the person's number."""

    subject: int
    status: KycStatusCode


def kyb_status(facts: Sequence[KybFact]) -> KybStatus:
    """The status of events in the order of receipt.

    A service is resolved when an answer names it. With one initiation the order does not matter (the answer may overtake
    it); a further initiation asks for a further answer.
    """
    if not facts:
        return "none"
    initiations: Counter[str] = Counter()
    answered: set[str] = set()
    for fact in facts:
        for service in fact.services:
            if fact.type == "service_initiated":
                initiations[service] += 1
                if initiations[service] > 1:
                    answered.discard(service)
            elif fact.type in {"service_resolved", "document_purchase_request"}:
                answered.add(service)
    return "resolved" if answered and answered >= initiations.keys() else "pending"


def kyc_status(facts: Sequence[KycFact], *, expected_subjects: int) -> KycStatus:
    """The worst of the subjects; pending when fewer have a result than are expected, none when none is expected."""
    newest: dict[int, KycStatusCode] = {}
    for fact in facts:
        final = newest.get(fact.subject) in {SUCCESS, PERMANENT_REJECTION}
        if not (final and fact.status == TEMPORARY_REJECTION):
            newest[fact.subject] = fact.status
    results = set(newest.values())
    if PERMANENT_REJECTION in results:
        return "permanent_rejection"
    if TEMPORARY_REJECTION in results:
        return "temporary_rejection"
    if len(newest) < expected_subjects:
        return "pending"
    return "success" if newest else "none"


def outcome(kyb: KybStatus, kyc: KycStatus) -> Outcome:
    """What follows from both sides, deadlines aside."""
    if kyc == "permanent_rejection":
        return "rejected"
    if kyc == "temporary_rejection":
        return "awaiting_resubmission"
    return "completed" if kyb == "resolved" and kyc in {"success", "none"} else "open"


def match_state(kyb_events: int, kyc_events: int) -> MatchState:
    """Which halves a case has."""
    if kyb_events and kyc_events:
        return "matched"
    return "kyb_only" if kyb_events else "kyc_only"
