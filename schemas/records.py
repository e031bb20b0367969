"""The records that travel on our topics, as values. Each has its Avro schema of the same fields in `schemas/avro/`.

Times are aware UTC with microseconds. Field by field meaning: the `doc` of the Avro schemas, and docs/reference/topics.md.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

Verdict = Literal["new", "duplicate", "quarantined"]
CaseEventKind = Literal["other", "kyb", "kyc", "link", "merge", "expiry", "withdrawal"]
MatchState = Literal["kyb_only", "kyc_only", "matched", "ambiguous", "conflict"]
KybStatus = Literal["none", "pending", "resolved"]
KycStatus = Literal["none", "pending", "success", "temporary_rejection", "permanent_rejection"]
Outcome = Literal["open", "completed", "rejected", "awaiting_resubmission", "expired", "merged"]
ReplayKind = Literal["dead_letter", "range"]
OpenedAtSource = Literal["first_receipt", "event", "link", "id_embedded"]


class Record(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Base of all records. None can be part of a reference cycle, so the collector need not look at any."""


class WebhookDelivery(Record, frozen=True, kw_only=True):
    """One webhook as it came in."""

    delivery_id: str
    received_at: datetime
    tenant: str
    source: str
    source_kind: str
    entity_key: str | None = None
    case_token: str | None = None
    content_type: str | None = None
    signature_scheme: str = "none"
    body: bytes
    body_key_id: str | None = None
    content_encoding: str | None = None
    body_format: str | None = None

    def __repr__(self) -> str:
        # Body and case token must not reach a log by accident.
        return f"WebhookDelivery({self.delivery_id}, source={self.source!r}, body_size={len(self.body)})"


class Link(Record, frozen=True, kw_only=True):
    """A registered link: this subject belongs to this case."""

    link_id: str
    tenant: str
    case_id: str
    subject: str
    expected_subjects: int | None = None
    registered_at: datetime


class LinkWithdrawal(Record, frozen=True, kw_only=True):
    """A registered link is taken back: as far as registrations go, this subject does not belong to this case."""

    withdrawal_id: str
    tenant: str
    case_id: str
    subject: str
    withdrawn_at: datetime


class Delivery(Record, frozen=True, kw_only=True):
    """What became of one delivery."""

    delivery_id: str
    received_at: datetime
    tenant: str
    source: str
    source_kind: str
    verdict: Verdict
    reason: str | None = None
    event_id: str | None = None
    first_delivery_id: str | None = None
    entity_key: str | None = None
    case_id: str | None = None
    event_type: str | None = None
    violations: tuple[str, ...] = ()
    body_size: int


class Event(Record, frozen=True, kw_only=True):
    """A deduplicated, normalised webhook without personal data."""

    event_id: str
    delivery_id: str
    received_at: datetime
    tenant: str
    source: str
    source_kind: str
    entity_key: str
    case_id: str
    placement: str
    type: str
    status: str | None = None
    services: tuple[str, ...] = ()
    service_id: str | None = None
    kyb_backoffice_id: str | None = None
    link_kind: str | None = None
    link_service_id: str | None = None
    link_company_id: str | None = None
    id_embedded_at: datetime | None = None
    kyb_request_from: str | None = None
    questionnaire_request_id: str | None = None
    kyc_request_id: str | None = None
    aml_request_id: str | None = None
    kyb_request_id: str | None = None
    document_request_id: str | None = None
    uid: str | None = None
    search_type: str | None = None
    registration_number: str | None = None
    document_name: str | None = None
    document_found: bool | None = None
    subject: str | None = None
    kyc_type: str | None = None
    kyc_level: str | None = None
    kyc_platform: str | None = None
    country: str | None = None
    id_doc_type: str | None = None
    merchant_no: str | None = None
    sub_merchant_no: str | None = None
    fail_reasons: tuple[str, ...] = ()
    email_pseudonym: str | None = None
    number_pseudonym: str | None = None
    user_num_pseudonym: str | None = None
    null_fields: tuple[str, ...] = ()
    unknown_fields: tuple[str, ...] = ()
    violations: tuple[str, ...] = ()


class CaseEvent(Record, frozen=True, kw_only=True):
    """One change of one case."""

    event_id: str
    tenant: str
    case_id: str
    received_at: datetime
    kind: CaseEventKind
    type: str | None = None
    status: str | None = None
    services: tuple[str, ...] = ()
    id_embedded_at: datetime | None = None
    subject: str | None = None
    kyc_type: str | None = None
    kyc_level: str | None = None
    placement: str | None = None
    expected_subjects: int | None = None
    merged_into: str | None = None
    moved_events: tuple[str, ...] = ()
    anomalies: tuple[str, ...] = ()


class Service(Record, frozen=True, kw_only=True):
    """One KYB service of a case."""

    name: str
    initiated_at: datetime | None = None
    resolved_at: datetime | None = None


class Subject(Record, frozen=True, kw_only=True):
    """One KYC subject of a case."""

    subject: str
    level: str | None = None
    type: str | None = None
    status: str
    attempts: int


class Case(Record, frozen=True, kw_only=True):
    """A case after one more event: a snapshot."""

    tenant: str
    case_id: str
    version: int
    match_state: MatchState
    kyb_status: KybStatus
    kyc_status: KycStatus
    outcome: Outcome
    merged_into: str | None = None
    services: tuple[Service, ...] = ()
    subjects: tuple[Subject, ...] = ()
    expected_subjects: int | None = None
    opened_at: datetime
    opened_at_source: OpenedAtSource
    kyb_initiated_at: datetime | None = None
    kyb_resolved_at: datetime | None = None
    kyc_first_result_at: datetime | None = None
    kyc_final_at: datetime | None = None
    linked_at: datetime | None = None
    closed_at: datetime | None = None
    deadline_at: datetime
    updated_at: datetime
    placements: tuple[str, ...] = ()
    resubmissions: int
    aml_alerts: int
    anomalies: tuple[str, ...] = ()


class DeadLetter(Record, frozen=True, kw_only=True):
    """A record that could not be processed, whole."""

    dead_letter_id: str
    delivery_id: str | None = None
    received_at: datetime
    tenant: str | None = None
    source: str | None = None
    stage: str
    reason: str
    detail: str | None = None
    origin_topic: str
    origin_key: bytes | None = None
    origin_headers: dict[str, bytes] = {}
    origin_value: bytes | None = None
    body_size: int

    def __repr__(self) -> str:
        return f"DeadLetter({self.dead_letter_id}, stage={self.stage!r}, reason={self.reason!r})"


class Rejection(Record, frozen=True, kw_only=True):
    """What the ingress turned away in one minute for one reason."""

    rejection_id: str
    minute: datetime
    tenant: str | None = None
    source: str
    reason: str
    count: int
    ingress: str


class Replay(Record, frozen=True, kw_only=True):
    """That an operator had records written again."""

    replay_id: str
    replayed_at: datetime
    replayed_by: str
    kind: ReplayKind
    origin_topic: str
    tenant: str | None = None
    source: str | None = None
    dead_letter_id: str | None = None
    first_dead_letter_id: str | None = None
    delivery_id: str | None = None
    attempt: int | None = None
    rekeyed: bool = False
    range_from: datetime | None = None
    range_to: datetime | None = None
    records: int | None = None
