"""Three nodes of Apache Kafka: what is acknowledged outlives any one of them."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from kybstream.settings import KafkaSettings
from tests.support.cluster import KafkaCluster
from tests.support.topics import whole_topic

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]


async def test_a_record_outlives_the_node_that_took_it(breakable_cluster: KafkaCluster, topic_prefix: str) -> None:
    """The leader is killed: another leads, the record is there, and with two nodes gone nothing is acknowledged."""
    topic = f"{topic_prefix}outlives"
    admin = AIOKafkaAdminClient(bootstrap_servers=breakable_cluster.bootstrap_servers)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 1, 3, topic_configs={"min.insync.replicas": "2"})])
    await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=breakable_cluster.bootstrap_servers, acks="all", request_timeout_ms=5_000)
    async with producer:
        await producer.send_and_wait(topic, b"kept")
        leader = await breakable_cluster.led_by(topic)
        await breakable_cluster.nodes[leader].kill()
        successor = await breakable_cluster.led_by(topic, other_than=leader)
        await producer.send_and_wait(topic, b"taken by its successor")
        await breakable_cluster.nodes[successor].kill()
        with pytest.raises((KafkaError, TimeoutError)):
            async with asyncio.timeout(8):
                await producer.send_and_wait(topic, b"taken by nobody")
        await breakable_cluster.mend()
    kafka = KafkaSettings(bootstrap_servers=breakable_cluster.bootstrap_servers)
    values = [record.value for record in await whole_topic(kafka, topic, 1)]
    assert values[:2] == [b"kept", b"taken by its successor"]
