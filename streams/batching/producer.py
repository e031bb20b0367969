"""Faust's producer, sending record batches: acknowledged by all in-sync replicas, idempotent, in order per partition."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import (
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    RecordListTooLargeError,
    UnknownTopicOrPartitionError,
)
from faust.transport.drivers import aiokafka as driver

from kybstream.errors import UnavailableError
from kybstream.topic_limits import topic_limits
from streams.batching.errors import RecordTooLargeError, TopicMismatchError
from streams.batching.partitioner import Row, group_by_partition
from streams.batching.records import Output
from streams.batching.sizes import TopicSizes, estimated_bytes
from streams.batching.store import ADDED_HINT

log = structlog.get_logger(__name__)

TOPIC_LOOKUP_SECONDS = 10.0
"""How long a topic may take to appear in the cluster's metadata, at the start and at the first output to it."""


_TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)


class BatchProducer(driver.Producer):  # type: ignore[misc] # Faust publishes no types
    """The one producer of a worker."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._refused: set[TopicPartition] = set()
        super().__init__(*args, **kwargs)

    async def send_rows(self, topic: str, partition: int, rows: Sequence[Row]) -> list[tuple[int, int]]:
        """Write rows to one partition, in order, as few record batches as their size allows.

        A row larger than the batch size, or than the topic takes, travels in a batch of its own. While the broker is away this
        waits.

        Returns:
            Base offset and number of records of each batch, once all in-sync replicas have them.

        Raises:
            RecordTooLargeError: when the broker refuses a batch for its size. `sizes` knows the limit then.
        """
        producer = self._ensure_producer()
        usual = self.app.conf.producer_max_batch_size
        most = self.sizes.together(topic, usual)
        sent: list[tuple[Any, Any]] = []
        builder = None
        for key, value, timestamp_ms, given in rows:
            headers = given if isinstance(given, list) else list(given)  # aiokafka takes nothing else
            # The builder itself keeps to the usual size.
            full = most < usual and builder is not None and builder.size() + estimated_bytes(key, value, headers) > most
            # A builder takes its first record whatever its size, so a new one never refuses.
            if full or builder is None or builder.append(timestamp=timestamp_ms, key=key, value=value, headers=headers) is None:
                if builder is not None:
                    sent.append((builder, await self._submit(producer, builder, topic, partition)))
                builder = producer.create_batch()
                builder.append(timestamp=timestamp_ms, key=key, value=value, headers=headers)
        if builder is not None:
            sent.append((builder, await self._submit(producer, builder, topic, partition)))
        acknowledged: list[Any] = await asyncio.gather(*(future for _, future in sent), return_exceptions=True)
        await self._raise_refused(topic, partition, [builder for builder, _ in sent], acknowledged)
        return [(each.offset, builder.record_count()) for (builder, _), each in zip(sent, acknowledged, strict=True)]

    async def _raise_refused(self, topic: str, partition: int, builders: Sequence[Any], answers: Sequence[Any]) -> None:
        """Raise the first error. After a refusal for size, the numbers of what was not appended are given out again.

        aiokafka counts a batch when it sends it, and a broker takes no batch after a gap.
        """
        place = TopicPartition(topic, partition)
        refused = [builder for builder, answer in zip(builders, answers, strict=True) if isinstance(answer, _TOO_LARGE)]
        if refused:
            self._refused.add(place)
        elif not any(isinstance(answer, BaseException) for answer in answers):
            self._refused.discard(place)
        for builder, answer in zip(builders, answers, strict=True):
            if place in self._refused and isinstance(answer, (*_TOO_LARGE, OutOfOrderSequenceNumber)):
                sequences = self._ensure_producer()._txn_manager._sequence_numbers  # noqa: SLF001 - see above
                sequences[place] -= builder.record_count()
        if refused:
            size, count = min((builder.size(), builder.record_count()) for builder in refused)
            if not await self.renew_sizes([topic]) and self.sizes.takes(topic, size, count):
                self.sizes.refused(topic, size, count)
            appended = sum(
                builder.record_count()
                for builder, answer in zip(builders, answers, strict=True)
                if not isinstance(answer, BaseException)
            )
            raise RecordTooLargeError(
                f"topic {topic} partition {partition} refuses a batch of {count} records and {size} bytes for its size",
                appended=appended,
            )
        for answer in answers:
            if isinstance(answer, OutOfOrderSequenceNumber) and place in self._refused:
                raise UnavailableError(f"topic {topic} partition {partition} refused the batch before this one for its size")
            if isinstance(answer, BaseException):
                raise answer

    @property
    def sizes(self) -> TopicSizes:
        """How large a record each topic takes."""
        sizes: TopicSizes = self.app.sizes
        return sizes

    async def renew_sizes(self, topics: Collection[str]) -> bool:
        """Ask Kafka how large a record these topics take; returns whether anything differs from what was known."""
        try:
            limits = await asyncio.wait_for(topic_limits(self._ensure_producer().client, topics), TOPIC_LOOKUP_SECONDS)
        except (KafkaError, TimeoutError) as error:
            log.warning("topic_limits_not_told", error=type(error).__name__, outage="kafka")
            return False
        return self.sizes.set(limits)

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
                    hint=ADDED_HINT if found > expected else "all topics of an agent need as many: run kyb-stream migrate",
                )
        await self.renew_sizes(self.app.batched_topics | self.app.output_topics)

    def _settings_extra(self) -> Mapping[str, Any]:
        return {"acks": "all", "enable_idempotence": True}

    async def _submit(self, producer: Any, builder: Any, topic: str, partition: int) -> Any:
        """Hand a batch over for sending; returns the future of its acknowledgement."""
        builder.close()
        while True:
            try:
                return await producer.send_batch(builder, topic, partition=partition)
            except KafkaTimeoutError:
                # The batch before it is still waiting for the broker; this one was not taken, so asking again is safe.
                log.warning("waiting_for_broker", topic=topic, partition=partition, outage="kafka")
