"""What the sink does beside its loop: it moves the group's offsets, and knows how topics end, begin and expire."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata

from kybstream.errors import KybStreamError
from kybstream.expired import Expired, ExpiredUnread
from kybstream.kafka import unreachable
from kybstream.settings import Settings
from kybstream.topic_ids import note_of, noted_id, topic_ids
from kybstream.unread import look_at_topics, tell_expired
from schemas.expired import expired_letter
from schemas.records import DeadLetter
from sinks.clickhouse import Client
from sinks.dead_letters import STAGE
from sinks.metrics import SinkMetrics
from sinks.partition import Partition, topic_went_back
from sinks.resume import Resume, resume_points

COMMIT_EVERY_SECONDS = 1.0
COMMIT_SECONDS = 5.0
ENDS_EVERY_SECONDS = 5.0
"""How often Kafka is asked for the ends of topics, which a partition that is not read now would not tell."""
ENDS_SECONDS = 5.0
UNREAD_EVERY_SECONDS = 30.0
"""How often to look for when the oldest record that has not landed may expire."""
UNREAD_SECONDS = 30.0
_FIRST_LOOK_SECONDS = 1.0
_ORDINARY = frozenset({"empty_table", "continues"})
_MADE_ANEW = frozenset({"topic_shorter", "topic_differs"})

_log = structlog.get_logger(__name__)


class Offsets:
    """The side tasks of a sink's loop.

    Args:
        settings: Sections kafka and sink.
        consumer: Of the group.
        partitions: Those that the loop has now; it adds and takes away.
        metrics: Where expired records are counted.
        doubt: Has table and topic of a partition compared again, and is told why.
        bury: Sends a dead letter until Kafka has it.
    """

    def __init__(
        self,
        settings: Settings,
        consumer: AIOKafkaConsumer,
        partitions: Mapping[TopicPartition, Partition],
        metrics: SinkMetrics,
        *,
        doubt: Callable[[Partition, str], None],
        bury: Callable[[DeadLetter], Awaitable[None]],
    ) -> None:
        self._settings = settings
        self._consumer: Any = consumer
        self._partitions = partitions
        self._metrics = metrics
        self._doubt = doubt
        self._bury = bury
        self._expired = ExpiredUnread()
        self.to_commit: dict[TopicPartition, int] = {}
        """Where the group's offsets are to be moved."""

    async def commit_often(self) -> None:
        """Moves the group's offsets, as a hint for people and for lag: where to go on is what the tables say.

        Beside the loop and not after each insert: while the group changes, a commit can wait or fail, and nothing waits for it.
        """
        while True:
            await asyncio.sleep(COMMIT_EVERY_SECONDS)
            await self.commit(COMMIT_SECONDS)

    async def commit(self, seconds: float) -> None:
        """Moves them now, if that is done within so many seconds."""
        offsets = {place: offset for place, offset in self.to_commit.items() if place in self._partitions}
        self.to_commit.clear()
        if not offsets:
            return
        try:
            notes = {place: note_of(self._partitions[place].topic.id) for place in offsets}
            noted = {place: OffsetAndMetadata(offset, notes[place]) for place, offset in offsets.items()}
            await asyncio.wait_for(self._consumer.commit(noted), seconds)
        except (KafkaError, TimeoutError) as error:
            _log.info("sink.commit_skipped", partitions=len(offsets), error=type(error).__name__)

    async def look_at_ends(self) -> None:
        """Keeps the ends of topics known, for the lag, and notices a topic that was made anew."""
        while True:
            # Each is asked for alone: one that has no leader must not hide the others.
            known = self._known()
            answered, _ = await asyncio.gather(
                asyncio.gather(*(self._look_at_end(each) for each in known)), self._look_at_ids(known)
            )
            await asyncio.sleep(ENDS_EVERY_SECONDS if answered and all(answered) else COMMIT_EVERY_SECONDS)

    async def _look_at_ids(self, known: list[Partition]) -> None:
        """Notices a topic that was made anew and is as long as the other, or longer."""
        ids = await topic_ids(self._consumer._client, [each.place for each in known])  # noqa: SLF001 - it does not ask for ids
        for partition in known:
            told = ids.get(partition.place)
            if told is None or self._partitions.get(partition.place) is not partition:
                continue
            if partition.topic.is_another(told):
                # The id is taken over with the new position: until then, what is committed is of the other topic.
                partition.made_anew = True
                self._doubt(partition, f"its id was {partition.topic.id} and is {told}")
            elif partition.topic.id is None:
                partition.topic.take(told)

    async def resume_points(self, client: Client, places: Collection[TopicPartition]) -> dict[TopicPartition, Resume]:
        """Where partitions go on: after what landed, and at the beginning where the topic is another one than it is of.

        Raises:
            UnavailableError: Kafka or ClickHouse does not answer.
            RefusedError: A table is missing.
        """
        asked = {place: self._partitions[place] for place in places}
        notes = await self._notes([place for place, each in asked.items() if each.topic.id is None])
        ids = await topic_ids(self._consumer._client, places)  # noqa: SLF001 - as above
        points = await resume_points(self._settings, client, places)
        for place, partition in asked.items():
            topic, told = partition.topic, ids.get(place)
            if topic.id is None:
                topic.begin(noted_id(notes.get(place)))
            if told is not None and (topic.is_another(told) or partition.made_anew):
                beginning = points[place].beginning
                points[place] = Resume(beginning, "topic_differs", beginning, 0)
                self.to_commit.pop(place, None)
                partition.made_anew = False
            if told is not None:
                topic.take(told)
        return points

    async def _notes(self, places: Collection[TopicPartition]) -> dict[TopicPartition, str]:
        """What is committed beside the group's offsets."""
        coordinator = self._consumer._coordinator  # noqa: SLF001 - `committed` tells the offset alone
        try:
            async with asyncio.timeout(ENDS_SECONDS):
                committed = await coordinator.fetch_committed_offsets(list(places))
        except (KafkaError, TimeoutError) as error:
            raise unreachable(self._settings.kafka, error) from None
        return {place: found.metadata for place, found in committed.items()}

    async def _look_at_end(self, partition: Partition) -> bool:
        place, position = partition.place, partition.next_offset or 0
        try:
            ends = await asyncio.wait_for(self._consumer.end_offsets([place]), ENDS_SECONDS)
        except (KafkaError, TimeoutError) as error:
            _log.debug("sink.end_unknown", topic=place.topic, partition=place.partition, error=type(error).__name__)
            return False
        if self._partitions.get(place) is partition:  # else it went to another process, and may have come back
            partition.end = max(partition.end, ends[place])
            if topic_went_back(ends[place], asked_at=position, now_at=partition.next_offset):
                self._doubt(partition, f"the topic ends at {ends[place]} where {position} was next")
        return True

    def resumed(self, place: TopicPartition, point: Resume) -> Expired | None:
        """Tells where a partition goes on; returns what expired before it was read and was not told yet.

        Raises:
            ExpiredUnreadError: Something did, and the settings say to stop.
        """
        # Everything but an ordinary start means that Kafka lost or replaced records that the table has, or the reverse.
        say = _log.debug if point.why in _ORDINARY else _log.warning
        say("sink.resumed", topic=place.topic, partition=place.partition, offset=point.offset, why=point.why)
        if point.why in _MADE_ANEW:
            self._expired.forget(_key(place))
        expired = self._expired.find(_key(place), point.unread_from, point.beginning)
        if expired is not None:
            tell_expired(expired, self._settings.kafka, "sink")
        return expired

    async def tell(self, expired: Expired) -> None:
        """Returns when Kafka has a dead letter of what expired."""
        await self._bury(expired_letter(expired, STAGE, datetime.now(UTC)))
        self._expired.told(expired)
        self._metrics.expired_unread.labels(expired.topic).inc(expired.records)

    async def look_at_unread(self) -> None:
        """Keeps known when the oldest record that has not landed may expire.

        What did expire is told when the sink comes to it: the consumer can still hold records that Kafka does not.
        """
        while True:
            known = self._known()
            if known:
                await self._look_at_unread(known)
            await asyncio.sleep(UNREAD_EVERY_SECONDS if known else _FIRST_LOOK_SECONDS)

    async def _look_at_unread(self, known: list[Partition]) -> None:
        asked = {_key(partition.place): partition.landed_to for partition in known}
        try:
            async with asyncio.timeout(UNREAD_SECONDS):
                states = await look_at_topics(self._settings.kafka, asked)
        except (KybStreamError, KafkaError, OSError, TimeoutError) as error:
            _log.debug("sink.unread_unknown", error=type(error).__name__)
            return
        for partition in known:
            partition.unread = states.get(_key(partition.place))

    def _known(self) -> list[Partition]:
        return [each for each in self._partitions.values() if each.next_offset is not None and not each.doubted]


def _key(place: TopicPartition) -> tuple[str, int]:
    return place.topic, place.partition
