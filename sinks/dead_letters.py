"""What becomes of a record that cannot be a row: it goes to the dead letters, whole, and its neighbours land."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

from kybstream.ids import EPOCH, derived_id
from schemas.records import DeadLetter
from sinks.framing import Message, Unframable

STAGE = "sink"


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


def _kafka_time(message: Message) -> datetime:
    """When the record was produced, UTC; the epoch where Kafka has no time of it (-1)."""
    return EPOCH.astimezone(UTC) + timedelta(milliseconds=max(0, message.timestamp))
