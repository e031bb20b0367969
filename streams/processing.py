"""From records to records: the state machines over one batch of a partition. Pure; the plumbing is `streams.batching`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

import msgspec

from kybstream.encryption import BodyDecryptor, UndecryptableError
from kybstream.errors import BadRecordError, KybStreamError
from kybstream.stacks import place_of
from schemas import topics
from schemas.codec import decode
from schemas.records import Case, CaseEvent, Delivery, Event, Link, Record, WebhookDelivery
from streams.aside import FLOODED, Aside
from streams.batching.records import BatchResult, DeadRecord, Output, StateReader
from streams.batching.records import Record as KafkaRecord
from streams.batching.sizes import Fits, everything_fits
from streams.cases import CaseState, case, case_policy
from streams.dead_lettering import TOO_LARGE, Sizes, TooLargeError, dead_letter, output_of
from streams.intake import QuarantineError, intake
from streams.intake_state import IntakeState
from streams.links import INVALID_LINK, intake_link, intake_withdrawal, what_is_wrong
from streams.policy import DEFAULT_DEADLINE, TenantPolicy
from streams.record_reading import carried, link_or_withdrawal, stated_at
from streams.rejecting import FAILED, KEY_MISMATCH, UNDECODABLE, UNDECRYPTABLE, UNKNOWN_TENANT, RejectedError
from streams.verdicts import quarantined

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

    def stage(self, topic: str) -> str:
        """What a dead letter calls the place where a record of one of the worker's source topics failed."""
        return {self.raw: "intake", self.links: "links", self.case_events: "cases"}[topic]


class IntakeProcess:
    """The intake over a batch of raw deliveries or of links.

    Args:
        policies: The rules of each tenant.
        names: The topics.
        bodies: Decrypts bodies; without it, encrypted ones are of a key that is not configured.
        changelog: The topic of its state.
        fits: Whether a topic takes what it is about to be given.
    """

    def __init__(
        self,
        policies: Mapping[str, TenantPolicy],
        names: TopicNames,
        bodies: BodyDecryptor | None = None,
        *,
        changelog: str = "",
        fits: Fits = everything_fits,
    ) -> None:
        self._policies = policies
        self._names = names
        self._bodies = bodies or BodyDecryptor({})
        self._sizes = Sizes(changelog, fits)

    def __call__(self, partition: int, records: Sequence[KafkaRecord], state: StateReader) -> BatchResult:
        """What the batch comes to: outputs in the order of its records, and the new states of its keys.

        Raises:
            UnknownKeyError: A body's key-encryption key is not configured. That is no record's fault, so it stops the worker
                instead of filling the dead letters.
        """
        del partition
        found = state.get_many({record.key for record in records if record.key is not None})
        states: dict[bytes, IntakeState] = {}
        writes: dict[bytes, bytes | None] = {}
        outputs: list[Output] = []
        dead: list[DeadRecord] = []
        flooded = 0
        for record in records:
            if record.topic == self._names.links and record.value is None:
                continue  # compaction removed a link; what it did stays done
            key = record.key or b""
            try:
                before = states.get(key) or _intake_state(found.get(key))
                aside = Aside(key, state, writes)
                after, told = self._one(record, before, aside)
                home, trace = carried(record)
                made = [self._output(one, record.key, home, trace) for one in told]
                changes = aside.changes if after is before else {key: _encoder.encode(after), **aside.changes}
                self._sizes.require(made, changes)
                writes.update(changes)
                states[key] = after
                flooded += bool(aside.changes)
            except BadRecordError as error:
                dead.append(DeadRecord(record.offset, UNDECODABLE, may_be_ours=True))
                made = [self._undecodable(record, error)]
            except TooLargeError as error:
                dead.append(DeadRecord(record.offset, TOO_LARGE, may_be_ours=False, detail=str(error)))
                made = self._dead(record, self._rejected(record, TOO_LARGE, str(error)))
            except RejectedError as rejected:
                dead.append(DeadRecord(record.offset, rejected.reason, may_be_ours=rejected.may_be_ours))
                made = self._dead(record, rejected)
            except (KybStreamError, MemoryError):
                raise  # no record's fault
            except Exception as error:  # noqa: BLE001 - whatever it is, the neighbours of the record go on
                detail = f"{type(error).__name__} in {place_of(error)}"
                dead.append(DeadRecord(record.offset, FAILED, may_be_ours=True, detail=detail))
                made = self._dead(record, self._rejected(record, FAILED, detail))
            outputs += made
        return BatchResult(outputs, writes, dead, {FLOODED: flooded})

    def _one(self, record: KafkaRecord, before: IntakeState, aside: Aside) -> tuple[IntakeState, list[Record]]:
        if record.topic == self._names.links:
            link = link_or_withdrawal(record.value or b"")
            if link.tenant not in self._policies:
                raise RejectedError(UNKNOWN_TENANT, None, link=link)
            if record.key != topics.entity_key(link.tenant, link.subject).encode():
                raise RejectedError(KEY_MISMATCH, None, link=link)
            wrong = what_is_wrong(link)
            if wrong is not None:
                raise RejectedError(INVALID_LINK, wrong, link=link)
            return intake_link(before, link) if isinstance(link, Link) else intake_withdrawal(before, link)
        delivery = decode(record.value or b"", WebhookDelivery)
        policy = self._policies.get(delivery.tenant)
        if policy is None:
            raise RejectedError(UNKNOWN_TENANT, None, delivery=delivery)
        if delivery.entity_key is not None and record.key != delivery.entity_key.encode():
            raise RejectedError(KEY_MISMATCH, None, delivery=delivery)
        delivery = self._readable(delivery)
        try:
            return intake(before, delivery, policy, aside)
        except QuarantineError as error:
            raise RejectedError(error.reason, error.detail, delivery=delivery) from None

    def _rejected(self, record: KafkaRecord, reason: str, detail: str) -> RejectedError:
        """The rejection of a record that is not processed; its delivery or link is named where it can be read."""
        with suppress(Exception):
            if record.topic == self._names.links:
                return RejectedError(reason, detail, link=link_or_withdrawal(record.value or b""))
            return RejectedError(reason, detail, delivery=decode(record.value or b"", WebhookDelivery))
        return RejectedError(reason, detail)

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
            raise RejectedError(UNDECRYPTABLE, error.message, delivery=delivery) from None
        return msgspec.structs.replace(delivery, body=body, body_key_id=None)

    def _output(self, record: Record, key: bytes | None, home: bytes | None, trace: str | None) -> Output:
        match record:
            case Delivery():
                return output_of(self._names.deliveries, home, record, trace)
            case Event():
                return output_of(self._names.events, key, record, trace)
            case CaseEvent():
                case_key = topics.case_key(record.tenant, record.case_id).encode()
                return output_of(self._names.case_events, case_key, record, trace)
            case _:
                raise TypeError(f"the intake does not tell a {type(record).__name__}")

    def _dead(self, record: KafkaRecord, rejected: RejectedError) -> list[Output]:
        delivery, link = rejected.delivery, rejected.link
        letter = dead_letter(
            self._names.stage(record.topic),
            rejected.reason,
            record,
            detail=rejected.detail,
            delivery=delivery,
            received_at=stated_at(link) if link else None,
        )
        home, trace = carried(record)
        outputs = [self._sizes.letter(self._names.dead_letters, home, letter, trace)]
        if delivery:
            verdict = quarantined(delivery, rejected.reason)
            outputs.append(output_of(self._names.deliveries, home, verdict, trace))
        return outputs

    def _undecodable(self, record: KafkaRecord, error: BadRecordError) -> Output:
        letter = dead_letter(self._names.stage(record.topic), UNDECODABLE, record, detail=error.message)
        return self._sizes.letter(self._names.dead_letters, record.key, letter, carried(record)[1])


