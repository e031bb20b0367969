"""What a consumer asks of Kafka, by the thread in which its client runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from streams.batching.consumer_thread import ConsumerThread, DaemonThread
from streams.batching.starting import patiently


class AskingConsumer(driver.Consumer):  # type: ignore[misc] # Faust publishes no types
    """Faust's consumer with questions of ours."""

    def missing_topics(self) -> frozenset[str]:
        """Return the source topics that do not exist, as far as Kafka's client knows."""
        cluster = self._thread._ensure_consumer()._client.cluster  # noqa: SLF001 - what decides which partitions are assigned
        return frozenset(topic for topic in self.app.source_topics if not cluster.partitions_for_topic(topic))

    async def committed_notes(self, partitions: Collection[TP]) -> dict[TP, str]:
        """Return what is committed beside the offsets of partitions."""
        notes: dict[TP, str] = await self._thread.committed_notes(partitions)
        return notes

    async def topic_ids(self, partitions: Collection[TP]) -> dict[TP, str]:
        """Return the topic ids of partitions, as far as their leaders tell them now."""
        ids: dict[TP, str] = await self._thread.topic_ids(partitions)
        return ids

    async def earliest_offsets(self, *partitions: TP) -> Mapping[TP, int]:
        """Return where partitions begin; waits for a broker."""
        return await patiently(super().earliest_offsets, partitions, self._given_up)

    async def highwaters(self, *partitions: TP) -> Mapping[TP, int]:
        """Return where partitions end; waits for a broker."""
        return await patiently(super().highwaters, partitions, self._given_up)

    def _given_up(self) -> bool:
        return bool(self.should_stop or self.app.should_stop)

    def close_unused_loop(self) -> None:
        """Close the event loop of a consumer thread that was made and never started."""
        loop = self._thread.thread_loop
        if not self._thread._thread_started.is_set() and not loop.is_closed():  # noqa: SLF001 - mode's only sign of it
            loop.close()

    def _new_consumer_thread(self) -> Any:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon, Worker=DaemonThread)
