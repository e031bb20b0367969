"""Dead letters reach their topic whatever Kafka does meanwhile, on a real Apache Kafka."""

from __future__ import annotations

import pytest
import structlog

from deploy.embedded.apache_kafka import KafkaNode
from kybstream import kafka as kafka_module
from kybstream.kafka import ensure_topics
from kybstream.settings import Settings
from schemas import topics
from schemas.codec import decode
from schemas.records import DeadLetter
from tests.sinks.making import delivery, rows, settings_for
from tests.sinks.running import DEADLINE, landed, made, produce, running, with_sink
from tests.support.cluster import KAFKA_SETTINGS, KafkaCluster
from tests.support.topics import whole_topic
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka


async def _dead_letters(settings: Settings) -> list[DeadLetter]:
    found = await whole_topic(settings.kafka, settings.topic(topics.DEAD_LETTERS), settings.kafka.partitions)
    return [decode(record.value, DeadLetter) for record in found]


@pytest.mark.timeout(240)
async def test_dead_letters_go_on_when_their_topic_had_no_leader(
    breakable_cluster: KafkaCluster,
    topic_prefix: str,
    clickhouse_server: str,
    database_name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The only replica is away until the producer gives up a record: then all dead letters come, and what is behind them."""
    monkeypatch.setattr(kafka_module, "REQUEST_TIMEOUT_MS", 1_000)
    settings = settings_for(
        clickhouse_server, database_name, bootstrap=breakable_cluster.bootstrap_servers, prefix=topic_prefix
    )
    settings = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={**KAFKA_SETTINGS, "partitions": 1})})
    topic = settings.topic(topics.DEAD_LETTERS)
    alone = settings.kafka.model_copy(update={"replication_factor": 1, "min_insync_replicas": 1})
    await ensure_topics(alone, {topic: {}})
    await made(settings)
    with structlog.testing.capture_logs() as logs:
        async with running(with_sink(settings, flush_rows=1)):
            await produce(settings, [delivery(0), b"poison 0"], topics.DELIVERIES)
            await landed(settings, "dead_letters", 1)
            node = breakable_cluster.nodes[await breakable_cluster.led_by(topic)]
            await node.kill()
            await produce(settings, [b"poison 1", delivery(1), b"poison 2"], topics.DELIVERIES)

            def given_up() -> list[object]:
                return [entry for entry in logs if entry["event"] == "kafka_producer_replaced"]

            await wait_until(given_up, 2 * DEADLINE, "the producer is replaced")
            await node.start()
            await produce(settings, [b"poison 3", delivery(2)], topics.DELIVERIES)
            await landed(settings, "deliveries", 3)
            await landed(settings, "dead_letters", 4)
    letters = await _dead_letters(settings)
    assert {letter.origin_value for letter in letters} == {b"poison %d" % number for number in range(4)}
    assert len({letter.dead_letter_id for letter in letters}) == 4
    (row,) = await rows(settings.clickhouse, "SELECT count() AS n, uniqExact(dead_letter_id) AS ids FROM dead_letters")
    assert row == {"n": 4, "ids": 4}


async def test_a_record_too_large_for_a_dead_letter_is_told_with_its_place(
    apache_kafka: KafkaNode, topic_prefix: str, clickhouse_server: str, database_name: str
) -> None:
    """The dead letter comes without the record, which stays in its topic; what is behind it lands."""
    settings = settings_for(clickhouse_server, database_name, bootstrap=apache_kafka.bootstrap_servers, prefix=topic_prefix)
    await ensure_topics(settings.kafka, {settings.topic(topics.DEAD_LETTERS): {"max.message.bytes": "2000"}})
    await made(settings)
    await produce(settings, [delivery(0), b"?" * 3_000, delivery(1), b"?" * 100], topics.DELIVERIES)
    async with running(settings):
        await landed(settings, "deliveries", 2)
        await landed(settings, "dead_letters", 2)
    small, large = sorted(await _dead_letters(settings), key=lambda letter: letter.body_size)
    assert small.origin_value == b"?" * 100
    assert (large.origin_value, large.origin_headers, large.body_size) == (None, {}, 3_000)
    assert "too large for a dead letter, and is only at partition 0 offset 1" in (large.detail or "")
