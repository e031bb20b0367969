"""Identifiers: drawn once at the door, derived from content everywhere else.

Only the ingress draws an id (`new_delivery_id`), and an operator who replays (`new_replay_id`). Everything that processing
emits is named by `derived_id`, so that the same input processed twice gives the same ids and a consumer can drop the second
copy.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import sha256

import uuid_utils

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_VARIANT = {digit: f"{int(digit, 16) & 0x3 | 0x8:x}" for digit in "0123456789abcdef"}
_SHORT = 128


def _length(size: int) -> bytes:
    return size.to_bytes(8, "big")


_LENGTHS = tuple(_length(size) for size in range(_SHORT))


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
    content: list[bytes] = []
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass")
        size = len(raw)
        content += (_LENGTHS[size] if size < _SHORT else _length(size), raw)
    digest = sha256(b"".join(content))
    text = digest.hexdigest()
    # Version 8: custom content (RFC 9562). The RFC's variant is the two highest bits of the digit that is replaced.
    return f"{text[:8]}-{text[8:12]}-8{text[13:16]}-{_VARIANT[text[16]]}{text[17:20]}-{text[20:32]}"


def to_micros(moment: datetime) -> int:
    """Microseconds since the epoch of an aware time."""
    return (moment - EPOCH) // _MICROSECOND


@lru_cache(maxsize=512)
def from_micros(micros: int) -> datetime:
    """The aware UTC time of microseconds since the epoch."""
    # The records of one case or delivery have few times, each of them often.
    return EPOCH + timedelta(microseconds=micros)
