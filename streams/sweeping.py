"""Deletes what has expired of keys that nothing comes for any more: within the batches of the agent whose table it is.

Each batch asks for a few entries of its partition that are due, and writes what remains of them with its own writes: to the
changelog, where a deletion is a tombstone, then to the local store. So a table has one writer, and whatever repeats a batch
repeats this harmlessly. Only deliveries make a state grow, so nothing has to be done while none come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from itertools import islice

import msgspec

from kybstream.ids import to_micros
from streams.batching.records import BatchResult, Process, Record, StateReader

LOOKS = 4
"""Entries that are looked at for each record of a batch: more expire than are made, until none are left."""

EXPIRED = "expired"
"""Under this name `BatchResult.counts` has the entries that were deleted."""

Expired = Callable[[int, int], Iterator[tuple[bytes, bytes]]]
"""`(partition, now) -> entries` of which something has expired, as the last batch left them."""

Remains = Callable[[bytes, bytes, int], bytes | None]
"""`(key, value, now) -> what remains` of an entry: the same object if nothing has expired, None if all has."""


class Sweeping:
    """A `Process` that also looks for expired entries of its state.

    Time is what the newest record of the batch says of when it was written, and never ahead of the clock: processing a backlog
    again forgets nothing early, nor does a host whose clock is wrong.

    Args:
        process: What it runs.
        expired: Reads the table's local state.
        remains: What of an entry has not expired; of what `expired` gives, never all.
        clock: What time it is.
    """

    def __init__(self, process: Process, expired: Expired, remains: Remains, clock: Callable[[], datetime]) -> None:
        self._process = process
        self._expired = expired
        self._remains = remains
        self._clock = clock

    def __call__(self, partition: int, records: Sequence[Record], state: StateReader) -> BatchResult:
        """What `process` says, and what remains of expired entries that the batch does not write itself."""
        result = self._process(partition, records, state)
        now = min(max((record.timestamp_ms for record in records), default=0) * 1000, to_micros(self._clock()))
        found = islice(self._expired(partition, now), LOOKS * len(records))
        swept = {key: (value, self._remains(key, value, now)) for key, value in found if key not in result.writes}
        # The index tells of what the last batch left; the state may be newer, by what this batch has written so far.
        current = state.get_many(swept)
        writes = {key: left for key, (value, left) in swept.items() if left is not value and current.get(key) == value}
        if not writes:
            return result
        deleted = sum(value is None for value in writes.values())
        return msgspec.structs.replace(result, writes={**result.writes, **writes}, counts={**result.counts, EXPIRED: deleted})
