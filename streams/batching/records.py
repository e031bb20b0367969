"""The values that cross the border between the plumbing and the pure functions it runs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

import msgspec

Headers = Sequence[tuple[str, bytes]]


# Plain data without reference cycles: gc=False spares the collector 40,000 objects a second.
class Record(msgspec.Struct, frozen=True, gc=False):
    """One record as it was read from Kafka. `timestamp_ms` is epoch milliseconds, UTC."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class Output(msgspec.Struct, frozen=True, gc=False):
    """One record to write.

    The partition follows from the key as in Kafka's default partitioner; without a key it is the partition number the
    batch came from, modulo the topic's partitions. `timestamp_ms` defaults to the time of sending.
    """

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    timestamp_ms: int | None = None


class DeadRecord(msgspec.Struct, frozen=True, gc=False):
    """A record of a batch that came to a dead letter, which is among the outputs.

    Attributes:
        offset: Which record.
        reason: Why; one of a few codes.
        may_be_ours: Whether a bug or the configuration may be the cause, and not what a sender sent.
        detail: More about it, for the log: nothing of the record.
    """

    offset: int
    reason: str
    may_be_ours: bool
    detail: str | None = None


class BatchResult(msgspec.Struct, frozen=True):
    """What a batch comes to: records to send, new values of keys (None deletes the key), and which records are dead letters.

    `counts` are numbers for whoever watches, by name; nothing follows from them.
    """

    outputs: Sequence[Output] = ()
    writes: dict[bytes, bytes | None] = msgspec.field(default_factory=dict)
    dead: Sequence[DeadRecord] = ()
    counts: Mapping[str, int] = msgspec.field(default_factory=dict)


class StateReader(Protocol):
    """The state of one partition as the batches before this one left it."""

    def get_many(self, keys: Collection[bytes]) -> dict[bytes, bytes]:
        """Return the values of those of `keys` that exist."""


Process = Callable[[int, Sequence[Record], StateReader], BatchResult]
"""`(partition, records, state) -> result`: synchronous, without side effects, and the same again for the same arguments,
because a batch is computed again after a crash. Records are of one topic, in offset order. An exception ends the process."""
