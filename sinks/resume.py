"""Where a partition's writing goes on: after the newest row in the table. The group's offset is only a hint, and not used.

A table can also know more than the topic: the topic was made anew, or an embedded broker lost its last seconds. Offsets then
name other records than before, and going on by number would leave records out for ever. So the record at the newest row's
offset is read and compared with that row; if it is another one, or beyond the topic's end, the topic is read from its
beginning. What is there already is dropped by its id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from kybstream.errors import BadRecordError
from kybstream.kafka import administering, reading, unreachable
from kybstream.settings import Settings
from schemas.codec import decode
from sinks.clickhouse import Client, in_our_words
from sinks.derived import feed_newest
from sinks.tables import TABLES, Table

_READ_SECONDS = 3.0
"""How long to look for the records to compare; one that compaction or retention removed is never found."""
_POLL_MS = 200
_OFFSET_WIDTH = 64
_OFFSET_BITS = 2**_OFFSET_WIDTH - 1

Why = Literal["empty_table", "continues", "records_expired", "topic_shorter", "topic_differs"]


@dataclass(frozen=True)
class Landed:
    """The newest row that one partition left in its table.

    Attributes:
        offset: Of its record.
        identity: Who the record is, as `Table.identity_of`.
        at: When its insert landed, in microseconds since the epoch.
    """

    offset: int
    identity: str
    at: int = 0


@dataclass(frozen=True)
class Resume:
    """Where to go on, and why there.

    Attributes:
        offset: Of the first record to read.
        why: The case.
        beginning: The oldest offset that the topic has.
        unread_from: The first offset that is not in the table; None when nothing of the partition ever was. What lies between
            it and `beginning` expired unread.
    """

    offset: int
    why: Why
    beginning: int = 0
    unread_from: int | None = None


def resume_at(landed: Landed | None, *, beginning: int, end: int, found: str | None, committed: int | None = None) -> Resume:
    """Where to go on reading one partition.

    Args:
        landed: Its newest row, if it has any.
        beginning: The oldest offset the topic still has.
        end: The offset its next record will get.
        found: Who the record at the newest row's offset is; None if it is gone or cannot be read.
        committed: The group's offset. It counts where the table has no row, since rows expire, too; and what expired between
            the newest row and it was read: it made no row, but dead letters.
    """
    if landed is None:
        return Resume(beginning, "empty_table", beginning, committed)
    if landed.offset >= end:
        return Resume(beginning, "topic_shorter", beginning, 0)
    if found is not None and found != landed.identity:
        return Resume(beginning, "topic_differs", beginning, 0)
    going_on = landed.offset + 1
    if going_on < beginning:
        return Resume(beginning, "records_expired", beginning, max(going_on, committed or 0))
    return Resume(going_on, "continues", beginning, going_on)


async def resume_points(
    settings: Settings, client: Client, partitions: Collection[TopicPartition]
) -> dict[TopicPartition, Resume]:
    """Asks table and topic of each partition, and makes whole what is derived from the table.

    Raises:
        UnavailableError: Kafka or ClickHouse does not answer.
        RefusedError: A table is missing.
    """
    by_topic = {settings.topic(table.topic): table for table in TABLES}
    landed: dict[TopicPartition, Landed] = {}
    for topic in sorted({partition.topic for partition in partitions}):
        rows = await _newest_rows(settings, client, topic, by_topic[topic])
        taken = {place: row for place, row in rows.items() if place in partitions}
        newest = {place.partition: row.at for place, row in taken.items()}
        await feed_newest(settings.clickhouse, client, by_topic[topic].name, newest)
        landed |= taken
    try:
        async with reading(settings.kafka, auto_offset_reset="earliest") as consumer:
            consumer.assign(list(partitions))
            beginnings = await consumer.beginning_offsets(list(partitions))
            ends = await consumer.end_offsets(list(partitions))
            comparable = {place: row for place, row in landed.items() if beginnings[place] <= row.offset < ends[place]}
            found = await _records_at(consumer, comparable, by_topic)
        expired = any(beginnings[place] > (landed[place].offset + 1 if place in landed else 0) for place in partitions)
        committed = await _committed(settings) if expired else {}
    except (KafkaError, TimeoutError) as error:
        raise unreachable(settings.kafka, error) from None
    return {
        place: resume_at(
            landed.get(place),
            beginning=beginnings[place],
            end=ends[place],
            found=found.get(place),
            committed=committed.get(place),
        )
        for place in partitions
    }


async def _committed(settings: Settings) -> dict[TopicPartition, int]:
    async with administering(settings.kafka) as admin:
        offsets = await admin.list_consumer_group_offsets(settings.sink.group)
    return {place: found.offset for place, found in offsets.items() if found.offset >= 0}


def newest_rows_query(table: Table, database: str) -> str:
    """Asks for the row that landed last, per partition; not the highest offset ever, which an earlier topic can hold.

    It asks for exactly what the projection `newest_places` keeps (migration 7), so that ClickHouse reads that instead of rows.
    Time and offset are one number there.
    """
    place = "bitShiftLeft(toInt128(toUnixTimestamp64Micro(_inserted_at)), 64) + _offset"
    identity = ", ".join(f"toString({field})" for field in table.identity)
    return (
        f"SELECT _partition, max({place}), argMax(concatWithSeparator('\\n', {identity}), {place}) "  # noqa: S608
        f"FROM {database}.{table.name} WHERE _topic = {{topic:String}} GROUP BY _partition"
    )


async def _newest_rows(settings: Settings, client: Client, topic: str, table: Table) -> dict[TopicPartition, Landed]:
    with in_our_words(settings.clickhouse):
        result = await client.query(newest_rows_query(table, settings.clickhouse.database), parameters={"topic": topic})
    return {
        TopicPartition(topic, int(partition)): Landed(int(newest) & _OFFSET_BITS, str(identity), int(newest) >> _OFFSET_WIDTH)
        for partition, newest, identity in result.result_rows
    }


async def _records_at(
    consumer: Any, landed: Mapping[TopicPartition, Landed], by_topic: Mapping[str, Table]
) -> dict[TopicPartition, str]:
    """Who the records at the newest rows' offsets are; without those that are gone or cannot be read."""
    missing = set(landed)
    found: dict[TopicPartition, str] = {}
    if not missing:
        return found
    consumer.assign(sorted(missing))
    for place in missing:
        consumer.seek(place, landed[place].offset)
    deadline = asyncio.get_running_loop().time() + _READ_SECONDS
    while missing and asyncio.get_running_loop().time() < deadline:
        for place, messages in (await consumer.getmany(*missing, timeout_ms=_POLL_MS, max_records=len(missing))).items():
            missing.discard(place)
            consumer.pause(place)
            first = messages[0]
            if first.offset == landed[place].offset and first.value is not None:
                table = by_topic[place.topic]
                try:
                    found[place] = table.identity_of(decode(first.value, table.record))
                except BadRecordError:
                    continue
    return found
