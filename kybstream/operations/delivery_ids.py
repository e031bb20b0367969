"""The delivery ids of a whole topic, at the speed of its bytes: without an object for each record, in bounded memory.

aiokafka makes an object of each record, with key, value and headers: some 4 µs. Here the fetched batches are walked as Kafka
wrote them (message format 2, the only one since Kafka 3), and of each record only the first field of its value is read:
deliveries and what became of them begin with `delivery_id`. Batches that are compressed, and records of another form, take the
slow way: decoded whole.

The ids are handed on as they come (`id_buckets` collects them), and `batch_reader` walks the batches.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError, for_code
from aiokafka.protocol.fetch import FetchRequest

from kybstream.kafka import partitions_of, reading, unreachable
from kybstream.operations.batch_reader import BatchReader
from kybstream.settings import KafkaSettings
from schemas.records import Delivery, WebhookDelivery

_FETCH_BYTES = 4 * 1024 * 1024
_PARTITION_BYTES = 1024 * 1024
_FETCH_WAIT_MS = 500
_AT_ONCE = 2
"""Fetches under way: the broker reads for one while the answer to the other is walked."""
_RETRY_SECONDS = 0.2
_GIVE_UP_SECONDS = 30.0
Kind = TypeVar("Kind", WebhookDelivery, Delivery)


@dataclass
class TopicScan:
    """What a scan of a topic found beside the ids.

    Attributes:
        records: How many records there were.
        undecodable: How many of them are none of the kind.
        cut_ms: When the first records of the partitions that retention has cut were written, the newest of them; None where it
            has cut none. In milliseconds since the epoch.
        oldest_ms: The oldest receipt; None for an empty topic.
        ends: Where each partition ended when the scan began.
    """

    records: int = 0
    undecodable: int = 0
    cut_ms: int | None = None
    oldest_ms: int | None = None
    ends: dict[int, int] = field(default_factory=dict)

    @property
    def complete_since_ms(self) -> int | None:
        """What was received from then on still lies in the topic, in milliseconds since the epoch. None for an empty topic."""
        return self.oldest_ms if self.cut_ms is None else self.cut_ms

    def and_of(self, other: TopicScan) -> TopicScan:
        """Both, of different partitions, as one."""
        return TopicScan(
            self.records + other.records,
            self.undecodable + other.undecodable,
            max((each.cut_ms for each in (self, other) if each.cut_ms is not None), default=None),
            min((each.oldest_ms for each in (self, other) if each.oldest_ms is not None), default=None),
            self.ends | other.ends,
        )


async def scan_ids(
    kafka: KafkaSettings,
    topic: str,
    kind: type[Kind],
    found: Callable[[list[bytes]], None],
    *,
    begin: dict[int, int] | None = None,
    only: Collection[int] | None = None,
) -> TopicScan:
    """Reads a topic to where it ended when the scan began, and hands on the delivery ids.

    A record that begins as its schema says counts as one of the kind: whether all of it can be decoded, the worker knows.

    Args:
        kafka: Where.
        topic: Its full name.
        kind: What lies there.
        found: Is given the ids of some records at a time.
        begin: Offsets to begin with by partition; the oldest records unless given.
        only: Partitions to read; all unless given.

    Raises:
        UnavailableError: Kafka cannot be reached.
        RunError: There is no such topic.
    """
    partitions = [each for each in await partitions_of(kafka, topic) if only is None or each in only]
    places = [TopicPartition(topic, partition) for partition in partitions]
    async with reading(kafka) as consumer:
        try:
            consumer.assign(places)
            consumer.pause(*places)  # only its connections are used
            oldest = {place.partition: offset for place, offset in (await consumer.beginning_offsets(places)).items()}
            ends = {place.partition: offset for place, offset in (await consumer.end_offsets(places)).items()}
            reader = BatchReader(kind, found)
            positions = {each: max(oldest[each], (begin or oldest).get(each, 0)) for each in partitions}
            halves = [{each: positions[each] for each in partitions[start::_AT_ONCE]} for start in range(_AT_ONCE)]
            client = consumer._client  # noqa: SLF001 (aiokafka, pinned)

            async def cut(partition: int) -> int:
                place = TopicPartition(topic, partition)
                oldest[partition] = begins = int((await consumer.beginning_offsets([place]))[place])
                reader.forget_first(partition)
                return begins

            await asyncio.gather(*(_fetch_all(client, topic, half, ends, read=reader.read, cut=cut) for half in halves))
        except (KafkaError, OSError) as error:
            raise unreachable(kafka, error) from None
    return TopicScan(
        reader.records,
        reader.undecodable,
        max((written for partition, (written, _) in reader.first_ms.items() if oldest[partition] > 0), default=None),
        min((received for _, received in reader.first_ms.values()), default=None),
        ends,
    )


async def _fetch_all(
    client: Any,
    topic: str,
    positions: dict[int, int],
    ends: dict[int, int],
    *,
    read: Callable[[int, bytes, int, int], int],
    cut: Callable[[int], Awaitable[int]],
) -> None:
    """Fetches from all leaders at once, each as soon as its answer was read, until every partition is at its end.

    Where retention has removed what is next, `cut` says where the partition begins by now.
    """
    failing_since: float | None = None
    while unfinished := [partition for partition, position in positions.items() if position < ends[partition]]:
        nodes: defaultdict[int, list[int]] = defaultdict(list)
        for partition in unfinished:
            leader = client.cluster.leader_for_partition(TopicPartition(topic, partition))
            if leader is None or leader < 0:  # for the moment; the others go on
                await client.force_metadata_update()
            else:
                nodes[leader].append(partition)
        moved = False
        answers = await asyncio.gather(*(_fetch(client, node, topic, which, positions) for node, which in nodes.items()))
        for partition, error, data in [each for answer in answers for each in answer]:
            if error == OffsetOutOfRangeError.errno and (oldest := await cut(partition)) > positions[partition]:
                positions[partition] = oldest
                moved = True
                continue
            if error:
                if not for_code(error).retriable:
                    raise for_code(error)
                await client.force_metadata_update()
                continue
            behind = read(partition, data, positions[partition], ends[partition])
            moved |= behind > positions[partition]
            positions[partition] = behind
        if moved:
            failing_since = None
            continue
        now = asyncio.get_running_loop().time()
        failing_since = failing_since or now
        if now - failing_since > _GIVE_UP_SECONDS:
            raise TimeoutError
        await asyncio.sleep(_RETRY_SECONDS)


async def _fetch(
    client: Any, node: int, topic: str, which: list[int], positions: dict[int, int]
) -> list[tuple[int, int, bytes]]:
    """Partition, error code and bytes, for each partition of one broker."""
    wanted = [(partition, positions[partition], _PARTITION_BYTES) for partition in which]
    answer = await client.send(node, FetchRequest(_FETCH_WAIT_MS, 1, _FETCH_BYTES, 0, [(topic, wanted)]))
    return [(each[0], each[1], bytes(each[-1] or b"")) for _, found in answer.topics for each in found]
