"""When entries of a table are due: an index in order of time, kept with each write.

Whoever acts by the clock asks for what is due, instead of looking at every entry. The index is derived: `DueAt` says of an
entry when it is due, and each write of the entry moves its row, together with the entry and the changelog offset or not at all.
It is never in a changelog.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Mapping
from typing import NamedTuple

_TIME_BYTES = 8
_LATEST = (1 << 8 * _TIME_BYTES) - 1


class Due(NamedTuple):
    """When an entry is due, and for what: each kind has an order of its own.

    Attributes:
        kind: A number below 256.
        at: Microseconds since the epoch.
    """

    kind: int
    at: int


DueAt = Callable[[bytes, bytes], Due | None]
"""`(key, value) -> when the entry is due`; None: never. It must not raise, whatever the value is."""


def never(_key: bytes, _value: bytes) -> None:
    """A `DueAt` of a table whose entries are not due at any time."""


def row_of(due: Due, key: bytes) -> bytes:
    """The row of an entry: the order of rows is by kind, time and key."""
    return first_row(due.kind, due.at) + key


def first_row(kind: int, at: int) -> bytes:
    """No row of this kind and this time, or of later ones, is less than this."""
    return bytes([kind]) + min(max(at, 0), _LATEST).to_bytes(_TIME_BYTES, "big")


def key_of(row: bytes) -> bytes:
    """The key of the entry whose row this is."""
    return row[1 + _TIME_BYTES :]


def moved(due_at: DueAt, before: Mapping[bytes, bytes], writes: Mapping[bytes, bytes | None]) -> tuple[set[bytes], set[bytes]]:
    """Rows that go and rows that come with writes.

    Args:
        due_at: When an entry is due.
        before: The values until now of those of the written keys that exist.
        writes: The new values; None deletes.
    """
    gone = {row for key, value in before.items() if key in writes and (row := _row(due_at, key, value)) is not None}
    come = {row for key, value in writes.items() if value is not None and (row := _row(due_at, key, value)) is not None}
    return gone - come, come - gone


def _row(due_at: DueAt, key: bytes, value: bytes) -> bytes | None:
    due = due_at(key, value)
    return None if due is None else row_of(due, key)


class DueRows:
    """The index of one partition in memory. A row that comes last, as most do, costs next to nothing."""

    def __init__(self) -> None:
        self._rows: list[bytes] = []

    def move(self, gone: set[bytes], come: set[bytes]) -> None:
        """Takes rows out, and puts others in."""
        for row in gone:
            place = bisect_left(self._rows, row)
            if self._rows[place : place + 1] == [row]:
                del self._rows[place]
        for row in come:
            insort(self._rows, row)

    def between(self, first: bytes, end: bytes, limit: int) -> list[bytes]:
        """The rows from `first` up to, not including, `end`; so many at most."""
        start = bisect_left(self._rows, first)
        stop = bisect_left(self._rows, end, start)
        return self._rows[start : min(stop, start + limit)]
