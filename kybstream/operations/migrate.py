"""Topics and ClickHouse schema, made where they are missing."""

from __future__ import annotations

from dataclasses import dataclass

from kybstream.kafka import ensure_topics
from kybstream.settings import Settings
from schemas.topics import ALL_TOPICS
from sinks.migrate import migrate as migrate_clickhouse
from streams.worker import changelog_topics


@dataclass(frozen=True)
class Migrated:
    """What a migration made: topics, and applied SQL files. Both empty when all was there."""

    topics: list[str]
    schema: list[str]


async def migrate(settings: Settings) -> Migrated:
    """Makes what is missing; safe to run again, and while the pipeline runs.

    Raises:
        UnavailableError: Kafka or ClickHouse cannot be reached.
        RunError: A topic has another number of partitions than the settings, or ClickHouse refused a statement.
    """
    topics = {settings.topic(topic.suffix): topic.config(settings.kafka) for topic in ALL_TOPICS}
    made = await ensure_topics(settings.kafka, topics | changelog_topics(settings))
    return Migrated(made, await migrate_clickhouse(settings.clickhouse))
