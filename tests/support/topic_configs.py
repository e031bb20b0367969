"""The configuration of topics as Kafka has it."""

from __future__ import annotations

from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from kybstream.kafka import administering
from kybstream.settings import KafkaSettings


async def topics_of(kafka: KafkaSettings, begins: str) -> list[str]:
    """The names of all topics that begin so."""
    async with administering(kafka) as admin:
        return sorted(name for name in await admin.list_topics() if name.startswith(begins))


async def topic_configs(kafka: KafkaSettings, *names: str) -> dict[str, dict[str, str]]:
    """All that is configured of these topics, by name; defaults included."""
    async with administering(kafka) as admin:
        answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in names])
    return {
        name: {entry[0]: entry[1] for entry in entries}
        for answer in answers
        for _code, _message, _type, name, entries in answer.resources
    }
