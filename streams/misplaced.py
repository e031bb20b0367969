"""State that lies in another partition than its keys belong to: partitions were added to the changelogs alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from kybstream.errors import RunError
from kybstream.kafka import reading, unreachable
from kybstream.partitions import GROW, partition_of
from kybstream.settings import KafkaSettings
from streams.aside import owner_of

LOOKED_AT = 100
"""Records at the end of each partition that are looked at: when partitions were added, about every second key is misplaced."""

_POLL_MS = 500


class MisplacedStateError(RunError):
    """Partitions were added, but the state of the keys was not moved. Nothing was processed."""


async def require_state_in_place(kafka: KafkaSettings, changelogs: Iterable[str]) -> None:
    """Looks at the end of each changelog: what is newest there is the state of its key.

    Where keys were moved, the end of the partition that they left has their deletions.

    Raises:
        UnavailableError: Kafka cannot be reached.
        MisplacedStateError: The state of a key lies where it does not belong.
    """
    places = [TopicPartition(name, number) for name in changelogs for number in range(kafka.partitions)]
    async with reading(kafka, auto_offset_reset="earliest") as consumer:
        try:
            consumer.assign(places)
            begins, ends = await consumer.beginning_offsets(places), await consumer.end_offsets(places)
            newest: dict[tuple[TopicPartition, bytes], bool] = {}
            for place in places:
                consumer.seek(place, max(begins[place], ends[place] - LOOKED_AT))
            while any([await consumer.position(place) < ends[place] for place in places]):
                for place, records in (await consumer.getmany(timeout_ms=_POLL_MS)).items():
                    newest |= {(place, record.key): record.value is not None for record in records if record.key is not None}
        except KafkaError as error:
            raise unreachable(kafka, error) from None
    _require_in_place(newest, kafka.partitions)


def _require_in_place(newest: Mapping[tuple[TopicPartition, bytes], bool], partitions: int) -> None:
    for (place, key), exists in newest.items():
        if exists and partition_of(owner_of(key), partitions) != place.partition:
            raise MisplacedStateError(
                f"topic {place.topic} partition {place.partition} has the state of keys that belong to other partitions",
                hint=f"Partitions were added without it: stop all workers, and run `kyb-stream repartition` ({GROW}).",
            )
