"""What a record that was written to its topic again carries along: a mark in Kafka headers.

The copy has the key, the value and the headers of the original; the mark comes on top. A dead letter holds the headers of the
record that failed, so a copy that fails again tells by whom it was replayed, when, and how often, without anything in the
pipeline having to know of replays.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime

import msgspec

PREFIX = "kyb-replay-"
HOME_KEY = PREFIX + "key"
"""The key that the record came with, where the copy was given another one: what becomes of it is told under this key."""

_ID, _AT, _BY, _OF, _FIRST, _ATTEMPT = (PREFIX + name for name in ("id", "at", "by", "of", "first", "attempt"))

Headers = Iterable[tuple[str, bytes]]


class ReplayMark(msgspec.Struct, frozen=True, kw_only=True):
    """That a record is a copy, and how it came about.

    Attributes:
        replay_id: Of the replay that wrote it; later replays have greater ids.
        replayed_at: When, by the operator's clock.
        replayed_by: Who.
        dead_letter_id: The dead letter it was taken from; None for a copy of a range.
        first_dead_letter_id: The dead letter with which the record failed for the first time; None likewise.
        attempt: How many times the dead letter was replayed, with this one; 0 for a copy of a range.
        home_key: The key it came with, if this copy has another.
    """

    replay_id: str
    replayed_at: datetime
    replayed_by: str
    dead_letter_id: str | None = None
    first_dead_letter_id: str | None = None
    attempt: int = 0
    home_key: bytes | None = None


def marked(headers: Headers, mark: ReplayMark) -> list[tuple[str, bytes]]:
    """The headers of a copy: those of the original, with this mark instead of an older one."""
    fields: list[tuple[str, str | None]] = [
        (_ID, mark.replay_id),
        (_AT, mark.replayed_at.isoformat()),
        (_BY, mark.replayed_by),
        (_OF, mark.dead_letter_id),
        (_FIRST, mark.first_dead_letter_id),
        (_ATTEMPT, str(mark.attempt) if mark.attempt else None),
    ]
    copied = [(name, value) for name, value in headers if not name.startswith(PREFIX)]
    copied += [(name, text.encode()) for name, text in fields if text is not None]
    return copied if mark.home_key is None else [*copied, (HOME_KEY, mark.home_key)]


def mark_of(headers: Headers) -> ReplayMark | None:
    """The mark of a copy; None for an original, and for headers that only look like a mark."""
    given = dict(headers)
    text = {name: value.decode("utf-8", "replace") for name, value in given.items() if name.startswith(PREFIX)}
    with suppress(KeyError, ValueError):
        replayed_at = datetime.fromisoformat(text[_AT])
        if replayed_at.tzinfo is None:
            return None
        return ReplayMark(
            replay_id=text[_ID],
            replayed_at=replayed_at,
            replayed_by=text[_BY],
            dead_letter_id=text.get(_OF),
            first_dead_letter_id=text.get(_FIRST),
            attempt=int(text.get(_ATTEMPT, "0")),
            home_key=given.get(HOME_KEY),
        )
    return None
