"""Identifiers: drawn once at the door, derived from content everywhere else.

Only the ingress draws an id (`new_delivery_id`), and an operator who replays (`new_replay_id`). Everything that processing
emits is named by `derived_id`, so that the same input processed twice gives the same ids and a consumer can drop the second
copy.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

import uuid_utils

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def new_delivery_id() -> str:
    """A fresh UUIDv7 as lower-case text: unique, and ordered by the time it was drawn."""
    return str(uuid_utils.uuid7())


def new_replay_id() -> str:
    """A fresh id of a replay: UUIDv7, so that of two the greater one was drawn later."""
    return str(uuid_utils.uuid7())


def derived_id(*parts: str) -> str:
    """A UUIDv8 made of SHA-256 over the parts; the same parts in the same order always give the same id.

    Each part is length-prefixed, so that ("ab", "c") and ("a", "bc") differ.
    """
    content = bytearray()
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass")
        content += len(raw).to_bytes(8, "big")
        content += raw
    digest = hashlib.sha256(content)
    value = bytearray(digest.digest()[:16])
    value[6] = value[6] & 0x0F | 0x80  # version 8: custom content (RFC 9562)
    value[8] = value[8] & 0x3F | 0x80  # the RFC's variant
    text = value.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def to_micros(moment: datetime) -> int:
    """Microseconds since the epoch of an aware time."""
    return (moment - EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """The aware UTC time of microseconds since the epoch."""
    return EPOCH + timedelta(microseconds=micros)
