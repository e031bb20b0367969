"""One partition that this process writes, and what its offsets say. The decisions are pure."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from aiokafka import TopicPartition

from kybstream.topic_ids import KnownTopic
from kybstream.unread import TopicState, seconds_left
from sinks.batch import Limits, Waiting
from sinks.framing import Message
from sinks.tables import Table


@dataclass(eq=False)
class Partition:
    """One partition of ours."""

    place: TopicPartition
    table: Table
    next_offset: int | None = None
    """The first offset not yet taken; None until ClickHouse was asked."""
    doubted: bool = False
    """Whether ClickHouse is to be asked again, as soon as all that was taken has landed."""
    landed_to: int = 0
    """The first offset that neither landed nor went to the dead letters."""
    end: int = 0
    """The topic's end, as far as it is known."""
    taken: tuple[int, int] | None = None
    waiting: Waiting = field(default_factory=Waiting)
    writing: asyncio.Task[None] | None = None
    under_way: int = 0
    topic: KnownTopic = field(default_factory=KnownTopic)
    """Of which topic its offsets are."""
    made_anew: bool = False
    """Whether that is another one now, which is to be read from its beginning, whatever the table says."""
    unread: TopicState | None = None
    """What the topic held when it was looked at last, beginning with the oldest record that had not landed."""

    @property
    def lag(self) -> int | None:
        """Records in Kafka that have not landed; None before it is known where the partition goes on."""
        return None if self.next_offset is None else max(0, self.end - self.landed_to)

    def unread_expires_seconds(self, now: float) -> float | None:
        """Seconds until the oldest record that has not landed may expire; None when nothing waits or nothing expires.

        Args:
            now: Seconds since the epoch.
        """
        return seconds_left(self.unread, int(1000 * now)) if self.lag and self.unread is not None else None


def topic_went_back(end: int, *, asked_at: int, now_at: int | None) -> bool:
    """Whether an answer about a topic's end says that the topic lost records that were read: it was made anew.

    The answer was on its way while the partition was read on, so it is compared with the position of when it was asked for. An
    end below the position of now says nothing.

    Args:
        end: The offset that the next record will get, as the broker answered.
        asked_at: The first offset not yet taken when the broker was asked.
        now_at: The same now; None, or lower, when table and topic were compared meanwhile.
    """
    return end < asked_at and now_at is not None and now_at >= asked_at


def taken_together(
    due: Partition, idle: Iterable[Partition], limits: Limits, now: float
) -> dict[Partition, tuple[Message, ...]]:
    """What one insert takes: all of the partition that is due, and what others of its table have where that fits in.

    Args:
        due: Which may be among the idle ones.
        idle: Partitions of which nothing is being written, in the order in which they are to be asked.
        limits: Of one insert.
        now: Seconds of the monotonic clock.
    """
    batches: dict[Partition, tuple[Message, ...]] = {}
    left = limits
    for partition in (due, *(each for each in idle if each.table is due.table and each is not due)):
        if not batches or partition.waiting.fits(left):
            batches[partition] = batch = partition.waiting.take(left, now)
            partition.under_way = sum(len(message.value or b"") for message in batch)
            left = left.less(len(batch), partition.under_way)
    return batches
