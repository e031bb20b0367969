"""From records to records: the state machines over one batch of a partition. Pure; the plumbing is `streams.batching`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from kybstream.encryption import BodyDecryptor, UndecryptableError
from kybstream.errors import BadRecordError
from kybstream.ids import derived_id, from_micros
from schemas import topics
from schemas.cloudevents import cloud_event_headers
from schemas.codec import decode, encode
from schemas.records import Case, CaseEvent, DeadLetter, Delivery, Event, Link, Record, WebhookDelivery
from streams.batching.records import BatchResult, Output, StateReader
from streams.batching.records import Record as KafkaRecord
from streams.cases import CaseState, case, case_policy
from streams.intake import QuarantineError, intake, quarantined
from streams.intake_state import IntakeState
from streams.links import intake_link
from streams.policy import DEFAULT_DEADLINE, TenantPolicy

UNDECODABLE = "undecodable"
UNKNOWN_TENANT = "unknown_tenant"
KEY_MISMATCH = "key_mismatch"
"""The record is not keyed by what it is about: its state would be looked up in one place and written to another."""
UNDECRYPTABLE = "undecryptable"

_encoder = msgspec.msgpack.Encoder()
_intake_decoder = msgspec.msgpack.Decoder(IntakeState)
_case_decoder = msgspec.msgpack.Decoder(CaseState)


class TopicNames:
    """Full names of our topics under one prefix."""

    def __init__(self, prefix: str) -> None:
        self.raw = prefix + topics.RAW
        self.links = prefix + topics.LINKS
        self.deliveries = prefix + topics.DELIVERIES
        self.events = prefix + topics.EVENTS
        self.case_events = prefix + topics.CASE_EVENTS
        self.cases = prefix + topics.CASES
        self.dead_letters = prefix + topics.DEAD_LETTERS


class IntakeProcess:
    """The intake over a batch of raw deliveries or of links.

    Args:
        policies: The rules of each tenant.
        names: The topics.
        bodies: Decrypts bodies; without it, encrypted ones are of a key that is not configured.
    """

    def __init__(self, policies: Mapping[str, TenantPolicy], names: TopicNames, bodies: BodyDecryptor | None = None) -> None:
        self._policies = policies
        self._names = names
        self._bodies = bodies or BodyDecryptor({})

    def __call__(self, partition: int, records: Sequence[KafkaRecord], state: StateReader) -> BatchResult:
        """What the batch comes to: outputs in the order of its records, and the new states of its keys.

        Raises:
            UnknownKeyError: A body's key-encryption key is not configured. That is no record's fault, so it stops the worker
                instead of filling the dead letters.
        """
        del partition
        found = state.get_many({record.key for record in records if record.key is not None})
        states = {key: _intake_decoder.decode(value) for key, value in found.items()}
        changed: dict[bytes, IntakeState] = {}
        outputs: list[Output] = []
        for record in records:
            if record.topic == self._names.links and record.value is None:
                continue  # compaction removed a link; what it did stays done
            key = record.key or b""
            before = states.get(key, IntakeState())
            try:
                after, told = self._one(record, before)
            except BadRecordError as error:
                outputs.append(self._undecodable(record, error))
                continue
            except _RejectedError as rejected:
                outputs += self._dead(record, rejected)
                continue
            if after is not before:
                states[key] = changed[key] = after
            outputs += [self._output(one, record) for one in told]
        return BatchResult(outputs, {key: _encoder.encode(after) for key, after in changed.items()})

    def _one(self, record: KafkaRecord, before: IntakeState) -> tuple[IntakeState, list[Record]]:
        if record.topic == self._names.links:
            link = decode(record.value or b"", Link)
            if link.tenant not in self._policies:
                raise _RejectedError(UNKNOWN_TENANT, None, link=link)
            if record.key != topics.entity_key(link.tenant, link.subject).encode():
                raise _RejectedError(KEY_MISMATCH, None, link=link)
            return intake_link(before, link)
        delivery = decode(record.value or b"", WebhookDelivery)
        policy = self._policies.get(delivery.tenant)
        if policy is None:
            raise _RejectedError(UNKNOWN_TENANT, None, delivery=delivery)
        if delivery.entity_key is not None and record.key != delivery.entity_key.encode():
            raise _RejectedError(KEY_MISMATCH, None, delivery=delivery)
        delivery = self._readable(delivery)
        try:
            return intake(before, delivery, policy)
        except QuarantineError as error:
            raise _RejectedError(error.reason, error.detail, delivery=delivery) from None

    def _readable(self, delivery: WebhookDelivery) -> WebhookDelivery:
        """The delivery with its body in clear."""
        if delivery.body_key_id is None:
            return delivery
        try:
            body = self._bodies.decrypt(
                delivery.body,
                tenant=delivery.tenant,
                delivery_id=delivery.delivery_id,
                body_key_id=delivery.body_key_id,
            )
        except UndecryptableError as error:
            raise _RejectedError(UNDECRYPTABLE, error.message, delivery=delivery) from None
        return msgspec.structs.replace(delivery, body=body, body_key_id=None)

    def _output(self, record: Record, cause: KafkaRecord) -> Output:
        match record:
            case Delivery():
                return _output(self._names.deliveries, cause.key, record, cause)
            case Event():
                return _output(self._names.events, cause.key, record, cause)
            case CaseEvent():
                key = topics.case_key(record.tenant, record.case_id).encode()
                return _output(self._names.case_events, key, record, cause)
            case _:
                raise TypeError(f"the intake does not tell a {type(record).__name__}")

    def _dead(self, record: KafkaRecord, rejected: _RejectedError) -> list[Output]:
        delivery, link = rejected.delivery, rejected.link
        letter = dead_letter(
            "intake" if delivery else "links",
            rejected.reason,
            record,
            detail=rejected.detail,
            delivery=delivery,
            received_at=link.registered_at if link else None,
        )
        outputs = [_output(self._names.dead_letters, record.key, letter, record)]
        if delivery:
            verdict = quarantined(delivery, rejected.reason)
            outputs.append(_output(self._names.deliveries, record.key, verdict, record))
        return outputs

    def _undecodable(self, record: KafkaRecord, error: BadRecordError) -> Output:
        stage = "links" if record.topic == self._names.links else "intake"
        letter = dead_letter(stage, UNDECODABLE, record, detail=error.message)
        return _output(self._names.dead_letters, record.key, letter, record)


class CasesProcess:
    """The cases over a batch of case events."""

    def __init__(self, policies: Mapping[str, TenantPolicy], names: TopicNames) -> None:
        self._policies = policies
        self._names = names

    def __call__(self, partition: int, records: Sequence[KafkaRecord], state: StateReader) -> BatchResult:
        """What the batch comes to: a snapshot for each event that was not known, and the new states of its cases."""
        del partition
        found = state.get_many({record.key for record in records if record.key is not None})
        states: dict[bytes, CaseState] = {key: _case_decoder.decode(value) for key, value in found.items()}
        changed: set[bytes] = set()
        outputs: list[Output] = []
        for record in records:
            try:
                event = decode(record.value or b"", CaseEvent)
            except BadRecordError as error:
                letter = dead_letter("cases", UNDECODABLE, record, detail=error.message)
                outputs.append(_output(self._names.dead_letters, record.key, letter, record))
                continue
            key = topics.case_key(event.tenant, event.case_id).encode()
            if record.key != key:
                letter = dead_letter("cases", KEY_MISMATCH, record)
                outputs.append(_output(self._names.dead_letters, record.key, letter, record))
                continue
            policy = self._policies.get(event.tenant)
            rules = case_policy(
                deadline=policy.deadline if policy else DEFAULT_DEADLINE,
                kyc_always=policy.kyc_always if policy else False,
                case_id=event.case_id,
            )
            states[key], snapshot = case(states.get(key), event, rules)
            if snapshot is not None:
                changed.add(key)
                outputs.append(_output(self._names.cases, key, snapshot, record))
        return BatchResult(outputs, {key: _encoder.encode(states[key]) for key in changed})


def read_case_state(value: bytes) -> CaseState:
    """The state of a case as the table holds it."""
    return _case_decoder.decode(value)


def dead_letter(
    stage: str,
    reason: str,
    record: KafkaRecord,
    *,
    detail: str | None = None,
    delivery: WebhookDelivery | None = None,
    received_at: datetime | None = None,
) -> DeadLetter:
    """The dead letter of a record, whole. Its id follows from the delivery or the bytes: the same record, the same letter."""
    value = record.value or b""
    identity = delivery.delivery_id if delivery else hashlib.sha256((record.key or b"") + b"\x00" + value).hexdigest()
    return DeadLetter(
        dead_letter_id=derived_id("dead-letter", stage, reason, identity),
        delivery_id=delivery.delivery_id if delivery else None,
        received_at=delivery.received_at if delivery else received_at or from_micros(record.timestamp_ms * 1000),
        tenant=delivery.tenant if delivery else None,
        source=delivery.source if delivery else None,
        stage=stage,
        reason=reason,
        detail=detail,
        origin_topic=record.topic,
        origin_key=record.key,
        origin_headers=dict(record.headers),
        origin_value=record.value,
        body_size=len(delivery.body) if delivery else len(value),
    )


class _RejectedError(Exception):
    def __init__(
        self, reason: str, detail: str | None, *, delivery: WebhookDelivery | None = None, link: Link | None = None
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail
        self.delivery = delivery
        self.link = link


def _output(
    topic: str, key: bytes | None, record: Delivery | Event | CaseEvent | Case | DeadLetter, cause: KafkaRecord
) -> Output:
    traceparent = next((value.decode("ascii", "ignore") for name, value in cause.headers if name == "traceparent"), None)
    return Output(topic, key, encode(record), cloud_event_headers(record, traceparent=traceparent))
