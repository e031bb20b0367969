"""Identifiers: drawn once at the door, derived from content everywhere else.

Only the ingress draws an id (`new_delivery_id`). Everything that processing emits is named by `derived_id`, so that the same
input processed twice gives the same ids and a consumer can drop the second copy.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from uuid import UUID

import uuid_utils

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def new_delivery_id() -> str:
    """A fresh UUIDv7 as lower-case text: unique, and ordered by the time it was drawn."""
    return str(uuid_utils.uuid7())


def derived_id(*parts: str) -> str:
    """A UUIDv8 made of SHA-256 over the parts; the same parts in the same order always give the same id.

    Each part is length-prefixed, so that ("ab", "c") and ("a", "bc") differ.
    """
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "big"))
        digest.update(raw)
    value = int.from_bytes(digest.digest()[:16], "big")
    value = value & ~(0xF << 76) | (0x8 << 76)  # version 8: custom content (RFC 9562)
    value = value & ~(0x3 << 62) | (0x2 << 62)  # the RFC's variant
    return str(UUID(int=value))


def to_micros(moment: datetime) -> int:
    """Microseconds since the epoch of an aware time."""
    return (moment - EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """The aware UTC time of microseconds since the epoch."""
    return EPOCH + timedelta(microseconds=micros)
