"""Records that expired before the worker or the sink read them, by offsets: what each has read, and where each topic begins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import aclosing, suppress
from datetime import UTC, datetime, timedelta

import msgspec
from aiokafka.errors import KafkaError

from kybstream.errors import BadRecordError
from kybstream.expired import Expired, ExpiredUnread, Place
from kybstream.kafka import administering, unreachable
from kybstream.operations.topic_admin import committed_offsets
from kybstream.operations.topic_reader import read_topic
from kybstream.settings import Settings
from kybstream.unread import look_at_topics
from schemas.codec import decode
from schemas.expired import EXPIRED_UNREAD, expired_range
from schemas.records import DeadLetter
from schemas.topics import ALL_TOPICS, CASE_EVENTS, DEAD_LETTERS, LINKS, RAW
from sinks.landed import landed_offsets, told_expired
from sinks.tables import TABLES

READ_BY_THE_WORKER = (RAW, LINKS, CASE_EVENTS)


class ExpiredRange(msgspec.Struct, frozen=True):
    """Offsets of a partition that are gone, and that a reader had not read.

    Attributes:
        reader: `worker` or `sink`.
        topic: The topic's full name.
        partition: The partition's number.
        first: The first offset.
        last: The last offset.
    """

    reader: str
    topic: str
    partition: int
    first: int
    last: int

    def continued_by(self, other: ExpiredRange) -> bool:
        """Whether the two overlap, or the other, which does not begin before this one, follows it."""
        place, others = (self.reader, self.topic, self.partition), (other.reader, other.topic, other.partition)
        return place == others and other.first <= self.last + 1

    def described(self) -> str:
        """The finding, as a line."""
        return (
            f"{self.last - self.first + 1} expired before the {self.reader} read them: topic {self.topic} partition "
            f"{self.partition} offsets {self.first} to {self.last}"
        )


async def expired_ranges(settings: Settings) -> list[ExpiredRange]:
    """What has expired unread, of every topic that worker or sink read.

    What a reader has passed over is known from its dead letters, for as long as the raw topic keeps a record; what it has not
    come to yet, from the offsets of topics that are not compacted.

    Raises:
        UnavailableError: Kafka or ClickHouse cannot be reached.
        RunError: A topic or table is missing.
    """
    compacted = {topic.suffix for topic in ALL_TOPICS if topic.retention is None}
    lands_in = {settings.topic(table.topic): table.name for table in TABLES if table.topic not in compacted}
    read = {"worker": [settings.topic(suffix) for suffix in READ_BY_THE_WORKER if suffix not in compacted], "sink": lands_in}
    groups = {"worker": settings.worker.group, "sink": settings.sink.group}
    async with administering(settings.kafka) as admin:
        described = {each["topic"]: len(each["partitions"]) for each in await admin.describe_topics()}
        committed = {reader: await committed_offsets(admin, group) for reader, group in groups.items()}
    # A topic that is missing is told by whoever needs it.
    places = {
        reader: [(topic, number) for topic in topics for number in range(described.get(topic, 0))]
        for reader, topics in read.items()
    }
    landed = await landed_offsets(settings.clickhouse, lands_in)
    next_offsets: dict[str, dict[Place, int | None]] = {
        "worker": {place: committed["worker"].get(place) for place in places["worker"]},
        "sink": {place: _later(committed["sink"].get(place), landed.get(place)) for place in places["sink"]},
    }
    # A table that forgets rows may have forgotten all of a partition: that tells nothing of what was read.
    forgetful = {settings.topic(each.topic) for each in TABLES if getattr(settings.clickhouse.retention_days, each.name)}
    known = {
        place: (reader, offset)
        for reader, offsets in next_offsets.items()  # which read different topics
        for place, offset in offsets.items()
        if offset is not None or place[0] not in forgetful
    }
    try:
        states = await look_at_topics(settings.kafka, {place: offset for place, (_, offset) in known.items()})
    except (KafkaError, OSError) as error:
        raise unreachable(settings.kafka, error) from None
    ahead = [
        (reader, ExpiredUnread().find(place, offset, states[place].beginning))
        for place, (reader, offset) in known.items()
        if place in states
    ]
    since = datetime.now(UTC) - timedelta(hours=settings.kafka.retention_hours.raw)
    told = await told_expired(settings.clickhouse, since=since)
    if settings.topic(DEAD_LETTERS) in described:
        told += await _on_its_way(settings, landed, since)
    passed = [("sink" if stage == "sink" else "worker", gone) for stage, gone in told]
    return joined([(reader, gone) for reader, gone in ahead if gone is not None] + passed)


async def _on_its_way(settings: Settings, landed: Mapping[Place, int], since: datetime) -> list[tuple[str, Expired]]:
    """What dead letters say that have not landed yet: stage and offsets."""
    topic = settings.topic(DEAD_LETTERS)
    begin = {partition: offset + 1 for (of, partition), offset in landed.items() if of == topic}
    found: list[tuple[str, Expired]] = []
    async with aclosing(read_topic(settings.kafka, topic, begin=begin)) as records:
        async for record in records:
            with suppress(BadRecordError):
                letter = decode(record.value or b"", DeadLetter)
                gone = expired_range(letter.origin_topic, letter.detail or "") if letter.reason == EXPIRED_UNREAD else None
                if gone is not None and letter.received_at >= since:
                    found.append((letter.stage, gone))
    return found


def joined(ranges: Iterable[tuple[str, Expired]]) -> list[ExpiredRange]:
    """Each offset once, in as few ranges as that takes; as the records go: the worker's topics first."""
    found: list[ExpiredRange] = []
    for reader, gone in sorted(ranges, key=lambda each: (each[0] == "sink", each[1])):
        new, before = ExpiredRange(reader, *gone), found[-1] if found else None
        if before and before.continued_by(new):
            found[-1] = msgspec.structs.replace(before, last=max(before.last, new.last))
        else:
            found.append(new)
    return found


def _later(committed: int | None, landed: int | None) -> int | None:
    """Where the sink goes on: behind its newest row, or behind records that made none."""
    return max((each for each in (committed, None if landed is None else landed + 1) if each is not None), default=None)
