"""Deletes what has expired of keys that nothing comes for any more: within the batches of the agent whose table it is.

Each batch looks at a few more entries of its partition, and writes what remains of them with the batch's own writes: to the
changelog, where a deletion is a tombstone, then to the local store. So a table has one writer, and whatever repeats a batch
repeats this harmlessly. Only deliveries make a state grow, so nothing has to be done while none come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice

import msgspec

from kybstream.ids import to_micros
from streams.batching.records import BatchResult, Process, Record, StateReader

LOOKS = 4
"""Entries that are looked at for each record of a batch: a pass over a state is over after a quarter as many records."""

PAUSE = timedelta(hours=1)
"""From the end of one pass to the beginning of the next, in the time of the log."""

EXPIRED = "expired"
"""Under this name `BatchResult.counts` has the entries that were deleted."""

Scan = Callable[[int, bytes], Iterator[tuple[bytes, bytes]]]
"""`(partition, after) -> entries` whose key is greater, in order of their keys."""

Remains = Callable[[bytes, bytes, int], bytes | None]
"""`(key, value, now) -> what remains` of an entry: the same object if nothing has expired, None if all has."""


@dataclass(frozen=True)
class _Pass:
    after: bytes
    not_before: int = 0


class Sweeping:
    """A `Process` that also looks for expired entries of its state.

    Time is what the newest record of the batch says of when it was written, and never ahead of the clock: processing a backlog
    again forgets nothing early, nor does a host whose clock is wrong.

    Args:
        process: What it runs.
        scan: Reads the table's local state, as the last batch left it.
        remains: What of an entry has not expired.
        clock: What time it is.
        first: Where a pass begins: entries with keys up to this one are never looked at.
    """

    def __init__(
        self, process: Process, scan: Scan, remains: Remains, clock: Callable[[], datetime], *, first: bytes = b""
    ) -> None:
        self._process = process
        self._scan = scan
        self._remains = remains
        self._clock = clock
        self._first = first
        self._passes: dict[int, _Pass] = {}

    def __call__(self, partition: int, records: Sequence[Record], state: StateReader) -> BatchResult:
        """What `process` says, and what remains of expired entries that the batch does not write itself."""
        result = self._process(partition, records, state)
        now = min(max((record.timestamp_ms for record in records), default=0) * 1000, to_micros(self._clock()))
        swept = self._sweep(partition, now, LOOKS * len(records))
        # The scan reads what the last batch left; the state may be newer, by what this batch has written so far.
        current = state.get_many(swept)
        writes = {key: left for key, (value, left) in swept.items() if key not in result.writes and current.get(key) == value}
        if not writes:
            return result
        deleted = sum(value is None for value in writes.values())
        return msgspec.structs.replace(result, writes={**result.writes, **writes}, counts={**result.counts, EXPIRED: deleted})

    def _sweep(self, partition: int, now: int, looks: int) -> dict[bytes, tuple[bytes, bytes | None]]:
        turn = self._passes.get(partition, _Pass(self._first))
        if now < turn.not_before:
            return {}
        writes: dict[bytes, tuple[bytes, bytes | None]] = {}
        looked = 0
        for key, value in islice(self._scan(partition, turn.after), looks):
            looked += 1
            remains = self._remains(key, value, now)
            if remains is not value:
                writes[key] = value, remains
            turn = replace(turn, after=key)
        if looked < looks:
            turn = _Pass(self._first, now + PAUSE // timedelta(microseconds=1))
        self._passes[partition] = turn
        return writes
