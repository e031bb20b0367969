"""The intake's state machine: `(state, delivery) -> (state, outputs)` for the deliveries of one entity key.

Pure: no I/O and no clock. Time is the receipt of the delivery, so that processing a delivery again, at whatever time, gives the
same outputs byte for byte. Everything that has to be told again after a crash is kept in the state with the id of what caused
it: a delivery that made an event, a link or token that moved one (`streams.links`).
"""

from __future__ import annotations

from datetime import timedelta

from kybstream.ids import derived_id, to_micros
from schemas.providers import kyb, kyc
from schemas.providers.body import NO_ENTITY, JsonObject, Reading, UnreadableBodyError, read_body
from schemas.providers.fields import MAX_FIELD_NAME_LENGTH, MAX_NAMED_UNKNOWN
from schemas.providers.formats import read_sent
from schemas.providers.identity import identify
from schemas.records import CaseEvent, Event, Record, WebhookDelivery
from schemas.topics import entity_key
from streams import linking
from streams.aside import Aside
from streams.flood import EVENT_FLOOD
from streams.intake_state import MICROSECOND, SEEN_KEPT, IntakeState, Occurrence, Parked
from streams.linking import NO_TOKENS, Placement, Tokens
from streams.links import token_claim
from streams.policy import TenantPolicy
from streams.repeats import fingerprints, known_as, put_aside, remember
from streams.verdicts import judged

ENCRYPTED = "encrypted"
ENTITY_MISMATCH = "entity_mismatch"
_KEYED_BY_ANOTHER = "the ingress keyed it by another entity: check tenants.pseudonym_key"
_KEYLESS = "the ingress found no entity in it: is it of an older version? dlq replay --rekey gives it the right key"


