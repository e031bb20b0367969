"""The index of what is due (`due`) in RocksDB, beside the entries of its partition.

Keys that begin with a zero byte are ours: the changelog offset, and the rows of the index, which are written in one batch with
their entries. `_INDEXED_KEY` says up to which changelog offset the index is complete. Where that is not the partition's own
offset, an older version wrote here, or a recovery that did without, and the index is made anew while the worker works.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

import rocksdict

from streams.batching.due import DueAt, first_row, key_of, moved, never, row_of
from streams.batching.state import DUE_AT_ONCE

RESERVED = b"\x00"
"""No key of a table may begin with this."""

OFFSET_KEY = RESERVED + b"changelog-offset"
FIRST_KEY = b"\x01"
"""All entries of a table come from here on."""

_INDEXED_KEY = RESERVED + b"due-offset"  # rename it when a table's `DueAt` changes its mind: every index is then made anew
_ROW = RESERVED + b"due:"
_AFTER_ROWS = RESERVED + b"due;"


class RocksIndex:
    """The index of one open partition.

    Attributes:
        rows: How many rows it has; of settings that changed meanwhile, about.
    """

    def __init__(self, database: Any, due_at: DueAt) -> None:
        self._database = database
        self._due_at = due_at
        self.rows = 0
        self._covered: bytes | None = None
        """The last key that it holds, of those that have a row; None when it is complete."""
        self._fronts: dict[int, bytes] = {}
        """No row of the kind is before this. Rows that went leave traces, over which a search from the beginning would step."""
        if due_at is not never:
            offset, indexed = database.get([OFFSET_KEY, _INDEXED_KEY])
            complete, _, rows = (indexed or b"").partition(b" ")
            if indexed and complete == offset:
                self.rows = int(rows)
            else:
                self._covered = b""

    def stage(self, batch: Any, writes: dict[bytes, bytes | None], offset: int) -> tuple[set[bytes], set[bytes]]:
        """Add to a batch of writes what they change here; tell `staged` of it when the batch is written.

        Keys that have no row yet are left to `more`.
        """
        if self._due_at is never:
            return set(), set()
        covered = self._covered
        indexed = writes if covered is None else {key: value for key, value in writes.items() if key <= covered}
        gone, come = moved(self._due_at, self._values(list(indexed)), indexed)
        for row in gone:
            batch.delete(_ROW + row)
        for row in come:
            batch.put(_ROW + row, b"")
        if covered is None:
            batch.put(_INDEXED_KEY, b"%d %d" % (offset, self.rows + len(come) - len(gone)))
        return gone, come

    def staged(self, gone: set[bytes], come: set[bytes]) -> None:
        """Note that rows have gone and come."""
        self.rows += len(come) - len(gone)
        for row in come:
            self._fronts[row[0]] = min(row, self._fronts.get(row[0], row))

    def due(self, kind: int, until: int, after: bytes | None) -> list[bytes]:
        """Return the next rows of this kind, up to that time and after that row: one page of them."""
        end = first_row(kind, until + 1)
        front = self._fronts.get(kind, first_row(kind, 0))
        first = front if after is None else after + b"\x00"
        rows: list[bytes] = []
        found: bytes | None = None
        for key in self._database.keys(from_key=_ROW + first):
            row = key.removeprefix(_ROW) if key.startswith(_ROW) else None
            found = found or row
            if row is None or row >= end or len(rows) == DUE_AT_ONCE:
                break
            rows.append(row)
        if after is None:
            last = bytes([kind + 1])
            self._fronts[kind] = min(found or last, last)
        return rows

    def still_due(self, rows: list[bytes]) -> list[tuple[bytes, bytes]]:
        """Return the entries of these rows; rows that are not where their entries belong, since settings changed, are moved."""
        found = self._values([key_of(row) for row in rows])
        entries, gone, come = [], set(), set()
        for row in rows:
            key = key_of(row)
            due = self._due_at(key, found[key]) if key in found else None
            right = None if due is None else row_of(due, key)
            if right == row:
                entries.append((key, found[key]))
            else:
                gone.add(row)
                come |= set() if right is None else {right}
        if gone:
            batch = rocksdict.WriteBatch(raw_mode=True)
            for row in gone:
                batch.delete(_ROW + row)
            for row in come:
                batch.put(_ROW + row, b"")
            self._database.write(batch)
            self.staged(gone, come)
        return entries

    def more(self, entries: int, offset: int) -> bool:
        """Look at so many more entries that have no row yet; returns whether the index is complete."""
        if self._covered is None:
            return True
        batch = rocksdict.WriteBatch(raw_mode=True)
        if not self._covered:
            self.rows, self._fronts = 0, {}
            if next(self._database.keys(from_key=_ROW), FIRST_KEY) < _AFTER_ROWS:
                batch.delete_range(_ROW, _AFTER_ROWS)
        come, last = set(), None
        start = self._covered + b"\x00" if self._covered else FIRST_KEY
        for key, value in islice(self._database.items(from_key=start), entries):
            last = key
            if (due := self._due_at(key, value)) is not None:
                come.add(row_of(due, key))
        for row in come:
            batch.put(_ROW + row, b"")
        if last is None:
            batch.put(_INDEXED_KEY, b"%d %d" % (offset, self.rows))
        self._database.write(batch)
        self.staged(set(), come)
        self._covered = last
        return last is None

    def _values(self, keys: list[bytes]) -> dict[bytes, bytes]:
        values = self._database.get(keys) if keys else []
        return {key: value for key, value in zip(keys, values, strict=True) if value is not None}
