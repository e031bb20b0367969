"""Records that expire unread: a topic forgot them before the worker or the sink came to them.

Kafka deletes by age, whether anybody has read a record or not, and a consumer then goes on with what is left, silently. So the
worker and the sink compare where they go on with where the topic begins, tell what is gone, and warn of it beforehand.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from kybstream.errors import RunError
from kybstream.expired import Expired, Place
from kybstream.kafka import administering, reading
from kybstream.settings import KafkaSettings

LOOK_SECONDS = 30.0
"""How often to look, while running."""

_FIRST_RECORD_MS = 2_000
_FETCH_BYTES = 16 * 1024

log = structlog.get_logger(__name__)


class ExpiredUnreadError(RunError):
    """Records expired before they were read, and `kafka.expired_unread` is `stop`."""


class TopicState(NamedTuple):
    """What a partition holds of what is still to be read.

    Attributes:
        beginning: The first offset that it still has.
        end: The offset after its last record.
        oldest_ms: The timestamp of the oldest unread record, in epoch milliseconds; None when there is none.
        retention_ms: How long the topic keeps a record; None when for ever, or when Kafka does not tell.
    """

    beginning: int
    end: int
    oldest_ms: int | None = None
    retention_ms: int | None = None


def seconds_left(state: TopicState, now_ms: int) -> float | None:
    """Return in how many seconds the oldest unread record may expire, 0 if it may at any moment.

    None when nothing is unread, or when nothing expires. Kafka deletes whole segments, so a record may live longer.
    """
    if state.oldest_ms is None or state.retention_ms is None:
        return None
    return max(0, state.oldest_ms + state.retention_ms - now_ms) / 1000


def tell_expired(expired: Expired, kafka: KafkaSettings, reader: str) -> None:
    """Log what has expired unread.

    Args:
        expired: What is gone.
        kafka: Whether to go on.
        reader: Who would have read it: `worker` or `sink`.

    Raises:
        ExpiredUnreadError: The setting says to stop.
    """
    log.error("records_expired_unread", reader=reader, records=expired.records, **expired._asdict())
    if kafka.expired_unread == "stop":
        raise ExpiredUnreadError(
            f"topic {expired.topic} partition {expired.partition}: offsets {expired.first} to {expired.last} expired before "
            f"the {reader} read them",
            hint='kafka.expired_unread is "stop"; with "continue" it goes on with what is left',
        )


async def look_at_topics(kafka: KafkaSettings, next_offsets: Mapping[Place, int | None]) -> dict[Place, TopicState]:
    """Look up what partitions hold of what is still to be read; those that do not exist are left out.

    Args:
        kafka: Where.
        next_offsets: The first offset not read of each partition; None when nothing was read.

    Raises:
        UnavailableError: Kafka cannot be reached.
        RunError: It refuses to describe the topics.
        KafkaError: It does not tell their offsets.
    """
    async with administering(kafka) as admin:
        existing = set(await admin.list_topics())
        wanted = {TopicPartition(*place): offset for place, offset in next_offsets.items() if place[0] in existing}
        retention = await _retention(admin, {place.topic for place in wanted})
    if not wanted:
        return {}
    async with reading(kafka, max_partition_fetch_bytes=_FETCH_BYTES, auto_offset_reset="earliest") as consumer:
        consumer.assign(list(wanted))
        beginnings, ends = await consumer.beginning_offsets(list(wanted)), await consumer.end_offsets(list(wanted))
        unread = {place: max(offset or 0, beginnings[place]) for place, offset in wanted.items()}
        oldest = await _timestamps(consumer, {place: first for place, first in unread.items() if first < ends[place]})
    return {
        (place.topic, place.partition): TopicState(
            beginnings[place], ends[place], oldest.get(place), retention.get(place.topic)
        )
        for place in wanted
    }


async def _retention(admin: AIOKafkaAdminClient, topics: set[str]) -> dict[str, int]:
    """Milliseconds by topic; topics that keep their records for ever are left out."""
    resources = [ConfigResource(ConfigResourceType.TOPIC, topic) for topic in sorted(topics)]
    found: dict[str, int] = {}
    for answer in await admin.describe_configs(resources) if resources else ():
        for _code, _message, _type, topic, entries in answer.resources:
            values = {entry[0]: entry[1] for entry in entries}
            milliseconds = int(values.get("retention.ms") or -1)
            if milliseconds >= 0 and "delete" in (values.get("cleanup.policy") or "delete"):
                found[topic] = milliseconds
    return found


async def _timestamps(consumer: AIOKafkaConsumer, first: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
    """The timestamp of the first record at or after each offset, as far as they come in time."""
    consumer.pause(*(place for place in consumer.assignment() if place not in first))
    for place, offset in first.items():
        consumer.seek(place, offset)
    found: dict[TopicPartition, int] = {}
    while len(found) < len(first):
        fetched = await consumer.getmany(*(first.keys() - found.keys()), timeout_ms=_FIRST_RECORD_MS, max_records=1)
        if not fetched:
            break
        for place, records in fetched.items():
            found[place] = records[0].timestamp
            consumer.pause(place)
    return found
