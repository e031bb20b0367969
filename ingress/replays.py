"""Messages of schemes with an id that were stored a moment ago: the same one again is acknowledged and not stored again.

Why not 401: in Standard Webhooks the id stays the same over retries, so the same id again is most often the sender's own retry
whose first answer was lost. Refusing it would make an honest sender try for days, and report us as failing. An attacker who
replays a captured request within the tolerance cannot be told from it, and gets the same: 200 and no effect.

Why nothing is lost: a message counts as seen only when

1. it is authentic: the window is asked after the signature was verified, so nobody can have ids remembered for others;
2. id **and** body **and** case token are those of before: a sender that reuses an id for something new, or sends the same
   result to another case's address (which is a link of its own), is heard;
3. this process has stored it **durably**: a message whose first delivery got a 503, or is still under way, is taken.

What is forgotten (a restart, another process, more messages than the window holds) is taken once more, and downstream drops
it as a duplicate by its content. So the window keeps replays from costing anything, and no promise rests on it.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta

MAX_MESSAGES = 20_000
"""Remembered per source; some 300 bytes each. At more than 33 a second the window gets shorter than ten minutes."""


@dataclass(frozen=True, slots=True)
class _Stored:
    delivery_id: str
    until: datetime


class ReplayWindow:
    """What was stored of one source, for as long as a copy of it could pass the timestamp check; no clock, no I/O.

    Args:
        tolerance_seconds: Of the signature's timestamp. It may be that far ahead when the message is stored, and that far
            behind when a copy comes: a message is remembered for twice as long.
        max_messages: Beyond it the oldest are forgotten.
    """

    __slots__ = ("_keep", "_max_messages", "_stored")

    def __init__(self, tolerance_seconds: float, *, max_messages: int = MAX_MESSAGES) -> None:
        # A tolerance of centuries is allowed, if of no use: as a duration it must still fit.
        self._keep = timedelta(seconds=min(2 * tolerance_seconds, _LONGEST_SECONDS))
        self._max_messages = max_messages
        self._stored: OrderedDict[bytes, _Stored] = OrderedDict()

    def __len__(self) -> int:
        return len(self._stored)

    def find(self, key: bytes, now: datetime) -> str | None:
        """The id of the delivery that holds this message, or None when it is to be taken."""
        stored = self._stored.get(key)
        return stored.delivery_id if stored is not None and stored.until >= now else None

    def remember(self, key: bytes, delivery_id: str, now: datetime) -> None:
        """Notes a message that is durable, under its first delivery; forgets what is too old or too much."""
        stored = self._stored
        if self.find(key, now) is None:
            stored.pop(key, None)
            stored[key] = _Stored(delivery_id, now + self._keep)
        while stored and (len(stored) > self._max_messages or next(iter(stored.values())).until < now):
            stored.popitem(last=False)


def replay_key(message_id: str, body: bytes, case_token: str | None) -> bytes:
    """What makes a message the same one: 32 bytes, so that neither id nor body is kept."""
    digest = hashlib.sha256()
    for part in (message_id.encode("utf-8", "surrogateescape"), (case_token or "").encode("utf-8", "surrogatepass"), body):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()


_LONGEST_SECONDS = 86_400.0 * 365
