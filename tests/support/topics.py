"""A topic as it stands, read by plain aiokafka."""

from __future__ import annotations

from aiokafka import ConsumerRecord, TopicPartition

from kybstream.kafka import reading
from kybstream.settings import KafkaSettings


async def whole_topic(kafka: KafkaSettings, topic: str, partitions: int) -> list[ConsumerRecord]:
    """Every record that is in the topic now, in the order of offsets within a partition."""
    async with reading(kafka) as consumer:
        places = [TopicPartition(topic, number) for number in range(partitions)]
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)
        ends = await consumer.end_offsets(places)
        found: list[ConsumerRecord] = []
        while any([await consumer.position(each) < ends[each] for each in places]):
            for batch in (await consumer.getmany(timeout_ms=200)).values():
                found += batch
        return found
