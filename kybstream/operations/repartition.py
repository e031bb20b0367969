"""Growing the number of partitions: of the topics, and of the state, whose keys then belong to other partitions.

The order makes it safe to be killed at any moment and run again:

1. The changelogs get their partitions, so that no worker with the old number starts any more.
2. Each entry of a state that belongs to another partition now is written there; when Kafka has acknowledged all of them, they
   are deleted where they were. Local stores of workers follow by reading the changelogs on.
3. The other topics get their partitions. Until the last one has them, no worker with the new number starts.

Records stay where they are: those that were not processed yet the worker forwards (`streams.forwarding`).
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import aclosing, closing
from itertools import islice
from pathlib import Path

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from kybstream.errors import RunError
from kybstream.kafka import administering, durable_producer, unreachable
from kybstream.operations.topic_admin import add_partitions, found_topics, members_of
from kybstream.operations.topic_reader import read_topic
from kybstream.partitions import PartitionCountError, partition_of
from kybstream.settings import KafkaSettings, Settings
from streams.aside import owner_of
from streams.batching.state import PartitionedState, open_state
from streams.worker import changelog_topics, every_topic

_AT_ONCE = 500
"""Records under way to Kafka, and writes to the temporary store at a time."""
_ACK_SECONDS = 60.0

Tell = Callable[[str], None]


async def repartition(settings: Settings, *, tell: Tell = lambda _: None) -> int:
    """Brings all topics to `kafka.partitions`, and each key's state to the partition that it belongs to.

    Args:
        settings: Of the workers, with the new number of partitions.
        tell: Told a line about each change.

    Returns:
        How many things were changed; 0 when all was in its place.

    Raises:
        UnavailableError: Kafka cannot be reached or does not acknowledge. Run it again.
        PartitionCountError: A topic has more partitions than `kafka.partitions`.
        RunError: Workers are running, a topic is missing, or Kafka refuses.
    """
    wanted = settings.kafka.partitions
    changes = 0
    async with administering(settings.kafka) as admin:
        counts = await _counts(settings, admin)
        await _require_no_worker(settings, admin)
        changelogs = changelog_topics(settings)
        changes += await _grow(admin, {topic: counts[topic] for topic in changelogs}, wanted, tell)
        for topic in changelogs:
            moved = await _move_state(settings.kafka, topic)
            if moved:
                tell(f"topic {topic}: {moved} keys moved to their partitions")
            changes += moved
        changes += await _grow(admin, {each: counts[each] for each in counts if each not in changelogs}, wanted, tell)
    return changes


async def _counts(settings: Settings, admin: AIOKafkaAdminClient) -> dict[str, int]:
    topics = every_topic(settings)
    found = await found_topics(admin, topics, {"min.insync.replicas"})
    missing = sorted(topics.keys() - found.keys())
    if missing:
        raise RunError(f"topic {missing[0]} does not exist", hint="`kyb-stream migrate` makes the topics.")
    most = max(found, key=lambda topic: found[topic].partitions)
    if found[most].partitions > settings.kafka.partitions:
        raise PartitionCountError(
            f"topic {most} has {found[most].partitions} partitions, kafka.partitions is {settings.kafka.partitions}",
            hint=f"Kafka cannot take partitions away: set kafka.partitions to {found[most].partitions} or more.",
        )
    return {topic: there.partitions for topic, there in found.items()}


async def _require_no_worker(settings: Settings, admin: AIOKafkaAdminClient) -> None:
    members = await members_of(admin, settings.worker.group)
    if members:
        raise RunError(
            f"the consumer group {settings.worker.group} has {members} members",
            hint="Stop all workers first. One with worker.instance counts for another 10 s after its end.",
        )


async def _grow(admin: AIOKafkaAdminClient, counts: Mapping[str, int], wanted: int, tell: Tell) -> int:
    fewer = {topic: found for topic, found in counts.items() if found < wanted}
    for topic, found in fewer.items():
        await add_partitions(admin, topic, wanted)
        tell(f"topic {topic}: {found} -> {wanted} partitions")
    return len(fewer)


async def _move_state(kafka: KafkaSettings, changelog: str) -> int:
    """Moves what is misplaced of one table; returns how many keys."""
    with (
        tempfile.TemporaryDirectory(prefix="kyb-stream-repartition-") as folder,
        closing(open_state("rocksdb://", Path(folder))) as state,
    ):
        await _read_state(kafka, changelog, state)
        producer = durable_producer(kafka)
        try:
            await producer.start()
            await _copy(producer, changelog, state, kafka.partitions)
            return await _delete(producer, changelog, state, kafka.partitions)
        except (KafkaError, OSError, TimeoutError) as error:
            raise unreachable(kafka, error) from None
        finally:
            await producer.stop()


async def _read_state(kafka: KafkaSettings, changelog: str, state: PartitionedState) -> None:
    """Reads all live entries by partition; onto the disk, since a state can be larger than memory."""
    held: dict[int, list[tuple[bytes, bytes | None]]] = {}
    async with aclosing(read_topic(kafka, changelog)) as records:
        async for record in records:
            if record.key is None:
                continue
            writes = held.setdefault(record.partition, [])
            writes.append((record.key, record.value))
            if len(writes) >= _AT_ONCE:
                state.write(record.partition, held.pop(record.partition), record.offset)
    for partition, writes in held.items():
        state.write(partition, writes, 0)


def _misplaced(state: PartitionedState, partitions: int) -> Iterator[tuple[int, int, bytes, bytes]]:
    """Where each misplaced entry is, where it belongs, its key and value."""
    for partition in range(partitions):
        for key, value in state.scan(partition):
            target = partition_of(owner_of(key), partitions)
            if target != partition:
                yield partition, target, key, value


async def _copy(producer: AIOKafkaProducer, topic: str, state: PartitionedState, partitions: int) -> None:
    """Writes misplaced entries to where they belong, unless they are there: by a run that was killed before it deleted them."""
    missing = (
        (target, key, value) for _, target, key, value in _misplaced(state, partitions) if not state.get_many(target, [key])
    )
    await _send(producer, topic, missing)


async def _delete(producer: AIOKafkaProducer, topic: str, state: PartitionedState, partitions: int) -> int:
    return await _send(producer, topic, ((source, key, None) for source, _, key, _ in _misplaced(state, partitions)))


async def _send(producer: AIOKafkaProducer, topic: str, rows: Iterator[tuple[int, bytes, bytes | None]]) -> int:
    """Returns how many, when Kafka has acknowledged all."""
    sent = 0
    while some := list(islice(rows, _AT_ONCE)):
        async with asyncio.timeout(_ACK_SECONDS):
            acknowledged = [await producer.send(topic, value, key=key, partition=place) for place, key, value in some]
            await asyncio.gather(*acknowledged)
        sent += len(some)
    return sent
