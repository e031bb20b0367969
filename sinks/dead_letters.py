"""What becomes of a record that cannot be a row: it goes to the dead letters, whole, and its neighbours land."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

import msgspec

from kybstream.ids import EPOCH, derived_id
from schemas.records import DeadLetter
from sinks.framing import Message, Unframable

STAGE = "sink"
TOO_LARGE = "the record is too large for a dead letter, and is only"
"""What the detail of a dead letter says that does not hold its record."""


def dead_letter_of(unframable: Unframable) -> DeadLetter:
    """The dead letter of a record; the same bytes for the same reason always give the same one."""
    message = unframable.message
    value = message.value or b""
    return DeadLetter(
        dead_letter_id=derived_id("dead-letter", STAGE, unframable.reason, message.topic, hashlib.sha256(value).hexdigest()),
        received_at=_kafka_time(message),
        stage=STAGE,
        reason=unframable.reason,
        detail=unframable.detail,
        origin_topic=message.topic,
        origin_key=message.key,
        origin_headers={str(name): bytes(content or b"") for name, content in message.headers},  # Kafka allows null
        origin_value=message.value,
        body_size=len(value),
    )


def without_record(letter: DeadLetter, message: Message) -> DeadLetter:
    """The same dead letter without what its record holds, but with the place of the record."""
    place = f"{TOO_LARGE} at partition {message.partition} offset {message.offset} of its topic, for as long as that keeps it"
    return msgspec.structs.replace(
        letter, detail=f"{letter.detail}; {place}", origin_key=None, origin_headers={}, origin_value=None
    )


def _kafka_time(message: Message) -> datetime:
    """When the record was produced, UTC; the epoch where Kafka has no time of it (-1)."""
    return EPOCH.astimezone(UTC) + timedelta(milliseconds=max(0, message.timestamp))
