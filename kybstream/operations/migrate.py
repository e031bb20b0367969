"""Topics and ClickHouse schema: made where they are missing, and brought to what the settings say."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from kybstream.kafka import administering, create_topic
from kybstream.operations.topic_admin import alter_config, committed_offsets, found_topics
from kybstream.operations.topic_changes import Difference, differences
from kybstream.partitions import PartitionCountError, check_partitions
from kybstream.settings import Settings
from sinks.migrate import migrate as migrate_clickhouse
from sinks.migrate import pending as pending_in_clickhouse
from streams.worker import changelog_topics, every_topic

Tell = Callable[[str], None]

_LOST_STATE = (
    ", empty, although workers of this group have processed records: what they knew is lost, unless the topic is restored from "
    "a backup before a worker starts"
)


@dataclass(frozen=True)
class Migrated:
    """What a migration changed and what it left, a line each. Both empty when all was as the settings say."""

    changed: list[str]
    left: list[str]


async def migrate(settings: Settings, *, lower_retention: bool = False, tell: Tell = lambda _: None) -> Migrated:
    """Makes what is missing and changes what differs; safe to run again, and while the pipeline runs.

    Args:
        settings: What is wanted.
        lower_retention: Whether a topic may forget records earlier than it does now.
        tell: Told each line as soon as it is true.

    Raises:
        UnavailableError: Kafka or ClickHouse cannot be reached.
        PartitionCountError: A topic has another number of partitions than the settings; nothing was changed then.
        RunError: Kafka or ClickHouse refuses something.
    """
    told = _Lines(tell)
    found = await _differences(settings, lower_retention=lower_retention, tell=tell)
    async with administering(settings.kafka) as admin:
        changelogs = changelog_topics(settings)
        of_missing = {each.topic for each in found if each.missing}
        has_worked = bool(of_missing & changelogs.keys()) and any(
            (await committed_offsets(admin, settings.worker.group)).values()
        )
        state_lost = _LOST_STATE if has_worked else ""
        changes: dict[str, list[Difference]] = defaultdict(list)
        for each in found:
            if each.missing:
                if await create_topic(admin, settings.kafka, each.topic, every_topic(settings)[each.topic]):
                    told.change(each.changed() + (state_lost if each.topic in changelogs else ""))
            elif each.left is None:
                changes[each.topic].append(each)
            else:
                told.leave(each.described())
        for topic, some in changes.items():
            await alter_config(admin, topic, {each.key: each.wanted for each in some})
            for each in some:
                told.change(each.changed())
    for step in await migrate_clickhouse(settings.clickhouse):
        told.change(f"ClickHouse {step}: applied")
    return Migrated(told.changed, told.left)


async def check(settings: Settings, *, tell: Tell = lambda _: None) -> list[str]:
    """Tells what `migrate` would change or leave, and changes nothing.

    Raises:
        UnavailableError: Kafka or ClickHouse cannot be reached.
        PartitionCountError: A topic has another number of partitions than the settings.
        RunError: Kafka or ClickHouse refuses to tell.
    """
    told = _Lines(tell)
    for each in await _differences(settings, lower_retention=False, tell=tell):
        told.leave(each.described())
    for step in await pending_in_clickhouse(settings.clickhouse):
        told.leave(f"ClickHouse {step}: not applied")
    return told.left


async def _differences(settings: Settings, *, lower_retention: bool, tell: Tell) -> list[Difference]:
    wanted = every_topic(settings)
    async with administering(settings.kafka) as admin:
        found = await found_topics(admin, wanted, {key for config in wanted.values() for key in config})
    wrong: PartitionCountError | None = None
    for topic, there in sorted(found.items()):
        try:
            check_partitions(topic, found=there.partitions, configured=settings.kafka.partitions)
        except PartitionCountError as error:
            tell(error.message)
            wrong = wrong or error
    if wrong is not None:
        raise wrong
    replicas = settings.kafka.replication_factor
    return list(differences(wanted, found, replicas=replicas, lower_retention=lower_retention))


class _Lines:
    """Lines as they are told and kept."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self.changed: list[str] = []
        self.left: list[str] = []

    def change(self, line: str) -> None:
        self._tell(line)
        self.changed.append(line)

    def leave(self, line: str) -> None:
        self._tell(line)
        self.left.append(line)
