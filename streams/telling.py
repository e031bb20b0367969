"""How links, moves and withdrawals are told to the cases: each as an event whose id follows from its content."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kybstream.ids import derived_id, from_micros
from schemas.records import CaseEvent
from streams import linking
from streams.intake_state import Move, Parked
from streams.linking import Claim


@dataclass(frozen=True)
class Teller:
    """Tells of one subject what one link, delivery or withdrawal (`source_id`) brought about."""

    tenant: str
    subject: str
    source_id: str

    def link(self, claim: Claim) -> CaseEvent:
        """To the case: this subject is yours."""
        return CaseEvent(
            event_id=derived_id("link", self.tenant, claim.case_id, self.subject, claim.rule, claim.source_id),
            tenant=self.tenant,
            case_id=claim.case_id,
            received_at=from_micros(claim.at),
            kind="link",
            subject=self.subject,
            placement=claim.rule,
            expected_subjects=claim.expected_subjects,
        )

    def withdrawal(self, claim: Claim, left: Sequence[Parked]) -> CaseEvent:
        """To the case: this subject is not yours, as far as registrations go; these callbacks leave."""
        return CaseEvent(
            event_id=derived_id("withdrawal", self.tenant, claim.case_id, self.subject, claim.source_id),
            tenant=self.tenant,
            case_id=claim.case_id,
            received_at=from_micros(claim.at),
            kind="withdrawal",
            subject=self.subject,
            moved_events=tuple(parked.event_id for parked in left),
        )

    def returned(self, move: Move, moved: Sequence[Parked]) -> CaseEvent:
        """To the case: this subject is yours after all; these callbacks, which had left, are back."""
        return CaseEvent(
            event_id=derived_id("return", self.tenant, move.case_id, self.subject, self.source_id),
            tenant=self.tenant,
            case_id=move.case_id,
            received_at=from_micros(move.at),
            kind="link",
            subject=self.subject,
            placement=move.rule,
            moved_events=tuple(parked.event_id for parked in moved),
        )

    def back(self, claim: Claim, left: Sequence[Parked]) -> CaseEvent:
        """To the provisional case: callbacks came from a case; these had gone there from here."""
        return CaseEvent(
            event_id=derived_id("back", self.tenant, claim.case_id, self.subject, claim.source_id),
            tenant=self.tenant,
            case_id=linking.provisional_case_id(self.subject),
            received_at=from_micros(claim.at),
            kind="withdrawal",
            subject=self.subject,
            merged_into=claim.case_id,
            moved_events=tuple(parked.event_id for parked in left),
        )

    def callback(self, parked: Parked, move: Move) -> CaseEvent:
        """To the case that it moved to: this callback belongs to you, with its original time."""
        return CaseEvent(
            event_id=parked.event_id,
            tenant=self.tenant,
            case_id=move.case_id or linking.provisional_case_id(self.subject),
            received_at=from_micros(parked.at),
            kind="kyc",
            status=parked.status,
            subject=self.subject,
            kyc_type=parked.kyc_type,
            kyc_level=parked.kyc_level,
            placement=move.rule,
        )

    def merge(self, move: Move, moved: Sequence[Parked]) -> CaseEvent:
        """To the provisional case: these callbacks went to a case."""
        moved_events = tuple(parked.event_id for parked in moved)
        return CaseEvent(
            event_id=derived_id("merge", self.tenant, self.subject, move.case_id, self.source_id, *moved_events),
            tenant=self.tenant,
            case_id=linking.provisional_case_id(self.subject),
            received_at=from_micros(move.at),
            kind="merge",
            subject=self.subject,
            merged_into=move.case_id,
            moved_events=moved_events,
        )
