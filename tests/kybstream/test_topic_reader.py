from __future__ import annotations

import asyncio
import time
from contextlib import aclosing

from kybstream.kafka import durable_producer, ensure_topics
from kybstream.operations.topic_reader import ReadRecord, read_topic
from kybstream.settings import KafkaSettings

TOPIC = "read"
FIRST_MS = time.time_ns() // 1_000_000 - 60_000
"""Lately: a broker deletes what is older than its retention, when it gets round to it."""
HEADERS = [("a", b"1"), ("a", b"2"), ("none", None)]


async def filled(broker: str, prefix: str, *sizes: int) -> KafkaSettings:
    """A topic with partitions of these sizes, whose records are of the times FIRST_MS, FIRST_MS + 1, …."""
    kafka = KafkaSettings(bootstrap_servers=broker, topic_prefix=prefix, partitions=len(sizes))
    await ensure_topics(kafka, {prefix + TOPIC: {}})
    async with durable_producer(kafka) as producer:
        for partition, size in enumerate(sizes):
            for number in range(size):
                value, stamp = b"%-400d" % number, FIRST_MS + number
                await producer.send(prefix + TOPIC, value, partition=partition, timestamp_ms=stamp, headers=HEADERS)
        await producer.flush()
    return kafka


async def test_a_reader_who_writes_to_the_topic_does_not_read_what_it_wrote(noida_broker: str, topic_prefix: str) -> None:
    """Reading ends where each partition ended at the beginning, though one of them grows all the while."""
    sizes = (20, 12_000)  # the second takes several fetches, during which the first goes on
    kafka = await filled(noida_broker, topic_prefix, *sizes)
    read: list[ReadRecord] = []
    async with (
        asyncio.timeout(30),
        durable_producer(kafka) as producer,
        aclosing(read_topic(kafka, topic_prefix + TOPIC)) as records,
    ):
        async for record in records:
            read.append(record)
            if len(read) % 100 == 0:
                await producer.send_and_wait(topic_prefix + TOPIC, b"copy", partition=0)
    for partition, size in enumerate(sizes):
        assert [(record.value or b"").strip() for record in read if record.partition == partition] == [
            b"%d" % number for number in range(size)
        ]


async def test_records_come_with_their_headers(noida_broker: str, topic_prefix: str) -> None:
    """In order, repeated ones too; one without a value is empty."""
    kafka = await filled(noida_broker, topic_prefix, 1)
    async for record in read_topic(kafka, topic_prefix + TOPIC):
        assert record.headers == (("a", b"1"), ("a", b"2"), ("none", b""))


async def test_reading_begins_at_a_time(noida_broker: str, topic_prefix: str) -> None:
    """With the first record stamped then or later; where there is none, nothing is read."""
    kafka = await filled(noida_broker, topic_prefix, 20, 20)
    for since, first in ((-50, 0), (0, 0), (15, 15), (19, 19), (20, 20)):
        read = [record async for record in read_topic(kafka, topic_prefix + TOPIC, since_ms=FIRST_MS + since)]
        assert sorted(int(record.value or b"") for record in read) == sorted([*range(first, 20)] * 2), since
