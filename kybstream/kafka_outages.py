"""Outages of Kafka, told in a few lines by whoever works with it: see `kybstream.outages`."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractAsyncContextManager

from kybstream.kafka import administering
from kybstream.outages import telling_outages
from kybstream.settings import KafkaSettings


def telling_kafka_outages(kafka: KafkaSettings, topics: Collection[str]) -> AbstractAsyncContextManager[None]:
    """Tell outages of Kafka while the block runs: they end when each partition of the topics has a leader."""

    async def answers() -> bool:
        async with administering(kafka) as admin:
            described = await admin.describe_topics(list(topics))
        return all(part["leader"] >= 0 for topic in described for part in topic["partitions"])

    return telling_outages("kafka", answers, begins=("aiokafka",), belongs=("faust", "mode", "streams"))
