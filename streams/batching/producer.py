"""Faust's producer, sending record batches: acknowledged by all in-sync replicas, idempotent, in order per partition."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from aiokafka.errors import KafkaTimeoutError, MessageSizeTooLargeError, UnknownTopicOrPartitionError
from faust.transport.drivers import aiokafka as driver

from kybstream.errors import UnavailableError
from streams.batching.errors import RecordTooLargeError, TopicMismatchError
from streams.batching.partitioner import Row, group_by_partition
from streams.batching.records import Output

log = structlog.get_logger(__name__)

TOPIC_LOOKUP_SECONDS = 10.0
"""How long a topic may take to appear in the cluster's metadata, at the start and at the first output to it."""


class BatchProducer(driver.Producer):  # type: ignore[misc] # Faust publishes no types
    """The one producer of a worker."""

    async def send_rows(self, topic: str, partition: int, rows: Sequence[Row]) -> list[tuple[int, int]]:
        """Write rows to one partition, in order, as few record batches as their size allows.

        A row larger than the batch size travels in a batch of its own. While the broker is away this waits.

        Returns:
            Base offset and number of records of each batch, once all in-sync replicas have them.

        Raises:
            RecordTooLargeError: when the broker refuses a batch for its size.
        """
        producer = self._ensure_producer()
        sent: list[tuple[int, Any]] = []
        builder = None
        for key, value, timestamp_ms, given in rows:
            headers = given if isinstance(given, list) else list(given)  # aiokafka takes nothing else
            # A builder takes its first record whatever its size, so a new one never refuses.
            if builder is None or builder.append(timestamp=timestamp_ms, key=key, value=value, headers=headers) is None:
                if builder is not None:
                    sent.append(await self._submit(producer, builder, topic, partition))
                builder = producer.create_batch()
                builder.append(timestamp=timestamp_ms, key=key, value=value, headers=headers)
        if builder is not None:
            sent.append(await self._submit(producer, builder, topic, partition))
        try:
            return [((await acknowledged).offset, count) for count, acknowledged in sent]
        except MessageSizeTooLargeError as error:
            raise RecordTooLargeError(
                f"topic {topic} partition {partition} refuses a batch of {len(rows)} records for its size",
                hint="raise the topic's max.message.bytes above the worker's batch size, or send such records elsewhere",
            ) from error

    async def send_outputs(self, outputs: Sequence[Output], keyless: int = 0) -> None:
        """Write outputs to the partitions their keys belong to; returns when all in-sync replicas have all of them.

        Order is kept within a partition, not between partitions.
        """
        partitions = {topic: await self.partition_count(topic) for topic in {out.topic for out in outputs}}
        grouped = group_by_partition(outputs, partitions, keyless)
        await asyncio.gather(*(self.send_rows(topic, number, rows) for (topic, number), rows in grouped.items()))

    async def partition_count(self, topic: str) -> int:
        """Return how many partitions a topic has.

        Raises:
            TopicMismatchError: if the topic does not exist.
            UnavailableError: if no broker tells.
        """
        producer = self._ensure_producer()
        try:
            return len(await asyncio.wait_for(producer.partitions_for(topic), TOPIC_LOOKUP_SECONDS))
        except (TimeoutError, UnknownTopicOrPartitionError) as error:
            if not await self._broker_answers():
                raise UnavailableError(f"no broker tells the partitions of topic {topic}", hint="is Kafka up?") from error
            raise TopicMismatchError(f"topic {topic} does not exist", hint="run: kyb-stream migrate") from error

    async def _broker_answers(self) -> bool:
        try:
            return bool(await asyncio.wait_for(self._ensure_producer().client.force_metadata_update(), TOPIC_LOOKUP_SECONDS))
        except TimeoutError:
            return False

    async def on_start(self) -> None:
        """Connect, create changelogs that are missing, and refuse topics whose partitions do not match the tables.

        All this before the consumer joins its group: a changelog that the group's leader does not know of yet is left out of
        the assignment, and a static member would get the same assignment again after a kill.
        """
        await super().on_start()
        for table in self.app.tables.values():
            await table.changelog_topic.maybe_declare()
        for topic, expected in self.app.expected_partitions().items():
            found = await self.partition_count(topic)
            if found != expected:
                raise TopicMismatchError(
                    f"topic {topic} has {found} partitions, but the state has {expected}",
                    hint="all topics of an agent need the same number of partitions: run kyb-stream migrate",
                )

    def _settings_extra(self) -> Mapping[str, Any]:
        return {"acks": "all", "enable_idempotence": True}

    async def _submit(self, producer: Any, builder: Any, topic: str, partition: int) -> tuple[int, Any]:
        """Hand a batch over for sending; returns its number of records and the future of its acknowledgement."""
        builder.close()
        count: int = builder.record_count()
        while True:
            try:
                return count, await producer.send_batch(builder, topic, partition=partition)
            except KafkaTimeoutError:
                # The batch before it is still waiting for the broker; this one was not taken, so asking again is safe.
                log.warning("waiting_for_broker", topic=topic, partition=partition, outage="kafka")
