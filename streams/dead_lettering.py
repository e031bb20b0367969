"""Dead letters, and what becomes one for its size. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from kybstream.ids import derived_id, from_micros
from schemas.cloudevents import cloud_event_headers
from schemas.codec import encode
from schemas.records import Case, CaseEvent, DeadLetter, Delivery, Event, WebhookDelivery
from streams.batching.records import Output
from streams.batching.records import Record as KafkaRecord
from streams.batching.sizes import Fits, alone_bytes

TOO_LARGE = "too_large"
"""What a record comes to, a state or an output, is larger than Kafka takes. It is as if the record had not come."""


class TooLargeError(Exception):
    """A topic does not take what a record comes to; its text names the topic and the size."""


class Sizes:
    """Whether Kafka takes what a record comes to, and a dead letter that it takes."""

    def __init__(self, changelog: str, fits: Fits) -> None:
        self._changelog = changelog
        self._fits = fits

    def require(self, outputs: Sequence[Output], changes: Mapping[bytes, bytes | None]) -> None:
        """Looks at all that a record comes to.

        Raises:
            TooLargeError: Something of it is too large.
        """
        for output in (*outputs, *(Output(self._changelog, key, value) for key, value in changes.items())):
            if not self._fits(output):
                raise TooLargeError(f"topic {output.topic} does not take a batch of {alone_bytes(output)} bytes")

    def letter(self, topic: str, key: bytes | None, letter: DeadLetter, trace: str | None) -> Output:
        """The dead letter: whole if its topic takes it so, else without the record's value, else without its headers, too."""
        output = output_of(topic, key, letter, trace)
        if self._fits(output):
            return output
        cut = f"the value of {len(letter.origin_value or b'')} bytes is left out, {topic} does not take it"
        detail = f"{letter.detail}; {cut}" if letter.detail else cut
        for headers in (letter.origin_headers, {}):
            smaller = msgspec.structs.replace(letter, origin_value=None, origin_headers=headers, detail=detail)
            output = output_of(topic, key, smaller, trace)
            if self._fits(output):
                break
        return output


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
        origin_headers={name: content or b"" for name, content in record.headers},  # Kafka allows null
        origin_value=record.value,
        body_size=len(delivery.body) if delivery else len(value),
    )


def output_of(
    topic: str, key: bytes | None, record: Delivery | Event | CaseEvent | Case | DeadLetter, trace: str | None
) -> Output:
    """A record of ours as it is written to its topic."""
    return Output(topic, key, encode(record), cloud_event_headers(record, traceparent=trace))
