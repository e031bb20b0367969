"""Group commit on a real Kafka: what travels together, in which order, and what never leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from deploy.embedded.apache_kafka import KafkaNode
from ingress import connection as connection_module
from ingress.connection import KafkaConnection, RefusedBySizeError
from ingress.metrics import IngressMetrics
from kybstream.errors import UnavailableError
from kybstream.kafka import durable_producer
from kybstream.partitions import partition_of
from kybstream.settings import KafkaSettings, Settings
from schemas.topics import RAW
from tests.ingress.harness import PARTITIONS, make_topics, records_of, settings_for
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka


@dataclass
class Lab:
    """A connection, and what its producers were given."""

    connection: KafkaConnection
    settings: Settings
    batches: list[int]

    @property
    def topic(self) -> str:
        """The raw topic."""
        return self.settings.topic(RAW)

    def send(self, value: bytes, key: bytes = b"k", seconds: float | None = None) -> asyncio.Task[None]:
        """One record, under way."""
        return asyncio.create_task(self.connection.produce(self.topic, key, value, [], ack_timeout_seconds=seconds))

    async def values(self) -> list[bytes]:
        """What is in the topic, in the order of offsets within a partition."""
        return [record.value for record in await records_of(self.settings.kafka, self.topic)]


@asynccontextmanager
async def connected(
    node: KafkaNode, prefix: str, monkeypatch: pytest.MonkeyPatch, topic_settings: dict[str, str] | None = None
) -> AsyncIterator[Lab]:
    """A connection to the node with topics of its own."""
    settings = settings_for(node.bootstrap_servers, prefix)
    await make_topics(settings.kafka, topic_settings)
    batches: list[int] = []

    def counting(kafka: KafkaSettings, **options: Any) -> AIOKafkaProducer:
        producer = durable_producer(kafka, **options)
        submit = producer.send_batch

        async def send_batch(batch: Any, topic: str, *, partition: int) -> Any:
            batches.append(batch.record_count())
            return await submit(batch, topic, partition=partition)

        producer.send_batch = send_batch
        return producer

    monkeypatch.setattr(connection_module, "durable_producer", counting)
    connection = KafkaConnection(settings.kafka, (settings.topic(RAW),), ack_timeout_seconds=5, metrics=IngressMetrics())
    connection.start()
    try:
        await wait_until(lambda: connection.unavailable is None, 15, "it is connected")
        yield Lab(connection, settings, batches)
    finally:
        await connection.stop(1)


async def test_what_comes_together_leaves_together(
    apache_kafka: KafkaNode, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One batch for what the loop reads at once; what comes while it is under way is the next batch; a lone one goes alone."""
    async with connected(apache_kafka, topic_prefix, monkeypatch) as lab:
        await lab.send(b"lone")
        assert lab.batches == [1]
        first = [lab.send(b"%d" % number) for number in range(10)]
        await wait_until(lambda: len(lab.batches) > 1, 5, "the batch has left")
        await asyncio.gather(*first, *(lab.send(b"%d" % number) for number in range(10, 30)))
        assert lab.batches == [1, 10, 20]


