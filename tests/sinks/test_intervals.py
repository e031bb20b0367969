"""Every way in which a topic's offsets can be other than one after the other, on a real Kafka, through the whole sink."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio
import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from aiokafka.admin.records_to_delete import RecordsToDelete
from aiokafka.structs import TopicPartition

from deploy.embedded.apache_kafka import KafkaNode
from kybstream.kafka import administering
from kybstream.settings import Settings
from schemas import topics
from schemas.codec import encode
from sinks import offsets
from sinks.query import query
from tests.sinks.making import delivery, rows, settings_for
from tests.sinks.running import landed, made, make_anew, produce, running, with_sink

pytestmark = pytest.mark.kafka


@pytest_asyncio.fixture
async def settings(apache_kafka: KafkaNode, topic_prefix: str, clickhouse_server: str, database_name: str) -> Settings:
    """A sink's settings on the real Kafka; merges hide nothing."""
    found = settings_for(clickhouse_server, database_name, bootstrap=apache_kafka.bootstrap_servers, prefix=topic_prefix)
    await made(found)
    await query(found.clickhouse, "SYSTEM STOP MERGES deliveries")
    return found


async def _offsets(settings: Settings) -> list[object]:
    found = await rows(settings.clickhouse, "SELECT _offset FROM deliveries WHERE _partition = 0 ORDER BY _offset", final=False)
    return [row["_offset"] for row in found]


async def test_gaps_of_transaction_markers_and_aborted_records_are_passed(settings: Settings) -> None:
    """Markers take offsets and hold no record: what is behind them lands, and a restart goes on behind them."""
    topic = settings.topic(topics.DELIVERIES)
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.kafka.bootstrap_servers, transactional_id=settings.kafka.topic_prefix + "transactions"
    )
    async with producer, running(settings):
        for number in range(4):
            async with producer.transaction():
                await producer.send(topic, encode(delivery(number)), partition=0)
        await landed(settings, "deliveries", 4)
    assert await _offsets(settings) == [0, 2, 4, 6]  # the markers have 1, 3, 5 and 7
    await produce(settings, [delivery(4)])
    async with running(settings):
        await landed(settings, "deliveries", 5)
    assert await _offsets(settings) == [0, 2, 4, 6, 8]


async def test_a_gap_of_records_that_are_gone_is_passed(settings: Settings) -> None:
    """What retention removed before the sink came is not waited for; what is left lands, and a restart adds nothing."""
    await produce(settings, [delivery(number) for number in range(10)])
    async with running(settings):
        await landed(settings, "deliveries", 10)
    await produce(settings, [delivery(number) for number in range(10, 30)])
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka.bootstrap_servers)
    await admin.start()
    try:
        await admin.delete_records({TopicPartition(settings.topic(topics.DELIVERIES), 0): RecordsToDelete(before_offset=25)})
    finally:
        await admin.close()
    for _ in range(2):
        async with running(settings):
            await landed(settings, "deliveries", 15)
    assert await _offsets(settings) == [*range(10), *range(25, 30)]


@asynccontextmanager
async def _sinking(settings: Settings) -> AsyncIterator[None]:
    async with running(settings) as ready:
        await asyncio.wait_for(ready.wait(), 30)
        yield


@pytest.mark.parametrize("records", [3, 40], ids=["shorter", "longer"])
async def test_a_topic_made_anew_under_a_running_sink_is_read_from_its_beginning(settings: Settings, records: int) -> None:
    """Deleted and made again while the sink runs: all of the new topic's records land, whether it is shorter or longer."""
    topic = settings.topic(topics.DELIVERIES)
    with structlog.testing.capture_logs() as logs:
        async with _sinking(with_sink(settings, flush_seconds=0.1)):
            await produce(settings, [delivery(number) for number in range(20)])
            await landed(settings, "deliveries", 20)
            await make_anew(settings, topic)
            await produce(settings, [delivery(100 + number) for number in range(records)])
            await landed(settings, "deliveries", 20 + records)
    new = await rows(settings.clickhouse, "SELECT _offset FROM deliveries WHERE delivery_id >= 'delivery-000100' ORDER BY 1")
    assert [row["_offset"] for row in new] == list(range(records))
    assert any(entry["event"] == "sink.resumed" and entry["why"].startswith("topic_") for entry in logs)


async def test_constant_load_makes_no_topic_go_back(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ends are asked for all the while records come: no answer is taken for a topic that was made anew."""
    monkeypatch.setattr(offsets, "ENDS_EVERY_SECONDS", 0.0)
    count, topic = 2_000, settings.topic(topics.DELIVERIES)
    with structlog.testing.capture_logs() as logs:
        async with _sinking(settings), AIOKafkaProducer(bootstrap_servers=settings.kafka.bootstrap_servers) as producer:
            for number in range(count):
                await producer.send_and_wait(topic, encode(delivery(number)), partition=0)
            await landed(settings, "deliveries", count)
    assert await _offsets(settings) == list(range(count))
    assert not [entry for entry in logs if entry["event"] in {"sink.topic_went_back", "sink.interval"}]


async def test_partitions_that_are_added_are_read_without_a_restart(settings: Settings) -> None:
    """Their records land within seconds, from the first one on."""
    topic = settings.topic(topics.DELIVERIES)
    async with _sinking(settings):
        await produce(settings, [delivery(number) for number in range(5)])
        await landed(settings, "deliveries", 5)
        async with administering(settings.kafka) as admin:
            await admin.create_partitions({topic: NewPartitions(3)})
        await produce(settings, [delivery(100 + number) for number in range(7)], partition=2)
        await landed(settings, "deliveries", 12)
    found = await rows(settings.clickhouse, "SELECT _offset FROM deliveries WHERE _partition = 2 ORDER BY _offset", final=False)
    assert [row["_offset"] for row in found] == list(range(7))
