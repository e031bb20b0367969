"""Local state: bytes to bytes per partition number, with the changelog offset up to which it is complete."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Protocol

NO_OFFSET = -1
"""The offset of a partition into which nothing of the changelog has been written."""

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

    def offset(self, partition: int) -> int:
        """Return the changelog offset the partition is complete up to, or `NO_OFFSET`."""

    def scan(self, partition: int, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Yield all keys and values as they were when the scan began; with `after`, greater keys only, in their order."""

    def size(self, partition: int) -> StateSize:
        """Return about how large the partition's state is; costs next to nothing."""

    def release(self, partition: int) -> None:
        """Let go of a partition that another process owns now; what is on disk stays there."""

    def erase(self, partition: int) -> None:
        """Remove all that is kept locally of a partition."""

    def close(self) -> None:
        """Let go of everything."""


class MemoryState:
    """State in dictionaries: fast, and read again from the changelog at each start (about 240,000 keys a second)."""

    def __init__(self) -> None:
        self._values: dict[int, dict[bytes, bytes]] = {}
        self._offsets: dict[int, int] = {}
        self._ordered: dict[int, list[bytes]] = {}

    def get_many(self, partition: int, keys: Collection[bytes]) -> dict[bytes, bytes]:
        """Return the values of those of `keys` that exist."""
        values = self._values.get(partition)
        return {key: values[key] for key in keys if key in values} if values else {}

    def write(self, partition: int, writes: Iterable[Write], offset: int) -> None:
        """Apply the writes and note the changelog offset they end at."""
        values = self._values.setdefault(partition, {})
        for key, value in writes:
            if value is None:
                values.pop(key, None)
            else:
                values[key] = value
        self._offsets[partition] = offset

    def offset(self, partition: int) -> int:
        """Return the changelog offset the partition is complete up to, or `NO_OFFSET`."""
        return self._offsets.get(partition, NO_OFFSET)

    def scan(self, partition: int, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Yield all keys and values as they were when the scan began; with `after`, greater keys only, in their order.

        Keys are put in order when a scan begins without `after`, and those that follow on it go by that order: they do not see
        keys that are newer.
        """
        values = self._values.get(partition, {})
        if not after:
            self._ordered[partition] = sorted(values)
            return iter([(key, values[key]) for key in self._ordered[partition]])
        keys = self._ordered.get(partition) or sorted(values)
        start = bisect_right(keys, after)
        return ((key, values[key]) for key in islice(keys, start, None) if key in values)

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
        self._ordered.pop(partition, None)

    def close(self) -> None:
        """Forget all."""
        self._values.clear()
        self._offsets.clear()
        self._ordered.clear()


def open_state(store: str, folder: Path) -> PartitionedState:
    """Return the state for a store URL: `memory://`, or `rocksdb://` (rocksdict, in `folder`)."""
    if store.startswith("memory:"):
        return MemoryState()
    from streams.batching.rocks import RocksState  # noqa: PLC0415 - a worker with memory state does not load RocksDB

    return RocksState(folder)