async def test_the_order_of_arrival_is_the_order_in_the_partition(
    apache_kafka: KafkaNode, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over many batches, of two partitions at once; and each record is in the partition of its key."""
    keys = [b"a", b"b", b"c", b"d"]
    assert {partition_of(key, PARTITIONS) for key in keys} == {0, 1}
    async with connected(apache_kafka, topic_prefix, monkeypatch) as lab:
        under_way = []
        for number in range(2000):
            under_way.append(lab.send(b"%04d" % number, keys[number % 4]))
            if number % 7 == 0:
                await asyncio.sleep(0)
        await asyncio.gather(*under_way)
        records = await records_of(lab.settings.kafka, lab.topic)
    assert len(records) == 2000
    for partition in range(PARTITIONS):
        mine = [record for record in records if record.partition == partition]
        assert [record.value for record in mine] == sorted(record.value for record in mine)
        assert {partition_of(record.key, PARTITIONS) for record in mine} == {partition}
    assert len(lab.batches) < 1000


async def test_what_nobody_waits_for_any_more_never_leaves(
    breakable_kafka: KafkaNode, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a batch that hangs: a record that was given up, by its deadline or its sender, is not sent later.

    The batch itself is: it was under way, and makes the copy that the intake drops.
    """
    async with connected(breakable_kafka, topic_prefix, monkeypatch) as lab:
        breakable_kafka.pause()
        hanging = lab.send(b"under way", seconds=0.3)
        await wait_until(lambda: len(lab.batches) == 1, 5, "the batch has left")
        overdue, cancelled, patient = lab.send(b"overdue", seconds=0.3), lab.send(b"cancelled"), lab.send(b"patient")
        for each in (hanging, overdue):
            with pytest.raises(UnavailableError, match="did not acknowledge in time"):
                await each
        cancelled.cancel()
        breakable_kafka.resume()
        await patient
        assert await lab.values() == [b"under way", b"patient"]


async def test_a_batch_that_is_too_large_is_sent_record_by_record(
    apache_kafka: KafkaNode, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three records that the topic takes alone, and not together: all three are stored; one that is too large is refused."""
    async with connected(apache_kafka, topic_prefix, monkeypatch, {"max.message.bytes": "20000"}) as lab:
        await asyncio.gather(*(lab.send(bytes([number]) * 9000) for number in range(3)))
        assert lab.batches == [3, 1, 1, 1]
        with pytest.raises(RefusedBySizeError):
            await lab.send(b"x" * 21_000)
        await lab.send(b"next")
        assert [len(value) for value in await lab.values()] == [9000, 9000, 9000, 4]


async def test_a_partition_that_hangs_holds_up_no_other(
    apache_kafka: KafkaNode, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its batch is neither acknowledged nor refused; what goes to others of the same broker is stored meanwhile."""
    async with connected(apache_kafka, topic_prefix, monkeypatch) as lab:
        producer = lab.connection._producer
        assert producer is not None
        submit = producer.send_batch
        stuck = partition_of(b"k", PARTITIONS)

        async def send_batch(batch: Any, topic: str, *, partition: int) -> Any:
            if partition == stuck:
                return asyncio.get_running_loop().create_future()
            return await submit(batch, topic, partition=partition)

        monkeypatch.setattr(producer, "send_batch", send_batch)
        hanging = lab.send(b"hanging", b"k")
        other = next(key for key in (b"a", b"b", b"c", b"d") if partition_of(key, PARTITIONS) != stuck)
        for number in range(5):
            async with asyncio.timeout(2):
                await lab.send(b"%d" % number, other)
        assert not hanging.done()
        hanging.cancel()


async def test_records_wait_for_the_next_producer(
    breakable_kafka: KafkaNode, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A producer that was given up is sent nothing more; what waits leaves by the next one, within its deadline."""
    async with connected(breakable_kafka, topic_prefix, monkeypatch) as lab:
        await lab.send(b"first")
        producer = lab.connection._producer
        assert producer is not None
        lab.connection._give_up(producer, "test")
        assert lab.connection.unavailable is not None
        await asyncio.gather(*(lab.send(b"%d" % number) for number in range(5)))
        assert lab.connection._producer is not producer
        assert sorted(await lab.values()) == [b"0", b"1", b"2", b"3", b"4", b"first"]


async def test_nothing_is_kept_of_records_that_are_done(
    apache_kafka: KafkaNode, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in the lanes nor among the deadlines, whatever their timeouts: memory does not grow with what has passed."""
    async with connected(apache_kafka, topic_prefix, monkeypatch) as lab:
        await asyncio.gather(*(lab.send(b"%d" % number, seconds=1 + number % 3) for number in range(300)))
        lanes = lab.connection._lanes
        assert not any(lane.waiting for lane in lanes._lanes.values())
        await wait_until(lambda: not any(lanes._deadlines.values()), 5, "the deadlines are forgotten")
        assert not any(lanes._flights.values())
        assert lanes._look is None
