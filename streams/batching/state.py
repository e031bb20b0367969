"""Local state: bytes to bytes per partition number, with the changelog offset up to which it is complete."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from streams.batching.due import DueAt, DueRows, first_row, key_of, moved, never

NO_OFFSET = -1
"""The offset of a partition into which nothing of the changelog has been written."""

DUE_AT_ONCE = 100
"""Due entries that are read together."""

Write = tuple[bytes, bytes | None]
"""A key and its new value; None deletes it."""


class StateSize(NamedTuple):
    """How large a partition's state is, roughly: keys, and bytes on disk and in write buffers (0 where it is not on disk)."""

    entries: int
    bytes: int


class PartitionedState(Protocol):
    """A store of many partitions. Synchronous: reads and writes are local and take micro- to milliseconds."""

    def get_many(self, partition: int, keys: Collection[bytes]) -> dict[bytes, bytes]:
        """Return the values of those of `keys` that exist."""

    def write(self, partition: int, writes: Iterable[Write], offset: int) -> None:
        """Apply the writes and note the changelog offset they end at: both or neither."""

    def recover(self, partition: int, writes: Iterable[Write], offset: int) -> None:
        """Apply writes that were read from the changelog. A crash before `settle` may undo the newest, with their offset."""

    def settle(self, partition: int) -> None:
        """Make sure of what was recovered; nothing is written to a partition before that."""

    def offset(self, partition: int) -> int:
        """Return the changelog offset the partition is complete up to, or `NO_OFFSET`."""

    def scan(self, partition: int) -> Iterator[tuple[bytes, bytes]]:
        """Yield all keys and values as they were when the scan began."""

    def due(self, partition: int, kind: int, until: int) -> Iterator[tuple[bytes, bytes]]:
        """Yield the keys and values that are due for this up to that time, in order of time, as far as they are indexed.

        Entries may be written between two of them; one that is due no more may be yielded all the same.
        """

    def index_more(self, partition: int, entries: int) -> bool:
        """Look at so many more entries that are in no index yet; returns whether the index is complete."""

    def size(self, partition: int) -> StateSize:
        """Return about how large the partition's state is; costs next to nothing."""

    def release(self, partition: int) -> None:
        """Let go of a partition that another process owns now; what is on disk stays there."""

    def erase(self, partition: int) -> None:
        """Remove all that is kept locally of a partition."""

    def close(self) -> None:
        """Let go of everything."""


class MemoryState:
    """State in dictionaries: fast, and read again from the changelog at each start."""

    def __init__(self, due_at: DueAt = never) -> None:
        self._due_at = due_at
        self._values: dict[int, dict[bytes, bytes]] = {}
        self._offsets: dict[int, int] = {}
        self._due: dict[int, DueRows] = {}

    def get_many(self, partition: int, keys: Collection[bytes]) -> dict[bytes, bytes]:
        """Return the values of those of `keys` that exist."""
        values = self._values.get(partition)
        return {key: values[key] for key in keys if key in values} if values else {}

    def write(self, partition: int, writes: Iterable[Write], offset: int) -> None:
        """Apply the writes and note the changelog offset they end at."""
        values = self._values.setdefault(partition, {})
        last = dict(writes)
        before = {key: values[key] for key in last if key in values}
        self._due.setdefault(partition, DueRows()).move(*moved(self._due_at, before, last))
        for key, value in last.items():
            if value is None:
                values.pop(key, None)
            else:
                values[key] = value
        self._offsets[partition] = offset

    recover = write

    def settle(self, partition: int) -> None:
        """Do nothing: a crash undoes all."""

    def offset(self, partition: int) -> int:
        """Return the changelog offset the partition is complete up to, or `NO_OFFSET`."""
        return self._offsets.get(partition, NO_OFFSET)

    def scan(self, partition: int) -> Iterator[tuple[bytes, bytes]]:
        """Yield all keys and values as they were when the scan began."""
        return iter(sorted(self._values.get(partition, {}).items()))

    def due(self, partition: int, kind: int, until: int) -> Iterator[tuple[bytes, bytes]]:
        """Yield the keys and values that are due for this up to that time, in order of time."""
        first, end = first_row(kind, 0), first_row(kind, until + 1)
        while rows := self._due.get(partition, DueRows()).between(first, end, DUE_AT_ONCE):
            values = self._values[partition]
            yield from [(key_of(row), values[key_of(row)]) for row in rows]
            first = rows[-1] + b"\x00"

    def index_more(self, partition: int, entries: int) -> bool:  # noqa: ARG002 - what the interface has
        """Return True: the index is as old as the state."""
        return True

    def size(self, partition: int) -> StateSize:
        """Return the number of keys."""
        return StateSize(len(self._values.get(partition, ())), 0)

    def release(self, partition: int) -> None:
        """Forget the partition: memory has no later use for it."""
        self.erase(partition)

    def erase(self, partition: int) -> None:
        """Forget the partition."""
        self._values.pop(partition, None)
        self._offsets.pop(partition, None)
        self._due.pop(partition, None)

    def close(self) -> None:
        """Forget all."""
        self._values.clear()
        self._offsets.clear()
        self._due.clear()


def open_state(store: str, folder: Path, due_at: DueAt = never) -> PartitionedState:
    """Return the state for a store URL: `memory://`, or `rocksdb://` (rocksdict, in `folder`); `due_at` is what it indexes."""
    if store.startswith("memory:"):
        return MemoryState(due_at)
    from streams.batching.rocks import RocksState  # noqa: PLC0415 - a worker with memory state does not load RocksDB

    return RocksState(folder, due_at)