class CasesProcess:
    """The cases over a batch of case events.

    Args:
        policies: The rules of each tenant.
        names: The topics.
        changelog: The topic of its state.
        fits: Whether a topic takes what it is about to be given.
    """

    def __init__(
        self,
        policies: Mapping[str, TenantPolicy],
        names: TopicNames,
        *,
        changelog: str = "",
        fits: Fits = everything_fits,
    ) -> None:
        self._policies = policies
        self._names = names
        self._sizes = Sizes(changelog, fits)

    def __call__(self, partition: int, records: Sequence[KafkaRecord], state: StateReader) -> BatchResult:
        """What the batch comes to: a snapshot for each event that was not known, and the new states of its cases."""
        del partition
        found = state.get_many({record.key for record in records if record.key is not None})
        states: dict[bytes, CaseState] = {}
        writes: dict[bytes, bytes | None] = {}
        outputs: list[Output] = []
        dead: list[DeadRecord] = []
        flooded = 0
        for record in records:
            key = record.key or b""
            try:
                before = states.get(key) or _case_state(found.get(key))
                aside = Aside(key, state, writes)
                after, snapshot = self._one(record, before, aside)
                if snapshot is not None:
                    made = output_of(self._names.cases, key, snapshot, carried(record)[1])
                    changes = {key: _encoder.encode(after), **aside.changes}
                    self._sizes.require([made], changes)
                    writes.update(changes)
                    states[key] = after
                    outputs.append(made)
                    flooded += bool(aside.changes)
                continue
            except BadRecordError as error:
                refused = DeadRecord(record.offset, UNDECODABLE, may_be_ours=True, detail=error.message)
            except RejectedError as rejected:
                refused = DeadRecord(record.offset, rejected.reason, may_be_ours=rejected.may_be_ours)
            except TooLargeError as error:
                refused = DeadRecord(record.offset, TOO_LARGE, may_be_ours=False, detail=str(error))
            except (KybStreamError, MemoryError):
                raise  # no record's fault
            except Exception as error:  # noqa: BLE001 - whatever it is, the neighbours of the record go on
                refused = DeadRecord(
                    record.offset, FAILED, may_be_ours=True, detail=f"{type(error).__name__} in {place_of(error)}"
                )
            dead.append(refused)
            letter = dead_letter(self._names.stage(record.topic), refused.reason, record, detail=refused.detail)
            outputs.append(self._sizes.letter(self._names.dead_letters, record.key, letter, carried(record)[1]))
        return BatchResult(outputs, writes, dead, {FLOODED: flooded})

    def _one(self, record: KafkaRecord, before: CaseState | None, aside: Aside) -> tuple[CaseState, Case | None]:
        event = decode(record.value or b"", CaseEvent)
        if record.key != topics.case_key(event.tenant, event.case_id).encode():
            raise RejectedError(KEY_MISMATCH, None)
        policy = self._policies.get(event.tenant)
        rules = case_policy(
            deadline=policy.deadline if policy else DEFAULT_DEADLINE,
            kyc_always=policy.kyc_always if policy else False,
            case_id=event.case_id,
        )
        return case(before, event, rules, aside)


def read_case_state(value: bytes) -> CaseState:
    """The state of a case as the table holds it.

    Raises:
        msgspec.MsgspecError: The value is of another version, or damaged.
    """
    return _case_decoder.decode(value)


def _intake_state(value: bytes | None) -> IntakeState:
    return IntakeState() if value is None else _intake_decoder.decode(value)


def _case_state(value: bytes | None) -> CaseState | None:
    return None if value is None else _case_decoder.decode(value)