class QuarantineError(Exception):
    """This delivery cannot be processed; its bytes go to the dead letters.

    Attributes:
        reason: A code.
        detail: More about it, without any of the body.
    """

    def __init__(self, reason: str, detail: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


def intake(
    state: IntakeState, delivery: WebhookDelivery, policy: TenantPolicy, aside: Aside
) -> tuple[IntakeState, list[Record]]:
    """Judges one delivery: new or duplicate, and where its event belongs.

    Args:
        state: Of the delivery's entity key.
        delivery: With its body in clear.
        policy: The rules of its tenant.
        aside: What lies beside the state; the caller writes what this changes.

    Returns:
        The new state, and in this order: events of the case, the event (when new), the delivery with its verdict.

    Raises:
        QuarantineError: The body cannot be read or names no entity; the state stays as it was.
    """
    (body, unreadable), entity = _read(delivery, policy)
    is_kyb = delivery.source_kind == "kyb-service"
    facts = kyb.read_kyb(body, delivery.received_at) if is_kyb else kyc.read_kyc(body, policy.pseudonymiser)
    now = to_micros(delivery.received_at)
    state = state.pruned(now, policy.deadline)

    tokens = NO_TOKENS if is_kyb else _tokens(delivery, body, policy)
    violations = facts.violations + tuple([f"invalid:{place}" for place in tokens.invalid])
    if unreadable:
        violations += tuple(f"unreadable:{name[:MAX_FIELD_NAME_LENGTH]}" for name in unreadable[:MAX_NAMED_UNKNOWN])
    outputs: list[Record] = []

    fingerprint, occurrence = known_as(state, fingerprints(delivery, entity, facts, body, policy), now, aside)
    is_new = occurrence is None or occurrence.delivery_id == delivery.delivery_id
    if occurrence is None:
        placement = (
            Placement(entity, linking.OWN) if isinstance(facts, kyb.KybFacts) else linking.place(entity, tokens, state.claims)
        )
        occurrence = Occurrence(
            delivery_id=delivery.delivery_id,
            event_id=derived_id("event", fingerprint, delivery.delivery_id),
            first_at=now,
            last_at=now,
            case_id="" if is_kyb else placement.case_id,
            placement=placement.rule,
            window=_window(facts.type, policy) // MICROSECOND,
        )
        if isinstance(facts, kyc.KycFacts):
            movable = _movable(occurrence, facts, tokens)
            occurrence.flood = bool(movable) and not state.may_park
            state.parked += [] if occurrence.flood else movable
    remember(state, fingerprint, occurrence, now, aside)
    if state.seen_events > SEEN_KEPT:
        put_aside(state, fingerprint, aside)

    if is_new:
        if isinstance(facts, kyb.KybFacts):
            outputs += _new_kyb_event(delivery, entity, facts, occurrence, violations)
        else:
            outputs += _new_kyc_event(delivery, entity, facts, occurrence, tokens=tokens, violations=violations)
    if not is_kyb:
        outputs += token_claim(state, delivery, entity, tokens)
    outputs.append(
        judged(delivery, occurrence, occurrence.case_id or entity, facts.type, violations, is_new=is_new),
    )
    return state, outputs


def _read(delivery: WebhookDelivery, policy: TenantPolicy) -> tuple[Reading, str]:
    """The body, and the entity it is about."""
    if delivery.body_key_id is not None:
        raise QuarantineError(ENCRYPTED, "the body must be decrypted before it is judged")
    try:
        reading = read_sent(read_body, delivery.body, delivery.body_format, delivery.content_encoding)
    except UnreadableBodyError as error:
        raise QuarantineError(error.reason, error.detail) from None
    identity = identify(
        "kyb-service" if delivery.source_kind == "kyb-service" else "kyc-registration", reading.content, policy.pseudonymiser
    )
    if identity is None:
        name = "service_id" if delivery.source_kind == "kyb-service" else "userNo"
        raise QuarantineError(NO_ENTITY, f"the body has no usable {name}")
    if delivery.entity_key != entity_key(delivery.tenant, identity.entity):
        # The record lies in the partition of another key: ingress and worker have different keys, or versions.
        raise QuarantineError(ENTITY_MISMATCH, _KEYLESS if delivery.entity_key is None else _KEYED_BY_ANOTHER)
    return reading, identity.entity


def _tokens(delivery: WebhookDelivery, body: JsonObject, policy: TenantPolicy) -> Tokens:
    return linking.read_tokens(delivery.case_token, kyc.remark_tokens(body), policy.case_token_keys)


def _window(event_type: str, policy: TenantPolicy) -> timedelta:
    return policy.ongoing_aml_window if event_type == kyb.ONGOING_AML else policy.dedup_window


def _new_kyb_event(
    delivery: WebhookDelivery, entity: str, facts: kyb.KybFacts, occurrence: Occurrence, violations: tuple[str, ...]
) -> tuple[CaseEvent, Event]:
    """What a KYB delivery tells the case, and the event that it made."""
    # Field by field, and again below: this runs for every delivery, and a dictionary of what both share costs more.
    told = CaseEvent(
        event_id=occurrence.event_id,
        tenant=delivery.tenant,
        case_id=entity,
        received_at=delivery.received_at,
        kind="kyb",
        type=facts.type,
        status=facts.status,
        services=facts.services,
        id_embedded_at=facts.id_embedded_at,
        anomalies=facts.anomalies,
    )
    event = Event(
        event_id=occurrence.event_id,
        delivery_id=delivery.delivery_id,
        received_at=delivery.received_at,
        tenant=delivery.tenant,
        source=delivery.source,
        source_kind=delivery.source_kind,
        entity_key=delivery.entity_key or "",
        case_id=entity,
        placement=occurrence.placement,
        type=facts.type,
        status=facts.status,
        services=facts.services,
        service_id=facts.service_id,
        kyb_backoffice_id=facts.kyb_backoffice_id,
        link_kind=facts.link_kind,
        link_service_id=facts.link_service_id,
        link_company_id=facts.link_company_id,
        id_embedded_at=facts.id_embedded_at,
        kyb_request_from=facts.kyb_request_from,
        questionnaire_request_id=facts.questionnaire_request_id,
        kyc_request_id=facts.kyc_request_id,
        aml_request_id=facts.aml_request_id,
        kyb_request_id=facts.kyb_request_id,
        document_request_id=facts.document_request_id,
        uid=facts.uid,
        search_type=facts.search_type,
        registration_number=facts.registration_number,
        document_name=facts.document_name,
        document_found=facts.document_found,
        null_fields=facts.null_fields,
        unknown_fields=facts.unknown_fields,
        violations=violations,
    )
    return told, event


def _new_kyc_event(
    delivery: WebhookDelivery,
    entity: str,
    facts: kyc.KycFacts,
    occurrence: Occurrence,
    *,
    tokens: Tokens,
    violations: tuple[str, ...],
) -> tuple[CaseEvent, Event]:
    """What a KYC delivery tells the case, and the event that it made."""
    disagrees = occurrence.placement == linking.REGISTERED and tokens.refs not in {(), (occurrence.case_id,)}
    told = CaseEvent(
        event_id=occurrence.event_id,
        tenant=delivery.tenant,
        case_id=occurrence.case_id,
        received_at=delivery.received_at,
        kind="kyc",
        status=facts.status,
        subject=entity,
        kyc_type=facts.kyc_type,
        kyc_level=facts.kyc_level,
        placement=occurrence.placement,
        anomalies=(linking.TOKEN_DISAGREES_WITH_LINK,) * disagrees + (EVENT_FLOOD,) * occurrence.flood,
    )
    event = Event(
        event_id=occurrence.event_id,
        delivery_id=delivery.delivery_id,
        received_at=delivery.received_at,
        tenant=delivery.tenant,
        source=delivery.source,
        source_kind=delivery.source_kind,
        entity_key=delivery.entity_key or "",
        case_id=occurrence.case_id,
        placement=occurrence.placement,
        type=facts.type,
        status=facts.status,
        subject=entity,
        kyc_type=facts.kyc_type,
        kyc_level=facts.kyc_level,
        kyc_platform=facts.kyc_platform,
        country=facts.country,
        id_doc_type=facts.id_doc_type,
        merchant_no=facts.merchant_no,
        sub_merchant_no=facts.sub_merchant_no,
        fail_reasons=facts.fail_reasons,
        email_pseudonym=facts.email_pseudonym,
        number_pseudonym=facts.number_pseudonym,
        user_num_pseudonym=facts.user_num_pseudonym,
        null_fields=facts.null_fields,
        unknown_fields=facts.unknown_fields,
        violations=violations,
    )
    return told, event


def _movable(occurrence: Occurrence, facts: kyc.KycFacts, tokens: Tokens) -> list[Parked]:
    """The callback, if a link or its withdrawal can take it to another case: not where its own or earlier tokens put it."""
    if occurrence.placement in linking.LINKED - {linking.REGISTERED}:
        return []
    return [
        Parked(
            event_id=occurrence.event_id,
            at=occurrence.first_at,
            status=facts.status,
            kyc_type=facts.kyc_type,
            kyc_level=facts.kyc_level,
            placement=occurrence.placement,
            case_id=occurrence.case_id if occurrence.placement == linking.REGISTERED else "",
            refs=tokens.refs,
            token_rule=tokens.rule,
        )
    ]
