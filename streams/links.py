"""What a link does, registered or brought by a token: it is told to its case, and takes along the callbacks that waited.

Everything told is derived from the state and from what brought the link, so that it can be told again after a crash.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from kybstream.ids import derived_id, from_micros, to_micros
from schemas.records import CaseEvent, Link, Record, WebhookDelivery
from streams import linking
from streams.intake_state import IntakeState, Parked
from streams.linking import Claim, Tokens


def intake_link(state: IntakeState, link: Link) -> tuple[IntakeState, list[Record]]:
    """Takes a registered link: tells the case, and moves what waits on the provisional case if the link is the only one.

    The same link again gives the same outputs; links that claim the subject for several cases move nothing.
    """
    state = msgspec.structs.replace(state, claims=list(state.claims), parked=list(state.parked))
    if not any(claim.source_id == link.link_id for claim in state.claims):
        state.claims.append(
            Claim(link.case_id, linking.REGISTERED, link.link_id, to_micros(link.registered_at), link.expected_subjects)
        )
        if linking.registered_cases(state.claims) == (link.case_id,):
            _mark_moved(state.parked, link.link_id, {linking.UNLINKED, linking.CONFLICT, linking.AMBIGUOUS})
    return state, list(_told_by(state, link.link_id, link.tenant, link.subject))


def token_claim(state: IntakeState, delivery: WebhookDelivery, subject: str, tokens: Tokens) -> list[Record]:
    """Remembers the case that this delivery's token names, and tells it if this delivery was the first to name it."""
    # Where a link is registered it decides alone: another case must not be told to wait for this subject. The same case is
    # told, so that it makes no difference which of link and callback is read first.
    registered = linking.registered_cases(state.claims)
    if len(tokens.refs) == 1 and tokens.rule and registered in {(), tokens.refs}:
        case_id = tokens.refs[0]
        if case_id not in linking.learned_cases(state.claims):
            state.claims.append(Claim(case_id, tokens.rule, delivery.delivery_id, to_micros(delivery.received_at)))
            if linking.learned_cases(state.claims) == (case_id,):
                # A conflict is for people to settle: only a registered link moves it.
                _mark_moved(state.parked, delivery.delivery_id, {linking.UNLINKED})
    return list(_told_by(state, delivery.delivery_id, delivery.tenant, subject))


def _mark_moved(parked: list[Parked], source_id: str, placements: set[str]) -> None:
    for index, waiting in enumerate(parked):
        if waiting.moved_by is None and waiting.placement in placements:
            parked[index] = msgspec.structs.replace(waiting, moved_by=source_id)


def _told_by(state: IntakeState, source_id: str, tenant: str, subject: str) -> Iterable[CaseEvent]:
    """What a link or a token's delivery tells: the link, the callbacks it moved, and the end of the provisional case."""
    for claim in state.claims:
        if claim.source_id != source_id:
            continue
        at = from_micros(claim.at)
        yield CaseEvent(
            event_id=derived_id("link", tenant, claim.case_id, subject, claim.rule, source_id),
            tenant=tenant,
            case_id=claim.case_id,
            received_at=at,
            kind="link",
            subject=subject,
            placement=claim.rule,
            expected_subjects=claim.expected_subjects,
        )
        moved = [parked for parked in state.parked if parked.moved_by == source_id]
        for parked in moved:
            yield CaseEvent(
                event_id=parked.event_id,
                tenant=tenant,
                case_id=claim.case_id,
                received_at=from_micros(parked.at),
                kind="kyc",
                status=parked.status,
                subject=subject,
                kyc_type=parked.kyc_type,
                kyc_level=parked.kyc_level,
                placement=claim.rule,
            )
        if moved:
            moved_events = tuple(parked.event_id for parked in moved)
            yield CaseEvent(
                event_id=derived_id("merge", tenant, subject, claim.case_id, *moved_events),
                tenant=tenant,
                case_id=linking.provisional_case_id(subject),
                received_at=at,
                kind="merge",
                subject=subject,
                merged_into=claim.case_id,
                moved_events=moved_events,
            )
