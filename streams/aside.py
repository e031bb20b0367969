"""Entries beside the main one of a key: what one entry must not grow by, when somebody sends thousands of events for one key.

An entry is read and written whole, so one that grows with each event costs the square of their number. What is beyond the
bound of an entry gets an entry of its own in the same partition of the same table, which costs the same for the first event
and the hundred-thousandth.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from typing import Protocol

FIRST_KEY = b"\xff"
"""All keys of such entries are this or greater; those of main entries are UTF-8, which has no such byte."""

FLOODED = "flooded"
"""Under this name `BatchResult.counts` has the records of keys with more events than one entry keeps."""

_DIGEST_BYTES = 16


class Entries(Protocol):
    """The state of the partition."""

    def get_many(self, keys: Collection[bytes]) -> dict[bytes, bytes]:
        """The values of those keys that exist."""


class Aside:
    """The entries beside one key, as one record of a batch finds and leaves them.

    Args:
        owner: The key.
        state: The state as the last batch left it.
        writes: What earlier records of this batch have written.

    Attributes:
        changes: What this record writes; it counts when the record does.
    """

    def __init__(self, owner: bytes, state: Entries, writes: Mapping[bytes, bytes | None]) -> None:
        self._owner = owner
        self._state = state
        self._writes = writes
        self.changes: dict[bytes, bytes | None] = {}

    def get(self, name: str) -> bytes | None:
        """The entry of that name, if there is one."""
        key = self._key(name)
        for written in (self.changes, self._writes):
            if key in written:
                return written[key]
        return self._state.get_many([key]).get(key)

    def put(self, name: str, value: bytes) -> None:
        """Writes the entry of that name."""
        self.changes[self._key(name)] = value

    def _key(self, name: str) -> bytes:
        return FIRST_KEY + self._owner + hashlib.blake2b(name.encode(), digest_size=_DIGEST_BYTES).digest()


def is_aside(key: bytes) -> bool:
    """Whether a table's key is of an entry beside another."""
    return key >= FIRST_KEY


def owner_of(key: bytes) -> bytes:
    """The Kafka key whose state the entry belongs to: the table's key, without what an entry beside it has around it."""
    return key[len(FIRST_KEY) : -_DIGEST_BYTES] if is_aside(key) else key
