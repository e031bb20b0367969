"""A consumer with nothing to read asks seldom, whatever the broker answers, and hears of a record soon."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.conn import AIOKafkaConnection
from aiokafka.protocol.fetch import FetchRequest

from deploy.embedded.apache_kafka import KafkaNode
from kybstream.kafka import IDLE_FETCH_SECONDS, durable_producer, ensure_topics, reading
from kybstream.settings import KafkaSettings

IDLE_SECONDS = 1.0
HELD_SECONDS = 0.5
"""Longer than aiokafka lets records wait in a consumer before it fetches without their partition."""


async def test_an_idle_consumer_of_the_embedded_broker_asks_seldom_and_hears_soon(
    noida_broker: str, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty fetch is not followed by the next at once."""
    fetches = 0
    send = AIOKafkaConnection.send

    def counted_send(self: AIOKafkaConnection, request: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal fetches
        fetches += isinstance(request, FetchRequest)
        return send(self, request, *args, **kwargs)

    monkeypatch.setattr(AIOKafkaConnection, "send", counted_send)
    kafka = KafkaSettings(bootstrap_servers=noida_broker, partitions=1)
    topic = f"{topic_prefix}idle"
    await ensure_topics(kafka, {topic: {}})
    async with asyncio.timeout(30), reading(kafka) as consumer, durable_producer(kafka) as producer:
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        assert await consumer.getmany(timeout_ms=round(IDLE_SECONDS * 1_000)) == {}
        assert 1 <= fetches <= IDLE_SECONDS / IDLE_FETCH_SECONDS + 2  # without the rest some 6,000
        heard = asyncio.ensure_future(consumer.getone())
        await asyncio.sleep(0)
        await producer.send_and_wait(topic, b"at last")
        acknowledged = time.monotonic()
        assert (await heard).value == b"at last"
        assert time.monotonic() - acknowledged < 1.0  # in the mean half of IDLE_FETCH_SECONDS; the rest is for a busy machine


async def test_records_are_fetched_without_a_rest(
    noida_broker: str, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fetch that brought something is followed by the next at once."""
    monkeypatch.setattr("kybstream.kafka.IDLE_FETCH_SECONDS", 3_600.0)  # a rest would never end
    kafka = KafkaSettings(bootstrap_servers=noida_broker, partitions=1)
    topic = f"{topic_prefix}full"
    await ensure_topics(kafka, {topic: {}})
    async with (
        asyncio.timeout(30),
        reading(kafka, max_partition_fetch_bytes=1_000) as consumer,
        durable_producer(kafka) as producer,
    ):
        values = [b"%-900d" % number for number in range(5)]
        for value in values:  # each a batch of its own, and a fetch of its own
            await producer.send_and_wait(topic, value)
        consumer.assign([TopicPartition(topic, 0)])
        await consumer.seek_to_beginning(TopicPartition(topic, 0))
        assert [(await consumer.getone()).value for _ in values] == values


@pytest.mark.kafka
async def test_what_is_read_out_is_fetched_again_soon_though_other_topics_are_silent(
    apache_kafka: KafkaNode, topic_prefix: str
) -> None:
    """A fetch that leaves out the partition whose records wait in the consumer does not keep it from the next one."""
    kafka = KafkaSettings(bootstrap_servers=apache_kafka.bootstrap_servers, partitions=1)
    busy, silent = f"{topic_prefix}busy", f"{topic_prefix}silent"
    await ensure_topics(kafka, {busy: {}, silent: {}})
    async with (
        asyncio.timeout(60),
        reading(kafka, max_partition_fetch_bytes=1_000, fetch_max_wait_ms=20_000) as consumer,
        durable_producer(kafka) as producer,
    ):
        consumer.assign([TopicPartition(busy, 0), TopicPartition(silent, 0)])
        await consumer.seek_to_beginning()
        await producer.send_batch(_of_two(producer), busy, partition=0)
        await producer.send_and_wait(busy, b"the next fetch")
        assert (await consumer.getone()).value == b"first"
        await asyncio.sleep(HELD_SECONDS)  # the other record waits; meanwhile the silent topic alone is asked for
        assert (await consumer.getone()).value == b"second"
        began = time.monotonic()
        assert (await consumer.getone()).value == b"the next fetch"
        assert time.monotonic() - began < 5.0  # of 20 s


def _of_two(producer: AIOKafkaProducer) -> Any:
    batch = producer.create_batch()
    for value in (b"first", b"second"):
        batch.append(key=None, value=value, timestamp=None)
    batch.close()
    return batch
