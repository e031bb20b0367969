"""Reading a topic from its beginning to where it ends now, or on and on, without a consumer group."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from kybstream.kafka import partitions_of, reading, unreachable
from kybstream.settings import KafkaSettings

_POLL_MS = 500


class ReadRecord(msgspec.Struct, frozen=True):
    """One record as it lies in Kafka."""

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


async def read_topic(
    kafka: KafkaSettings,
    topic: str,
    *,
    from_beginning: bool = True,
    follow: bool = False,
    since_ms: int | None = None,
    begin: Mapping[int, int] | None = None,
) -> AsyncGenerator[ReadRecord, None]:
    """The topic's records, in order within each partition.

    Args:
        kafka: Where.
        topic: Its full name.
        from_beginning: Begin with the oldest record; else with what comes from now on.
        follow: Go on for ever; else stop where the topic ended when the reading began: a reader who writes to the topic
            does not read what it wrote.
        since_ms: Begin with the first record of this time or later (of the record, not of what it holds), in milliseconds
            since the epoch; instead of `from_beginning`.
        begin: Begin at these offsets, by partition; elsewhere as the rest says.

    Raises:
        UnavailableError: Kafka cannot be reached.
        RunError: There is no such topic.
    """
    partitions = [TopicPartition(topic, partition) for partition in await partitions_of(kafka, topic)]
    async with reading(kafka) as consumer:
        try:
            consumer.assign(partitions)
            await (consumer.seek_to_beginning if from_beginning else consumer.seek_to_end)(*partitions)
            ends = await consumer.end_offsets(partitions)
            if since_ms is not None:
                await _seek_to_time(consumer, ends, since_ms)
            if begin:
                for partition, beginning in (await consumer.beginning_offsets(partitions)).items():
                    if partition.partition in begin:
                        consumer.seek(partition, min(max(begin[partition.partition], beginning), ends[partition]))
            while follow or await _unfinished(consumer, ends):
                for partition, records in (await consumer.getmany(timeout_ms=_POLL_MS, max_records=5_000)).items():
                    for record in records:
                        if not follow and record.offset >= ends[partition]:
                            consumer.pause(partition)  # else it would be fetched on and on while others are unfinished
                            break
                        yield ReadRecord(
                            record.partition,
                            record.offset,
                            record.timestamp,
                            record.key,
                            record.value,
                            tuple((name, value or b"") for name, value in record.headers),
                        )
        except KafkaError as error:
            raise unreachable(kafka, error) from None


async def _seek_to_time(consumer: AIOKafkaConsumer, ends: dict[TopicPartition, int], since_ms: int) -> None:
    found = await consumer.offsets_for_times(dict.fromkeys(ends, since_ms))
    for partition, end in ends.items():
        first = found.get(partition)
        consumer.seek(partition, end if first is None else first.offset)


async def _unfinished(consumer: AIOKafkaConsumer, ends: dict[TopicPartition, int]) -> bool:
    return any([await consumer.position(partition) < end for partition, end in ends.items()])
